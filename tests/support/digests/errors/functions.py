"""Wrong calls of linear, dropout, masks, activations, the loss, keys of masks and settings."""

import functools

import numpy as np

from digests import api, inputs
from digests.errors.calls import As, each, spoiled

placed = functools.partial(api.mask_key, 1, 2, 3)  # placed(row0=5) is the key of a part of a mask
RNG = placed()
LAST_ROW, LAST_COL = 2**32 - 1, 2**35


def floats(*shape, dtype="f32"):
    return inputs.normal(f"errors {shape}", shape, dtype)


def zeros(*shape, dtype="f4"):
    return np.zeros(shape, dtype)


def unwritable(*shape):
    """Arrays of the right shape that a result may not be written to."""
    read_only = zeros(*shape)
    read_only.flags.writeable = False
    unaligned = np.zeros(read_only.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(shape)
    strided = zeros(*shape[:-1], 2 * shape[-1])[..., ::2]
    labeled = {"read_only": read_only, "unaligned": unaligned, "strided": strided, "columns": zeros(*shape[::-1]).T}
    return [As(label, array) for label, array in labeled.items()]


BAD_RATES = [float("nan"), -0.1, 1.1, 10**400, "0.5", None, True, [0.5]]
NOT_ARRAYS = [zeros(3, 4, dtype="f2"), zeros(3, 4, dtype="i8"), zeros(3, 4, dtype=">f4"), [[1.0]], "abc", None]
NOT_KEYS = [7, As("generator", np.random.default_rng(1)), None]
BEYOND = [
    placed(row0=LAST_ROW - 2),
    placed(row0=2**62),
    placed(row0=2 * LAST_ROW - 2, repeat=2),
    placed(col0=LAST_COL - 3),
]


def linear():
    """Arguments that linear accepts, with dropout: M, K, N = 3, 4, 5."""
    arrays = {"x": floats(3, 4), "w": floats(5, 4), "b": floats(5), "residual": floats(3, 5)}
    return arrays | {"activation": "relu", "p": 0.5, "rng": RNG, "input_p": 0.25}


def plain():
    """Arguments that linear accepts, without dropout."""
    return {"x": floats(3, 4), "w": floats(5, 4)}


def linear_backward():
    context = api.call("linear_forward", **linear() | {"activation": "gelu"})[1]
    return {"dy": floats(3, 5), "saved": context}


def dropout():
    return {"x": floats(3, 4), "p": 0.5, "rng": RNG}


def dropout_backward():
    return {"dy": floats(3, 4), "saved": api.call("dropout_forward", **dropout())[1]}


def activate():
    return {"x": floats(3, 4), "activation": "gelu"}


def activate_backward(dy, x, activation):
    """The gradient, after the forward call that it needs."""
    return api.call("activate_backward", dy, api.call("activate_forward", x, activation)[1])


LINEAR = [
    *each("x", *NOT_ARRAYS, floats(4), floats(1, 3, 4), floats(3, 4, dtype="f64")),
    *each("w", floats(4), floats(4, 5), floats(5, 4, dtype="f64"), zeros(5, 4, dtype="i4"), None),
    *each("b", floats(4), floats(1, 5), floats(5, dtype="f64"), 1.0),
    *each("residual", floats(5, 3), floats(5), floats(3, 5, dtype="f64")),
    *each("out", zeros(3, 4), zeros(15), zeros(3, 5, dtype="f8"), [1.0], *unwritable(3, 5)),
    *each("p", *BAD_RATES),
    *each("input_p", 1.1, "0.5", None),
    *each("rng", *NOT_KEYS, *BEYOND),
    {"rng": None, "p": 0.0},
    *each("activation", "ReLU", "", None, 3),
    *each("dropout_first", 1, "yes", None),
    *each("granularity", "channel", None, 3),
    *each("active_inputs", np.ones(4, bool)),
]
PLAIN = [
    *each("active_inputs", [True] * 4, np.ones(4), np.ones(5, bool), np.ones((1, 4), bool)),
    {"color": "red"},
    {"p": 0.5},
]
BACKWARD = [
    *each("dy", floats(5, 3), floats(5), floats(3, 5, dtype="f64"), [[1.0]], None),
    *each("saved", None, 3, As("a_pair", (1, 2))),
    *each("dx", zeros(3, 5), zeros(3, 4, dtype="f8"), 1, "yes", None, *unwritable(3, 4)),
    *each("dw", zeros(4, 5), zeros(5, 4, dtype="f8"), [1.0]),
    *each("db", zeros(4), zeros(5, dtype="f8"), None),
]
DROPOUT = [
    *each("x", *NOT_ARRAYS),
    *each("p", *BAD_RATES[:4]),
    *each("rng", *NOT_KEYS, *BEYOND),
    *each("granularity", "channel"),
    *each("scaling", "none", None),
]
DY = each("dy", floats(4, 3), floats(3, 4, dtype="f64"), None)
MASK = [
    *each("shape", (-1, 2), (2.0, 3), "23", None, True, (True, 2), np.array([2, 3]), 2**70),
    *each("p", 2.0, "0.5"),
    *each("rng", None, 7, BEYOND[0]),
    *each("granularity", "row"),
    *each("out", zeros(3, 4), np.zeros((4, 3), bool), np.zeros((3, 8), bool)[:, ::2], "x"),
]
LABELS = [
    np.array([0, 1]),
    np.array([0, 1, 4]),
    np.array([0, -1, 2]),
    np.array([0.0, 1, 2]),
    np.array([True, False, True]),
    np.eye(3, 5),
    np.zeros((3, 1), int),
    np.vstack([np.eye(2, 4), [[0, 0, 0, 0.5]]]),
    np.full((3, 4), np.nan),
    np.array([[2.0, -1, 0, 0]] * 3),
    np.eye(3, 4) + 0j,
]


def wrong_calls(folder):
    """All wrong calls; they need no folder."""
    yield from spoiled("linear", linear, LINEAR)
    yield from spoiled("linear_forward", linear, each("x", floats(4)) + each("p", 1.1) + each("out", zeros(5, 3)))
    yield from spoiled("linear", plain, PLAIN)
    yield from spoiled("linear_backward", linear_backward, BACKWARD)
    yield from shared_memory()
    yield from spoiled("dropout", dropout, DROPOUT)
    yield from spoiled("dropout_forward", dropout, DROPOUT)
    yield from spoiled("dropout_backward", dropout_backward, [*DY, *each("saved", None, As("a_pair", (1, 2)))])
    yield from spoiled("mask", lambda: {"shape": (3, 4), "p": 0.5, "rng": RNG}, MASK)
    for entry in ("activate", "activate_forward"):
        yield from spoiled(entry, activate, each("x", *NOT_ARRAYS[:4]) + each("activation", "ReLU", None))
    with_dy = functools.partial(dict, dy=floats(3, 4), **activate())
    yield from spoiled("activate_backward", with_dy, DY + each("activation", "elu"), activate_backward)
    saved = functools.partial(dict, dy=floats(3, 4))
    yield from spoiled("activate_backward", saved, each("saved", None, As("a_pair", (1, 2))))
    loss = functools.partial(dict, logits=floats(3, 4), labels=np.array([0, 3, 1]))
    rows = each("logits", floats(4), floats(3, 0), *NOT_ARRAYS[1:4]) + each("labels", *LABELS)
    yield from spoiled("loss", loss, rows)
    yield from keys_and_settings()


def shared_memory():
    """Results that would share memory with operands, or with each other."""
    x, w, b = floats(5, 5), floats(4, 4), floats(5)
    yield "linear/out=x", lambda: api.call("linear", x=x, w=x.copy(), out=x)
    yield "linear/out=w", lambda: api.call("linear", x=x.copy(), w=x, out=x)
    for name, like in (("dx", "x"), ("dw", "w"), ("dx", "dy"), ("dw", "kept")):
        yield f"linear_backward/{name}={like}", functools.partial(overlap, name, like)
    flat = zeros(50)
    yield "linear_backward/dx=dw", lambda: backward_of(w, w.copy(), None, dx=flat[:16], dw=flat[8:24])
    yield "linear_backward/db_without_bias", lambda: backward_of(x, x.copy(), None, db=b)


def backward_of(x, w, b, **flat):
    """Gradients of a square layer, written into flat arrays."""
    context = api.call("linear_forward", x=x, w=w, b=b)[1]
    targets = {name: array.reshape(w.shape) if name != "db" else array for name, array in flat.items()}
    return api.call("linear_backward", dy=floats(*x.shape), saved=context, **targets)


def overlap(name, like):
    x, w, dy = floats(5, 5), floats(5, 5).copy(), floats(5, 5).copy()
    y, context = api.call("linear_forward", x=x, w=w, activation="relu")
    target = {"x": x, "w": w, "dy": dy, "kept": y}[like]
    return api.call("linear_backward", dy=dy, saved=context, **{name: target})


def keys_and_settings():
    """Fields of a mask's key, instruction sets, numbers of threads."""
    fields = {"seed": 2**64, "stream": 2**32, "step": 2**32, "row0": 2**62 + 1, "col0": 2**35 + 1, "repeat": 0}
    rows = [{name: value} for name, value in fields.items()]
    rows += each("seed", -1, 1.0, "1", True, None, np.array([1, 2])) + each("period", 0, 2**32, "1") + [{"sed": 2}]
    yield from spoiled("Name", lambda: {"seed": 1}, rows)
    yield "Name/nothing", lambda: api.call("Name")
    yield "Name/last_step_next", lambda: api.keys_after(api.mask_key(step=2**32 - 1))
    yield from spoiled("set_isa", dict, each("isa", "sse2", "", None, 2))
    yield from spoiled("set_num_threads", dict, each("threads", -1, 4097, None, 1.0, True))
