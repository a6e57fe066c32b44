"""Networks and optimisers for the tests of saving, and what a saved file holds."""

import zipfile

import fusedrop as fd
import numpy as np
import pytest

DRAW = np.random.default_rng(0)
X, LABELS = DRAW.standard_normal((64, 3, 4)).astype(np.float32), DRAW.integers(0, 4, 64)
OPTIMISERS = {
    "Adam": lambda net: fd.Adam(net.parameters(), lr=0.01, betas=(0.8, 0.95), l1=1e-4, l2=1e-3),
    "SGD": lambda net: fd.SGD(net.parameters(), lr=0.1),
    "momentum": lambda net: fd.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, l2=1e-3),
}
optimisers = pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)


def train(net, optimiser, steps):
    losses = []
    for _ in range(steps):
        loss, gradient = fd.softmax_cross_entropy(net(X), LABELS)
        net.backward(gradient, input_grad=False)
        optimiser.step()
        optimiser.lr *= 0.97  # a schedule: the rate is state, too
        losses.append(loss)
    return losses


def contents(net):
    return {p.name: p.value.copy() for p in net.parameters()}


def places(net):
    return [leaf.mask_name.rng for leaf in net.leaves() if hasattr(leaf, "mask_name")]


def rewrite(path, change):
    """The same file with `change(members)` done to its {name: bytes}."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
