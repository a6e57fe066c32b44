"""save and load: the state of a network and an optimizer after loading, and how training goes on."""

import functools
import os
import tempfile

import numpy as np

from digests import api, inputs
from digests.api import objects
from digests.case import Case, label
from digests.cases.networks import NETWORKS, build, examples, train

RULES = {
    "SGD": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "l2": 0.001}),
    "Adam": ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "l1": 0.0001}),
}
# How a file is loaded: with or without the optimizer; with or without the keys of masks, by default if not given.
LOADS = [
    {"with_optimizer": True},
    {"with_optimizer": True, "masks": False},
    {"with_optimizer": False},
    {"with_optimizer": False, "masks": True},
]


def cases():
    """Every network in float32, one in the other dtypes, every optimizer, every way to load."""
    names = [name for name in NETWORKS if name != "images_last"]
    for i, name in enumerate(names):
        yield case("f32", name, ("SGD", "momentum", "Adam")[i % 3], LOADS[0])
    for rule in RULES:
        yield from (case("f32", "dense", rule, load) for load in LOADS[1:])
    for dtype in inputs.available_dtypes()[1:]:
        yield case(dtype, "nested", "Adam", LOADS[0])
    yield Case("f32/chain/from_numpy", prepare_numpy, every_isa=False)


def case(dtype, name, rule, load):
    """A network is trained and saved; another network loads the file and goes on."""
    key = f"{dtype}/{name}/{rule},{label(load)}"
    return Case(key, functools.partial(prepare, dtype, name, rule, **load), every_isa=False)


def prepare(dtype, name, rule, with_optimizer, masks=None):
    spec, shape = NETWORKS[name]
    x, labels = examples(shape, dtype)
    kind, options = RULES[rule]

    def run():
        first, second = build(spec, dtype, seed=3), build(spec, dtype, seed=4)
        ours, theirs = (api.call(kind, objects.parameters(net), **options) for net in (first, second))
        train(first, ours, x, labels, steps=3)
        train(second, theirs, x, labels, steps=1)
        given = {"optimizer": theirs} if with_optimizer else {}
        if masks is not None:
            given["masks"] = masks
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "net.npz")
            api.call("save", first, path, **({"optimizer": ours} if with_optimizer else {}))
            api.call("load", second, path, **given)
        loaded = [objects.values(second), objects.next_keys(second), objects.optimizer_state(theirs)]
        losses = train(second, theirs, x, labels, steps=2)
        return {"loaded": loaded, "goes_on": [losses, objects.values(second), objects.next_keys(second)]}

    return run


def prepare_numpy():
    """A file written by NumPy."""
    spec, _ = NETWORKS["chain"]

    def run():
        first, second = build(spec, seed=3), build(spec, seed=4)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "net.npz")
            np.savez(path, **objects.values_by_name(first))
            api.call("load", second, path)
        return {"loaded": [objects.values(second), objects.next_keys(second)]}

    return run
