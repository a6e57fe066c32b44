"""A small seeded training run and its fingerprint. `python training.py` prints it: any process gets the same."""

import hashlib

import fusedrop as fd
import numpy as np


def build(seed=5):
    """Every source of randomness of a network: weights, masks inside and between layers, nested ones."""
    return fd.Sequential(
        fd.Flatten(),
        fd.Linear(12, 20, activation="relu", p=0.2, input_p=0.1),
        fd.Sequential(fd.Linear(20, 16, activation="gelu", p=0.4, dropout_first=True), fd.Tanh()),
        fd.Dropout(0.3, scaling="classic"),
        fd.Linear(16, 4, init="xavier"),
        seed=seed,
    )


def train(net, steps=20):
    """Adam on fixed random data; returns the losses."""
    generator = np.random.default_rng(0)
    x, labels = generator.standard_normal((64, 3, 4)).astype(np.float32), generator.integers(0, 4, 64)
    optimizer = fd.training.Adam(net.parameters(), lr=0.01, l2=1e-3)
    losses = []
    for _ in range(steps):
        loss, dlogits = fd.softmax_cross_entropy(net.forward(x, True), labels)
        net.backward(dlogits, input_grad=False)
        optimizer.step()
        losses.append(loss)
    return losses


def fingerprint(net):
    """A hash of all parameters and gradients, bit for bit."""
    digest = hashlib.sha256()
    for p in net.parameters():
        digest.update(p.name.encode() + p.value.tobytes() + p.grad.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    strangers = [fd.Linear(2, 2), fd.Dropout(0.5)]  # move the process's own count of streams
    network = build()
    train(network)
    print(fingerprint(network))
