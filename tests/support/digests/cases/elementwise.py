"""Masks, dropout by itself, activations by themselves."""

import functools
import itertools

from digests import api, inputs
from digests.case import Case, label
from digests.cases.linear import ACTIVATIONS

RATES = (0.0, 0.00001, 0.25, 0.5, 0.9, 0.99999, 1.0)
MASK_SHAPES = [(), (1,), (97,), (3, 5), (2, 3, 4, 5), (0, 5), (5, 0), (61, 151), (13, 1031), (300, 257)]
PLACES = {
    "shard": {"row0": 5, "col0": 45},
    "aligned": {"row0": 64, "col0": 96},
    "far": {"row0": 2**32 - 1 - 61, "col0": 2**35 - 151},
    "repeated": {"repeat": 3, "row0": 4},
    "far_repeated": {"repeat": 2**30, "row0": 2**61},
    "periodic": {"period": 7, "row0": 2**62},
    "both": {"repeat": 2, "period": 5, "row0": 3, "col0": 31},
    "names": {"seed": 2**64 - 1, "stream": 2**32 - 1, "step": 2**32 - 1},
    "zeros": {"seed": 0, "stream": 0, "step": 0},
    "input_stream": {"stream": 2**31},
}
# The last two shapes have work for two threads.
SHAPES = [(), (7,), (0, 3), (33, 65), (3, 5, 7), (2, 3, 4, 5), (257, 301), (3, 40, 700)]
GRANULARITIES = ("element", "unit")
# Values of every magnitude, subnormal ones too, and the points where a formula changes. SPECIALS follow them.
POINTS = [0.0, 1e-40, 1e-20, 1e-4, 0.1, 0.5, 1.0, 2.0, 3.5, 5.0, 8.0, 10.0, 20.0, 50.0, 88.0, 89.0, 104.0, 710.0, 1e30]


def cases():
    """Everything about masks, dropout and activations."""
    yield from mask_cases()
    for i, dtype in enumerate(inputs.available_dtypes()):
        shapes = SHAPES if dtype == "f32" else SHAPES[i::3]
        for shape, granularity in itertools.product(shapes, GRANULARITIES):
            yield dropout_case(dtype, shape, {"p": 0.4, "granularity": granularity})
        for p in RATES:
            yield dropout_case(dtype, (33, 65), {"p": p, "scaling": "classic" if p == 0.9 else "inverted"})
        for granularity in GRANULARITIES:
            options = {"p": 0.3, "scaling": "classic", "granularity": granularity}
            yield dropout_case(dtype, (19, 70), {**options, "at": "both"}, kind="specials")
        for activation in ACTIVATIONS:
            yield activation_case(dtype, (13, 77), activation, "points")
            yield activation_case(dtype, (1, 3, 5), activation)
        yield activation_case(dtype, (283, 269), "gelu")
    for view in list(inputs.LAYOUTS)[1:]:
        yield dropout_case("f32", (5, 4, 6), {"p": 0.4}, view=view)
        yield activation_case("f32", (5, 4, 6), "gelu", view=view)


def mask_cases():
    """Masks of all shapes, rates and keys."""
    for shape in MASK_SHAPES:
        yield mask_case(shape, {"p": 0.3})
    yield mask_case(31, {"p": 0.3})
    for p, granularity in itertools.product(RATES, GRANULARITIES):
        yield mask_case((14, 70), {"p": p, "granularity": granularity, "out": p == 0.5})
    for place, granularity in itertools.product(PLACES, GRANULARITIES):
        yield mask_case((61, 151), {"p": 0.5, "granularity": granularity, "at": place})
    yield mask_case((3, 4), {"p": 0.0, "unnamed": True})


def sizes_text(shape):
    """A shape as part of a key; () is "scalar"."""
    return "x".join(map(str, shape if isinstance(shape, tuple) else (shape,))) or "scalar"


def mask_case(shape, options):
    """One mask."""

    def run():
        given = dict(options)
        place = PLACES.get(given.pop("at", None), {})
        if given.pop("out", False):
            given["out"] = inputs.flags("out", 14 * 70).reshape(shape)
        if not given.pop("unnamed", False):
            given["rng"] = api.mask_key(**place)
        return {"keep": api.call("mask", shape=shape, **given)}

    return Case(f"mask/{sizes_text(shape)}/{label(options)}", lambda: run)


def dropout_case(dtype, shape, options, kind="normal", view="rows"):
    """One call of dropout, and its gradient."""
    words = [label(options), *[word for word in (kind, view) if word not in ("normal", "rows")]]
    key = f"dropout/{dtype}/{sizes_text(shape)}/{','.join(words)}"
    return Case(key, functools.partial(prepare_dropout, dtype, shape, options, kind, view))


def prepare_dropout(dtype, shape, options, kind, view):
    options = dict(options)
    x = inputs.LAYOUTS[view](inputs.normal(f"dropout {shape} {kind}", shape, dtype, kind))
    dy = inputs.LAYOUTS[view](inputs.normal(f"dropout {shape} dy", shape, dtype))
    rng = api.mask_key(**PLACES.get(options.pop("at", None), {}))
    return lambda: api.dropout(x, dy, rng=rng, **options)


def activation_case(dtype, shape, activation, kind="normal", view="rows"):
    """One activation, and its derivative times dy."""
    words = [activation, *[word for word in (kind, view) if word not in ("normal", "rows")]]
    key = f"activation/{dtype}/{sizes_text(shape)}/{','.join(words)}"
    return Case(key, functools.partial(prepare_activation, dtype, shape, activation, kind, view))


def prepare_activation(dtype, shape, activation, kind, view):
    lay = inputs.LAYOUTS[view]
    x = inputs.normal(f"activation {shape}", shape, dtype, "specials" if kind == "points" else kind)
    if kind == "points":
        signed = [sign * point for point in POINTS for sign in (1.0, -1.0)]
        x[1, : len(signed)] = signed
    x, dy = lay(x), lay(inputs.normal(f"activation {shape} dy", shape, dtype))
    return lambda: api.activation(x, dy, activation)
