"""The LSTM functions: y, the last state, and all six gradients."""

import functools

from digests import api, inputs
from digests.case import Case, label

MAIN = (11, 17, 45, 47)  # B, T, I, H: work for two threads
SHAPES = [
    (1, 1, 1, 1),
    (3, 2, 5, 33),
    (70, 3, 17, 8),
    (15, 7, 64, 32),
    (5, 4, 3, 65),
    (2, 40, 7, 16),
    (0, 3, 4, 5),
    (3, 0, 4, 5),
    (3, 2, 0, 5),
    (3, 2, 4, 0),
]
BOTH = {"input_p": 0.3, "recurrent_p": 0.2}
OPTIONS = [
    {},
    {"input_p": 0.5},
    {"recurrent_p": 0.5},
    BOTH,
    {**BOTH, "constant": False},
    {**BOTH, "apart": False},
    {**BOTH, "apart": False, "constant": False},
    {"input_p": 0.3, "apart": True},
    {"input_p": 0.3, "apart": True, "constant": False},
    {**BOTH, "sequences": False},
    {**BOTH, "bias": False},
    {**BOTH, "states": True},
    {**BOTH, "states": True, "sequences": False},
    {**BOTH, "states": True, "alone": True},
    {**BOTH, "into": True},
    {"input_p": 1.0, "recurrent_p": 1.0},
    {"input_p": 1.0},
]
PLACES = {
    "shard": {"row0": 4},
    "far": {"row0": 2**32 - 100},
    "names": {"seed": 2**64 - 1, "stream": 2**32 - 1, "step": 2**32 - 1},
}
LAYOUTS = ("columns", "thirds", "reversed", "odd_address")
DTYPES = ("f32", "f64")


def cases():
    """Everything about lstm."""
    for dtype in DTYPES:
        for options in OPTIONS[:: 1 if dtype == "f32" else 4]:
            yield case(dtype, MAIN, options)
        for shape in SHAPES[:: 1 if dtype == "f32" else 3]:
            yield case(dtype, shape, {**BOTH, "states": True})
    for place in PLACES:
        yield case("f32", MAIN, {**BOTH, "at": place})
    yield case("f32", MAIN, {**BOTH, "constant": False, "apart": False, "at": "shard"})
    for view in LAYOUTS:
        yield case("f32", (4, 3, 6, 7), {**BOTH, "states": True}, view=view)
    yield case("f32", (11, 3, 6, 7), {**BOTH, "states": True}, kind="specials")


def case(dtype, shape, options, kind="normal", view="rows"):
    """One call and its gradients."""
    sizes = "".join(f"{name}{size}" for name, size in zip("BTIH", shape, strict=True))
    words = [label(options), *[word for word in (kind, view) if word not in ("normal", "rows")]]
    key = f"{dtype}/{sizes}/{','.join(words)}"
    return Case(key, functools.partial(prepare, dtype, shape, options, kind, view))


def prepare(dtype, shape, options, kind, view):
    """The arrays of the call. The weights are small, so that the gates do not saturate."""
    (B, T, K, H), options = shape, dict(options)
    make, lay = inputs.Maker(f"lstm {shape}", dtype, kind), inputs.LAYOUTS[view]
    arrays = {
        "x": lay(make("x", B, T, K)),
        "w_ih": lay(make("w_ih", 4 * H, K, scale=0.25, kind="normal")),
        "w_hh": lay(make("w_hh", 4 * H, H, scale=0.25, kind="normal")),
        "b": lay(make("b", 4 * H, kind="normal")) if options.pop("bias", True) else None,
    }
    with_states = options.pop("states", False)
    for name in ("h0", "c0", "dh", "dc"):
        arrays[name] = lay(make(name, B, H, kind="normal")) if with_states else None
    place = PLACES.get(options.pop("at", None), {})
    if "input_p" in options or "recurrent_p" in options:
        options["rng"] = api.mask_key(**place)
    return lambda: api.lstm(arrays, lambda y_shape: lay(make("dy", *y_shape)), **options)
