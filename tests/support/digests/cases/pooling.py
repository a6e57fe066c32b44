"""Max and average pooling: y, the positions of the maxima, dx."""

import functools
import itertools

import numpy as np

from digests import api, inputs
from digests.case import Case, label

# kernel_size, stride, padding, ceil_mode
WINDOWS = [
    (3, 2, 0, False),
    (3, 2, 1, True),
    (2, None, 0, True),
    (3, 1, 1, False),
    ((3, 2), (1, 3), (1, 0), False),
    ((5, 4), (3, 2), (2, 2), True),
    ((1, 3), (2, 5), (0, 1), True),
    (1, 2, 0, False),
    (7, None, (3, 2), False),
]
# B, C, H, W: tiles end at 16 channels, and at 128 lanes of planes. The last shape has work for two threads.
SHAPES = [(2, 3, 7, 7), (1, 17, 8, 11), (3, 1, 9, 37), (2, 33, 7, 8), (0, 3, 7, 7), (2, 0, 7, 7), (4, 32, 41, 43)]


def cases():
    """Everything about pools. Each kind of pool runs every window and every shape."""
    for kind, order in itertools.product(("max", "avg"), ("NCHW", "NHWC")):
        for i, windows in enumerate(WINDOWS):
            dtypes = inputs.available_dtypes() if i % 8 == 0 else ["f32"]
            for dtype in dtypes:
                yield case(kind, dtype, SHAPES[i % 4], windows, order)
        for shape in SHAPES[3:]:
            yield case(kind, "f32", shape, WINDOWS[1], order)
        yield case(kind, "f32", (2, 2, 20, 300), ((17, 17), 5, 8, False), order)  # positions above 255
        yield case(kind, "f32", SHAPES[0], WINDOWS[1], order, values="ties")
        yield case(kind, "f32", SHAPES[1], WINDOWS[3], order, values="specials")
        for view in ("columns", "reversed"):
            yield case(kind, "f32", SHAPES[1], WINDOWS[1], order, view=view)
    for order, windows in itertools.product(("NCHW", "NHWC"), WINDOWS[1:7:2]):
        yield case("avg", "f32", SHAPES[1], windows, order, count_include_pad=False)


def case(kind, dtype, shape, windows, order, values="normal", view="rows", **options):
    """One call and its gradient."""
    sizes = "x".join(map(str, shape))
    names = ("k", "s", "q", "ceil")
    words = [label({**dict(zip(names, windows, strict=True)), "layout": order, **options})]
    words += [word for word in (values, view) if word not in ("normal", "rows")]
    key = f"{kind}/{dtype}/{sizes}/{','.join(words)}"
    return Case(key, functools.partial(prepare, kind, dtype, shape, windows, order, values, view, options))


def prepare(kind, dtype, shape, windows, order, values, view, options):
    """The arrays of the call. They hold the same images in both layouts."""
    make, lay = inputs.Maker(f"pooling {shape}", dtype), inputs.LAYOUTS[view]
    last = order == "NHWC"
    if values == "ties":
        x = inputs.whole(f"ties {shape}", shape, -3, 4).astype(inputs.DTYPES[dtype])
    else:
        x = make("x", *shape, kind=values)
    x = lay(np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x)
    kernel_size, stride, padding, ceil_mode = windows
    sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    return lambda: api.pool(kind, x, lambda y: lay(make("dy", *y)), layout=order, **sizes, **options)
