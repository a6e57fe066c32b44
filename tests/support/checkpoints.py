"""Networks and optimizers for the tests of save and load, and the members of a saved file."""

import zipfile

import fusedrop as fd
import numpy as np
import pytest

GENERATOR = np.random.default_rng(0)
X, LABELS = GENERATOR.standard_normal((64, 3, 4)).astype(np.float32), GENERATOR.integers(0, 4, 64)
OPTIMIZERS = {
    "Adam": lambda net: fd.training.Adam(net.parameters(), lr=0.01, betas=(0.8, 0.95), l1=1e-4, l2=1e-3),
    "SGD": lambda net: fd.training.SGD(net.parameters(), lr=0.1),
    "momentum": lambda net: fd.training.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, l2=1e-3),
}
optimizers = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def train(net, optimizer, steps):
    losses = []
    for _ in range(steps):
        loss, gradient = fd.softmax_cross_entropy(net(X), LABELS)
        net.backward(gradient, input_grad=False)
        optimizer.step()
        optimizer.lr *= 0.97  # a schedule: the rate is state, too
        losses.append(loss)
    return losses


def contents(net):
    return {p.name: p.value.copy() for p in net.parameters()}


def places(net):
    return [leaf.mask_key.rng for leaf in net.leaves() if hasattr(leaf, "mask_key")]


def rewrite(path, change):
    """The same file with `change(members)` done to its {name: bytes}."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
