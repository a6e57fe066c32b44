"""A small seeded training run and its fingerprint. `python training.py` prints it: any process gets the same."""

import hashlib

import fusedrop as fd
import numpy as np


def build(seed=5):
    """Every source of randomness of a network: weights, masks inside and between layers, nested ones."""
    return fd.Sequential(
        fd.Flatten(),
        fd.Linear(12, 20, activation="relu", dropout=0.2, input_dropout=0.1),
        fd.Sequential(fd.Linear(20, 16, activation="gelu", dropout=0.4, dropout_before_activation=True), fd.Tanh()),
        fd.Dropout(0.3, scaling="classic"),
        fd.Linear(16, 4, init="xavier"),
        seed=seed,
    )


def train(net, steps=20):
    """Adam on fixed random data; returns the losses."""
    draw = np.random.default_rng(0)
    x, labels = draw.standard_normal((64, 3, 4)).astype(np.float32), draw.integers(0, 4, 64)
    optimiser = fd.Adam(net.parameters(), lr=0.01, l2=1e-3)
    losses = []
    for _ in range(steps):
        loss, dlogits = fd.softmax_cross_entropy(net.forward(x, True), labels)
        net.backward(dlogits, input_grad=False)
        optimiser.step()
        losses.append(loss)
    return losses


def fingerprint(net):
    """Of all parameters and gradients, bit for bit."""
    digest = hashlib.sha256()
    for p in net.parameters():
        digest.update(p.name.encode() + p.value.tobytes() + p.grad.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    strangers = [fd.Linear(2, 2), fd.Dropout(0.5)]  # move the process's own count of streams
    network = build()
    train(network)
    print(fingerprint(network))
