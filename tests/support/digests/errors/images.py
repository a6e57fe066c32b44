"""Wrong calls of conv2d and of the pools."""

import functools

from digests import api
from digests.errors.calls import each, spoiled
from digests.errors.functions import RNG, floats, placed, unwritable, zeros


def conv2d():
    """Arguments that conv2d accepts."""
    arrays = {"x": floats(2, 3, 5, 6), "w": floats(4, 3, 3, 2), "b": floats(4)}
    return arrays | {"activation": "relu", "p": 0.5, "rng": RNG, "input_p": 0.25}


def conv2d_backward():
    y, saved = api.call("conv2d_forward", **conv2d() | {"activation": "gelu"})
    return {"dy": y, "saved": saved}


CONV2D = [
    *each("x", zeros(2, 3, 5, 6, dtype="f2"), floats(3, 5, 6), None),
    *each(
        "w",
        floats(4, 3, 3, 2, dtype="f64"),
        floats(4, 2, 3, 2),
        floats(3, 3, 2),
        floats(4, 3, 0, 2),
        floats(4, 3, 6, 2),
    ),
    *each("b", floats(2), floats(4, dtype="f64"), 0.0),
    *each("stride", 0, (1, -1), (1, 2, 3), 1.5),
    *each("padding", -1, "same", 2**24, 2**31),
    *each("layout", "NWHC", None),
    *each("activation", "rely"),
    *each("rng", 7, None, placed(row0=7), placed(row0=15 * 2**29)),
    {"rng": placed(row0=2**32 - 10), "input_p": 0.0},
    {"rng": placed(repeat=2), "granularity": "channel"},
    {"rng": placed(row0=7), "input_p": 0.0, "granularity": "channel"},
    *each("dropout_first", 1),
    *each("granularity", "unit"),
    *each("p", 1.5, "0.5"),
    *each("input_p", -1.0),
]
CONV2D_BACKWARD = [
    *each("dy", floats(1, 4, 3, 5), floats(2, 4, 3, 5, dtype="f64"), None),
    *each("saved", None),
    *each("dx", zeros(2, 3, 5, 5), zeros(2, 3, 5, 6, dtype="f8"), *unwritable(2, 3, 5, 6)[:2]),
    *each("dw", zeros(2, 3, 3, 4), 3),
    *each("db", zeros(5), None),
]
POOL = [
    *each("x", zeros(2, 3, 7, 7, dtype="i8"), floats(3, 7, 7), floats(2, 3, 0, 7), floats(2, 3, 1, 7), None),
    *each("kernel_size", 0, (1, 2, 3), 1.5, True, 2**16, (2**31, 2)),
    *each("stride", 0, "2", (1, -1)),
    *each("padding", 2, -1, (0, 5)),
    *each("ceil_mode", 1),
    *each("layout", "CHW"),
]


def pool_backward(kind):
    y, saved = api.call(f"{kind}_pool2d_forward", x=floats(2, 3, 7, 7), kernel_size=3)
    return {"dy": y, "saved": saved}


def wrong_calls(folder):
    """All wrong calls; they need no folder."""
    yield from spoiled("conv2d", conv2d, CONV2D)
    yield from spoiled("conv2d_forward", conv2d, each("x", floats(3, 5, 6)) + each("p", 1.5))
    yield from spoiled("conv2d_backward", conv2d_backward, CONV2D_BACKWARD)
    yield "conv2d_backward/dx=x", conv2d_overlap
    for kind, rows in (("max", POOL), ("avg", [*POOL[::4], *each("count_include_pad", 1)])):
        good = functools.partial(dict, x=floats(2, 3, 7, 7), kernel_size=3)
        yield from spoiled(f"{kind}_pool2d_forward", good, rows)
        yield from spoiled(f"{kind}_pool2d", good, rows)
        rows = each("dy", floats(2, 3, 2, 3), floats(2, 3, 2, 2, dtype="f64"), None) + each("saved", None, 3)
        yield from spoiled(f"{kind}_pool2d_backward", functools.partial(pool_backward, kind), rows)
    other = pool_backward("avg")
    yield "max_pool2d_backward/saved_of_avg", lambda: api.call("max_pool2d_backward", **other)


def conv2d_overlap():
    good = conv2d()
    y, saved = api.call("conv2d_forward", **good)
    return api.call("conv2d_backward", dy=y, saved=saved, dx=good["x"])
