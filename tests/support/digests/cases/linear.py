"""The fused linear layer: y, the arrays in its context, dx, dw, db."""

import functools

from digests import api, inputs
from digests.case import Case, label

MAIN = (61, 131, 151)  # M, K, N: no multiple of any tile, and work for two threads
ACTIVATIONS = ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid")
UNIT = {"granularity": "unit"}

# Every option, alone and together with the options that share its code in the kernels.
OPTIONS = [
    {},
    {"alone": True, "p": 0.5, "activation": "gelu"},
    {"alone": True, "p": 0.5, "input_p": 0.3, "activation": "relu", "granularity": "unit"},
    {"out": True, "into": True, "p": 0.4, "activation": "tanh"},
    {"p": 0.5},
    {"p": 1.0, "activation": "relu"},
    {"p": 0.00001, "activation": "relu"},
    {"p": 0.999, "input_p": 0.999, "activation": "silu"},
    {"input_p": 0.25},
    {"input_p": 1.0, "activation": "gelu"},
    {"bias": False, "p": 0.5, "activation": "relu"},
    {"bias": False, "dropout_first": True, "p": 0.5, "input_p": 0.2, "activation": "sigmoid"},
    {"residual": True, "activation": "relu"},
    {"residual": True, "p": 0.3, "activation": "gelu"},
    {"residual": True, "p": 0.3, "activation": "sigmoid", "dropout_first": True, "out": True, "alone": True},
    {"residual": True, "p": 0.3, "input_p": 0.2, "into": True, "bias": True},
    {"p": 0.5, **UNIT},
    {"p": 0.5, "activation": "sigmoid", "dropout_first": True, **UNIT},
    {"p": 0.5, "input_p": 0.4, "activation": "gelu", "residual": True, **UNIT},
    {"p": 1.0, "activation": "tanh", "bias": False, **UNIT},
    {"p": 0.03, "input_p": 1.0, "into": True, **UNIT},
    {"active": "some", "activation": "relu", "p": 0.5},
    {"active": "some", "activation": "gelu", "p": 0.5, "input_p": 0.3, **UNIT},
    {"active": "none", "activation": "silu", "alone": True},
    {"active": "all", "residual": True, "p": 0.2, "activation": "relu"},
]
# Origins, ties and keys of masks; float32 is enough.
PLACES = {
    "shard": {"row0": 5, "col0": 45},
    "far": {"row0": 2**32 - 2000, "col0": 2**35 - 1000},
    "repeated": {"repeat": 3, "row0": 4},
    "periodic": {"repeat": 2, "period": 7, "row0": 2**40},
    "names": {"seed": 2**64 - 1, "stream": 2**32 - 1, "step": 2**32 - 1},
    "zeros": {"seed": 0, "stream": 0, "step": 0},
}
PLACED = [
    {"p": 0.5, "input_p": 0.25, "activation": "relu", "at": "shard"},
    {"p": 0.5, "input_p": 0.25, "activation": "relu", "at": "shard", **UNIT},
    *({"p": 0.5, "input_p": 0.25, "activation": "tanh", "at": place} for place in PLACES if place != "shard"),
]
# Empty, single, prime, and at the edges of tiles (14 and 6 rows, 32 columns) and lanes.
SMALL = [
    (0, 4, 5),
    (3, 0, 5),
    (3, 4, 0),
    (1, 1, 1),
    (2, 3, 2),
    (6, 16, 16),
    (7, 17, 31),
    (13, 64, 32),
    (14, 32, 64),
    (15, 33, 33),
    (29, 63, 65),
    (1, 301, 97),
    (113, 5, 257),
]
# Beyond one block of rows (192, 224), of k-steps (1024, 512; 2048 in bfloat16) and of columns (2048).
LARGE = [(449, 70, 40), (29, 1100, 65), (15, 600, 2300), (1100, 20, 70), (5, 4300, 65), (235, 1030, 130)]
BOTH = [
    {"p": 0.5, "input_p": 0.25, "activation": "relu"},
    {"p": 0.5, "input_p": 0.25, "activation": "gelu", "residual": True, **UNIT},
]


def cases():
    """Everything about linear."""
    for i, dtype in enumerate(inputs.available_dtypes()):
        every = 1 if dtype == "f32" else 2  # float32 runs the whole list, another dtype one half of it
        for activation in ACTIVATIONS:
            yield case(dtype, MAIN, {"activation": activation, "p": 0.5, "input_p": 0.1})
        for activation in ACTIVATIONS[i::every]:
            yield case(dtype, (17, 23, 40), {"activation": activation, "p": 0.5, "dropout_first": True})
            yield case(dtype, (31, 37, 41), {"activation": activation, "p": 0.5}, kind="specials")
        for options in OPTIONS[i % 2 :: every]:
            yield case(dtype, MAIN, options)
        for j, shape in enumerate(SMALL[i % 2 :: every]):
            yield case(dtype, shape, BOTH[j % 2])
        for j, shape in enumerate(LARGE[i % 2 :: every]):
            yield case(dtype, shape, BOTH[(i + j) % 2])
        for layout in list(inputs.LAYOUTS)[1 :: 1 if dtype == "f32" else 4]:
            options = {"p": 0.3, "input_p": 0.2, "activation": "silu", "residual": True}
            yield case(dtype, (15, 70, 37), options, layout=layout)
        yield case(dtype, (31, 37, 41), {"activation": "gelu", "p": 0.5, "input_p": 0.5}, kind="tiny")
    for options in PLACED:
        yield case("f32", MAIN, options)
    for shape in SMALL[::2] + LARGE[:3:2]:
        yield case("f32", shape, BOTH[1])


def case(dtype, shape, options, kind="normal", layout="rows"):
    """One call and its gradients."""
    M, K, N = shape
    words = [label(options), *[word for word in (kind, layout) if word not in ("normal", "rows")]]
    key = f"{dtype}/M{M}K{K}N{N}/{','.join(words)}"
    return Case(key, functools.partial(prepare, dtype, shape, options, kind, layout))


def prepare(dtype, shape, options, kind, layout):
    """The arrays of the call. They depend on dtype, shape and kind alone, so a layout changes no result."""
    (M, K, N), options = shape, dict(options)
    make, lay = inputs.Maker(f"linear {shape}", dtype, kind), inputs.LAYOUTS[layout]
    x, w = lay(make("x", M, K)), lay(make.plain("w", N, K))
    b = lay(make.plain("b", N)) if options.pop("bias", True) else None
    dy = lay(make("dy", M, N))
    if options.pop("residual", False):
        options["residual"] = lay(make("residual", M, N))
    if (active := options.pop("active", None)) is not None:
        share = {"some": 0.5, "none": 0.0, "all": 1.0}[active]
        options["active_inputs"] = inputs.flags(f"active {K}", K, share)
    place = PLACES.get(options.pop("at", None), {})
    if "p" in options or "input_p" in options:
        options["rng"] = api.mask_key(**place)
    out = options.pop("out", False)

    def run():
        target = inputs.normal("out", (M, N), dtype) if out else None
        return api.fused("linear", x, w, b, lambda _: dy, out=target, **options)

    return run
