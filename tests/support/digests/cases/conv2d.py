"""The fused convolution: y, dx, dw, db."""

import functools

import numpy as np

from digests import api, inputs
from digests.case import Case, label
from digests.cases.linear import ACTIVATIONS

# B, C, H, W, N, kernel, stride, padding: single pixels; numbers of channels below, at and above a vector and a strip;
# kernels smaller than their stride; strides that skip the last pixels; more pixels than one chunk; rows longer than it.
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1, 0),
    (2, 3, 8, 8, 33, 5, 1, 2),
    (2, 5, 6, 5, 64, 1, 1, 0),
    (1, 4, 9, 9, 7, (3, 2), (2, 3), (1, 0)),
    (2, 6, 10, 11, 5, (2, 3), (3, 1), 0),
    (2, 3, 5, 6, 4, 1, 2, 0),
    (2, 32, 5, 5, 40, 3, 1, 1),
    (2, 2, 3, 3, 260, 3, 1, 1),
    (1, 70, 4, 4, 3, 4, 1, 2),
    (300, 2, 3, 3, 4, 2, 1, 1),
    (2, 2, 2, 1500, 3, (1, 3), 1, (0, 1)),
    (1, 2, 3, 2100, 3, (2, 3), (1, 2), 1),
    (2, 3, 9, 9, 4, 2, 5, 0),
    (0, 3, 5, 5, 4, 3, 1, 0),
    (2, 0, 5, 5, 4, 3, 1, 1),
    (2, 3, 5, 5, 0, 3, 1, 0),
    (3, 33, 17, 13, 65, 3, 1, 1),
]
MAIN = (5, 24, 11, 9, 37, 3, (1, 2), 1)  # work for two threads
CHANNEL = {"granularity": "channel"}
OPTIONS = [
    {},
    {"p": 0.5},
    {"input_p": 0.25},
    {"bias": False, "p": 0.5, "activation": "relu"},
    {"p": 0.5, "input_p": 0.5, "activation": "gelu", "alone": True},
    {"p": 0.3, "input_p": 0.2, "activation": "tanh", "into": True},
    {"p": 0.5, **CHANNEL},
    {"p": 0.5, "input_p": 0.25, "activation": "relu", **CHANNEL},
    {"p": 0.5, "activation": "sigmoid", "dropout_first": True, "alone": True, **CHANNEL},
    {"p": 1.0, "input_p": 0.25, "activation": "silu"},
    {"p": 0.5, "input_p": 1.0, "activation": "relu"},
]
PIXELS = 11 * 5  # OH * OW of MAIN
PLACES = {
    "shard": {"row0": 3 * PIXELS},
    "columns": {"col0": 45},
    "names": {"seed": 2**64 - 1, "stream": 2**32 - 1, "step": 2**32 - 1},
    "repeated": {"repeat": 4, "row0": 2 * PIXELS, "period": 50},
}
LAYOUTS = ("columns", "thirds", "reversed", "odd_address")
RELU = {"p": 0.3, "input_p": 0.2, "activation": "relu"}


def cases():
    """Everything about conv2d."""
    for dtype in inputs.available_dtypes():
        few = dtype != "f32"
        for order in ("NCHW", "NHWC"):
            for shape in SHAPES[:: 5 if few else 1]:
                yield case(dtype, shape, {**RELU, "layout": order})
            for options in OPTIONS[:: 4 if few else 2 if order == "NHWC" else 1]:
                yield case(dtype, MAIN, {**options, "layout": order})
        for i, activation in enumerate(ACTIVATIONS[:: 2 if few else 1]):
            order = ("NCHW", "NHWC")[i % 2]
            yield case(
                dtype, SHAPES[4], {"activation": activation, "p": 0.5, "dropout_first": i % 3 == 0, "layout": order}
            )
    for place in PLACES:
        yield case("f32", MAIN, {**RELU, "at": place})
    yield case("f32", MAIN, {**RELU, **CHANNEL, "at": "shard", "layout": "NHWC"})
    for view in LAYOUTS:
        for order in ("NCHW", "NHWC"):
            yield case("f32", SHAPES[3], {**RELU, "layout": order}, view=view)
    for activation in ("relu", "gelu"):
        yield case("f32", SHAPES[4], {"activation": activation, "p": 0.5, "input_p": 0.5}, kind="specials")


def case(dtype, shape, options, kind="normal", view="rows"):
    """One call and its gradients."""
    names = ("B", "C", "H", "W", "N", "k", "s", "q")
    sizes = "".join(f"{name}{size}" for name, size in zip(names, shape, strict=True))
    for brackets in " ()":
        sizes = sizes.replace(brackets, "")
    words = [label(options), *[word for word in (kind, view) if word not in ("normal", "rows")]]
    key = f"{dtype}/{sizes.replace(',', 'x')}/{','.join(words)}"
    return Case(key, functools.partial(prepare, dtype, shape, options, kind, view))


def pair(size):
    """A kernel size as a pair."""
    return size if isinstance(size, tuple) else (size, size)


def prepare(dtype, shape, options, kind, view):
    """The arrays of the call. They hold the same images in both layouts."""
    (B, C, H, W, N, kernel, stride, padding), options = shape, dict(options)
    make, lay = inputs.Maker(f"conv2d {shape}", dtype, kind), inputs.LAYOUTS[view]
    last = options.get("layout") == "NHWC"

    def image(name, *sizes):
        """An array of sizes B, C, H, W, in the layout of the case."""
        a = make(name, *sizes)
        return lay(np.ascontiguousarray(a.transpose(0, 2, 3, 1)) if last else a)

    x, w = image("x", B, C, H, W), lay(make.plain("w", N, C, *pair(kernel)))
    b = lay(make.plain("b", N)) if options.pop("bias", True) else None
    place = PLACES.get(options.pop("at", None), {})
    if "p" in options or "input_p" in options:
        options["rng"] = api.mask_key(**place)

    def dy_of(y_shape):
        b, *rest = y_shape
        return image("dy", b, rest[-1], *rest[:-1]) if last else image("dy", *y_shape)

    return lambda: api.fused("conv2d", x, w, b, dy_of, stride=stride, padding=padding, **options)
