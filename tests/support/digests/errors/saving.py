"""Wrong calls of save and load: paths, damaged files, networks and optimizers that do not fit."""

import functools
import os

import numpy as np

from digests import api, inputs
from digests.api import objects
from digests.cases.networks import build
from digests.errors.calls import As, each, spoiled

NET = [("Linear", (3, 4), {"activation": "relu", "p": 0.3}), ("Dropout", (), {"p": 0.2}), ("Linear", (4, 2), {})]
WIDER = [("Linear", (3, 5), {}), ("Dropout", (), {}), ("Linear", (5, 2), {"bias": False})]
SHORTER = [("Linear", (3, 4), {})]
UNMASKED = [("Linear", (3, 4), {}), ("ReLU", (), {}), ("Linear", (4, 2), {})]


def net(spec=NET, dtype="f32"):
    return build(spec, dtype, seed=3)


def optimizer(rule, of):
    return api.call(rule, objects.parameters(of), lr=0.1, **({"momentum": 0.9} if rule == "SGD" else {}))


def saved(folder, name, network, rule=None):
    """The path of a new file."""
    path = os.path.join(folder, f"{name}.npz")
    given = {}
    if rule is not None:
        given["optimizer"] = optimizer(rule, network)
        objects.step(given["optimizer"])
    api.call("save", network, path, **given)
    return path


def wrong_calls(folder):
    """All wrong calls; the folder holds their files."""
    for entry in ("save", "load"):
        paths = [None, 3, b"net.npz", "", "net\0.npz", As("folder", folder), As("device", os.devnull)]
        paths += [As("through_file", saved(folder, "file", net()) + "/net.npz")]
        good = functools.partial(dict, net=net(), path=os.path.join(folder, "good.npz"))
        yield from spoiled(entry, good, each("path", *paths) + each("net", "net") + each("optimizer", 1))
    nowhere = os.path.join(folder, "none", "net.npz")
    yield "save/path=no_folder", lambda: api.call("save", net(), nowhere)
    yield "load/path=missing", lambda: api.call("load", net(), os.path.join(folder, "missing.npz"))
    other = optimizer("SGD", net())
    yield "save/optimizer=of_another", lambda: api.call("save", net(), nowhere, optimizer=other)
    for label, call in (misfits(folder) | damages(folder)).items():
        yield f"load/{label}", call


def misfits(folder):
    """Files of other networks and optimizers."""
    load = functools.partial(api.call, "load")
    path = saved(folder, "plain", net())
    with_adam = saved(folder, "adam", net(), "Adam")
    calls = {
        "wider": lambda: load(net(WIDER), path),
        "shorter": lambda: load(net(SHORTER), path),
        "f64": lambda: load(net(dtype="f64"), path),
        "masks=1": lambda: load(net(), path, masks=1),
        "masks=other_layers": lambda: load(net(UNMASKED), path, masks=True),
        "optimizer=without": lambda: optimized(path, "Adam"),
        "optimizer=SGD": lambda: optimized(with_adam, "SGD"),
        "optimizer=of_another": lambda: load(net(), with_adam, optimizer=optimizer("Adam", net())),
        "optimizer=of_some": lambda: optimized(with_adam, "Adam", part=1),
        "read_only": lambda: load(read_only(), path),
    }
    if inputs.BFLOAT16 is not None:
        in_half = saved(folder, "bf16", net(dtype="bf16"))
        calls["bf16"] = lambda: load(net(), in_half)
    return calls


def optimized(path, rule, part=None):
    """Loads into a new network, and an optimizer of all its layers or of one."""
    network = net()
    of = network if part is None else objects.layer(network, 2)
    return api.call("load", network, path, optimizer=optimizer(rule, of))


def read_only():
    network = net()
    objects.live_values(network)[0].flags.writeable = False
    return network


def damages(folder):
    """Files that are no archive, or a damaged one."""
    whole = saved(folder, "whole", net())
    with open(whole, "rb") as file:
        data = file.read()
    flipped = bytearray(data)
    flipped[data.find(b"NUMPY") + 140] ^= 1
    contents = {
        "empty": b"",
        "text": b"no archive at all" * 100,
        "half": data[: len(data) // 2],
        "one_bit": bytes(flipped),
        "array": b"\x93NUMPY\x01\x00" + bytes(200),
    }
    calls = {}
    for label, content in contents.items():
        path = os.path.join(folder, f"{label}.npz")
        with open(path, "wb") as file:
            file.write(content)
        calls[label] = functools.partial(api.call, "load", net(), path)
    pickled = os.path.join(folder, "pickled.npz")
    np.savez(pickled, weight=np.array([{}], dtype=object))
    return calls | {"pickled": functools.partial(api.call, "load", net(), pickled)}
