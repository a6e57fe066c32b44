"""What verifies the elementwise kernels: masks and dropout to the bit, activations within the bounds of
fusedrop.reference.bounds and one rounding of the result."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import fusedrop
from fusedrop import reference
from fusedrop._core import Philox
from fusedrop.cuda.comparison import HALF, LEAST, Arrays, require_close, require_mask
from fusedrop.cuda.linear_cases import key_on_device
from fusedrop.reference.bounds import activation_bounds

RNG = Philox(seed=2**63 + 5, stream=3, step=7)
KEYS = {
    "plain": RNG,
    "odd origin": RNG.at(row0=1000, col0=17),
    "near the last row and column": RNG.at(row0=2**32 - 210, col0=2**35 - 256),
    "shared rows": RNG.at(row0=3, col0=32).tied(repeat=3, period=5),
}
SHAPES = [(1, 1), (5, 33), (64, 64), (17, 129), (4, 5, 6), (0, 7)]  # columns in vectors of 8, and others
P = 0.3


def masks(arrays: Arrays) -> Iterator[str]:
    for name, rng in KEYS.items():
        for granularity in ("element", "unit"):
            for p in (0.0, 0.001, 0.5, 1.0):
                yield f"key {name}, granularity={granularity}, p={p}"
                for shape in SHAPES:
                    out = arrays.unwritten(shape, bool)
                    fusedrop.dropout_mask(shape, p=p, rng=rng, granularity=granularity, out=out)
                    want = reference.dropout_mask(shape, p=p, rng=rng, granularity=granularity)
                    require_mask("mask", arrays.get(out), want)
        yield f"key {name}, on the device"
        out = arrays.unwritten((17, 129), bool)
        fusedrop.dropout_mask((17, 129), p=P, rng=key_on_device(arrays, rng), out=out)
        require_mask("mask", arrays.get(out), reference.dropout_mask((17, 129), p=P, rng=rng))


def dropout(arrays: Arrays) -> Iterator[str]:
    """One product and one rounding, so the result has no other bits; NaN is dropped like any value."""
    for name, rng in KEYS.items():
        for granularity in ("element", "unit"):
            for scaling in ("inverted", "classic"):
                yield f"key {name}, granularity={granularity}, scaling={scaling}"
                for shape in SHAPES:
                    _compare_dropout(arrays, shape, rng, granularity, scaling)
        yield f"key {name}, on the device"
        _compare_dropout(arrays, (17, 129), rng, on_device=True)
    yield "transposed x"
    _compare_dropout(arrays, (17, 129), RNG, transposed=True)


def _compare_dropout(
    arrays: Arrays,
    shape: tuple[int, ...],
    rng: Philox,
    granularity: str = "element",
    scaling: str = "inverted",
    transposed: bool = False,
    on_device: bool = False,
) -> None:
    sizes = np.random.default_rng(2).integers(-24, 1, shape)  # float16 has subnormal numbers below 2^-14
    x = arrays.rounded(arrays.draw(shape, 1) * 2.0**sizes)
    x.flat[::7] = np.nan
    factor = np.float32(reference.scale(P) if scaling == "inverted" else 1.0)
    want = arrays.rounded(x.astype(np.float32) * factor)
    want = np.where(reference.dropout_mask(shape, p=P, rng=rng, granularity=granularity), want, 0.0)
    key = key_on_device(arrays, rng) if on_device else rng
    y = fusedrop.dropout(arrays.put(x, transposed), p=P, rng=key, granularity=granularity, scaling=scaling)
    require_close("y", arrays.get(y), want)


def activations(arrays: Arrays) -> Iterator[str]:
    half, least, eps = HALF[arrays.dtype], LEAST[arrays.dtype], float(np.finfo(np.float32).eps)
    for activation in fusedrop.activations:
        for shape in ((7, 33), (4, 64), (0, 4)):
            yield f"{activation}, shape {list(shape)}"
            x, dy = arrays.rounded(3 * arrays.draw(shape, 1)), arrays.draw(shape, 2)
            y, context = fusedrop.activate_forward(arrays.put(x), activation)
            dx = fusedrop.activate_backward(arrays.put(dy), context)
            want_y, saved = reference.activate_forward(x, activation)
            want_dx = reference.activate_backward(dy, saved)
            bounds = activation_bounds(x, dy, want_y, activation, eps)
            for name, got, want, bound in zip(("y", "dx"), (y, dx), (want_y, want_dx), bounds, strict=True):
                rounded = bound + half * (np.abs(want) + bound) + least
                require_close(name, arrays.get(got), want, np.where(bound > 0, rounded, 0.0))
