"""The specification in NumPy, and the words of the generator. The cases run once, for they run no kernel.

The matrix products have few terms, so that NumPy's matmul gives the same bits in every run on one machine.
"""

import functools
import itertools

import numpy as np

from digests import api, inputs
from digests.case import Case, label
from digests.cases.linear import ACTIVATIONS

PLACES = [{}, {"row0": 5, "col0": 45}, {"repeat": 3, "period": 5, "row0": 2}, {"seed": 2**64 - 1, "stream": 2**31}]
RATES = (0.0, 0.00001, 0.25, 0.5, 0.999999, 1.0)
FUSED = [
    {"activation": "relu", "p": 0.5, "input_p": 0.25},
    {"activation": "gelu", "p": 0.5, "dropout_first": True},
    {"activation": "tanh", "p": 0.5, "granularity": "unit", "residual": True, "active": True},
    {"activation": "sigmoid", "bias": False},
]
CONVOLUTIONS = [
    {"stride": 2, "padding": 1, "p": 0.5, "activation": "relu"},
    {"stride": (1, 2), "p": 0.5, "input_p": 0.25, "granularity": "channel", "layout": "NHWC"},
]
RECURRENT = [
    {"input_p": 0.3, "recurrent_p": 0.2},
    {"input_p": 0.3, "recurrent_p": 0.2, "constant": False, "apart": False, "sequences": False},
]
POOLS = [
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": (2, 3), "layout": "NHWC"},
    {"kernel_size": 3, "padding": 1, "count_include_pad": False},
]


def cases():
    """Words of the generator, masks, formulas and whole layers."""
    runs = {f"words/{n}": functools.partial(generator_words, n) for n in (1, 5)}
    runs["rates"] = lambda: {
        "threshold": [api.call("reference.threshold", p) for p in RATES],
        "scale": [float(api.call("reference.scale", p)) for p in RATES],
    }
    for place, granularity in itertools.product(PLACES, ("element", "unit")):
        runs[f"mask/{label(place)},{granularity}"] = functools.partial(mask, place, granularity)
    for activation in ACTIVATIONS:
        runs[f"activation/{activation}"] = functools.partial(activate, activation)
    for options in FUSED:
        runs[f"linear/{label(options)}"] = functools.partial(linear, options)
    for options in CONVOLUTIONS:
        runs[f"conv2d/{label(options)}"] = functools.partial(conv2d, options)
    for options in RECURRENT:
        runs[f"lstm/{label(options)}"] = functools.partial(lstm, options)
    for kind, options in [*itertools.product(("max", "avg"), POOLS[:2]), ("avg", POOLS[2])]:
        runs[f"pooling/{kind},{label(options)}"] = functools.partial(pool, kind, options)
    runs["names"] = keys
    runs["settings"] = lambda: {"told": api.settings()}
    for key, run in runs.items():
        yield Case(key, lambda run=run: run, every_isa=False)


def generator_words(n):
    """Philox of n counters, and of the smallest and largest counters."""
    counters = [inputs.whole(f"counter {i}", (n,), 0, 2**32).astype(np.uint64) for i in range(4)]
    edges = [np.array([0, 2**32 - 1], np.uint64)] * 4
    keys = [(0, 0), (2**32 - 1, 2**32 - 1), (0xA4093822, 0x299F31D0)]
    call = functools.partial(api.call, "reference.philox4x32_10")
    return {"words": [list(call(counter, key)) for counter in (counters, edges) for key in keys]}


def mask(place, granularity):
    rng = api.mask_key(**place)
    call = functools.partial(api.call, "reference.dropout_mask", p=0.3, rng=rng, granularity=granularity)
    x, dy = inputs.normal("reference x", (6, 70), "f64", "specials"), inputs.normal("reference dy", (6, 70), "f64")
    options = {"p": 0.3, "rng": rng, "granularity": granularity, "module": "reference."}
    both = [api.dropout(x, dy, scaling=scaling, **options) for scaling in ("inverted", "classic")]
    keep = [call(shape) for shape in ((6, 70), (2, 3, 33), 40)]
    return {"keep": keep, "dropout": [one["y"] for one in both], "dropout_dx": [one["dx"] for one in both]}


def activate(activation):
    x, dy = (inputs.normal(f"reference {name}", (6, 70), "f64", "specials") for name in ("x", "dy"))
    return api.activation(x, dy, activation, module="reference.")


def linear(options):
    options, make = dict(options), inputs.Maker("reference linear", "f64")
    b = make("b", 6) if options.pop("bias", True) else None
    if options.pop("residual", False):
        options["residual"] = make("residual", 5, 6)
    if options.pop("active", False):
        options["active_inputs"] = inputs.flags("reference active", 7)
    operands = make("x", 5, 7), make("w", 6, 7), b
    y, context = api.forward("reference.linear", *operands, rng=api.mask_key(), **options)
    return {"y": y, "gradients": list(api.call("reference.linear_backward", make("dy", 5, 6), context))}


def conv2d(options):
    make = inputs.Maker("reference conv2d", "f64")
    shape = (2, 6, 5, 3) if options.get("layout") == "NHWC" else (2, 3, 6, 5)
    operands = make("x", *shape), make("w", 4, 3, 3, 2), make("b", 4)
    y, context = api.forward("reference.conv2d", *operands, rng=api.mask_key(), **options)
    return {"y": y, "gradients": list(api.call("reference.conv2d_backward", make("dy", *y.shape), context))}


def lstm(options):
    make = inputs.Maker("reference lstm", "f64")
    arrays = [make(name, *shape) for name, shape in (("x", (2, 3, 4)), ("w", (20, 4)), ("u", (20, 5)), ("b", (20,)))]
    h0, c0, dh, dc = (make(name, 2, 5) for name in ("h0", "c0", "dh", "dc"))
    (y, state), context = api.forward("reference.lstm", *arrays, h0=h0, c0=c0, rng=api.mask_key(), **options)
    gradients = api.call("reference.lstm_backward", make("dy", *y.shape), context, dh=dh, dc=dc)
    return {"y": [y, *state], "gradients": list(gradients)}


def pool(kind, options):
    x = inputs.normal("reference images", (2, 7, 6, 5), "f64")
    y, context = api.forward(f"reference.{kind}_pool2d", x, **options)
    dx = api.call(f"reference.{kind}_pool2d_backward", inputs.normal("reference dy", y.shape, "f64"), context)
    if kind == "max":
        # context.positions are [B, C, H', W'] in both layouts; the line has the positions in the layout of y.
        last = options.get("layout") == "NHWC"
        y = y, context.positions.transpose(0, 2, 3, 1) if last else context.positions
    return {"y": y, "dx": dx}


def keys():
    """A key: its fields, and the keys made from it."""
    key = api.mask_key(row0=5, col0=45, repeat=3, period=7)
    return {"fields": [api.key_fields(other) for other in (key, *api.keys_after(key))]}
