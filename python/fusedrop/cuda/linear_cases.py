"""The layers that verify a linear kernel: every option, and every tile that csrc/cuda/gemm can launch.

Results are compared with fusedrop.reference in float64, within fusedrop.reference.bounds: for sums of K products
(K + 2) u Σ|x||w|, one rounding for each array that is stored in 16 bits, and 2^-10 Σ|x||w| for TF32. What a mask drops
must be exactly 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import fusedrop
from fusedrop import reference
from fusedrop._core import Philox
from fusedrop.cuda.comparison import HALF, LEAST, Arrays, require_close, require_mask
from fusedrop.reference.bounds import RoundedBounds
from fusedrop.reference.dropout import input_rng

RNG = Philox(seed=2**63 + 7, stream=3, step=11).at(row0=5, col0=64)
ODD = RNG.at(row0=3, col0=17).tied(repeat=3, period=5)  # from inside a group of 32 columns, with shared rows
TF32 = 2.0**-10  # both factors are rounded to 11 significant bits
LAYOUTS = ((), ("x",), ("w",), ("x", "w"))  # the operands that are transposed: their columns are contiguous


class Case(NamedTuple):
    """A layer, forward and backward."""

    name: str
    shape: tuple[int, int, int]  # M, K, N
    options: Mapping[str, Any] = MappingProxyType({})
    rng: Philox | None = RNG
    bias: bool = True
    residual: bool = False
    active: int = 0  # every so many columns of x is active; 0: all are
    layouts: tuple[tuple[str, ...], ...] = ((),)
    backward: bool = True
    key_on_device: bool = False


# Both sizes of tiles have four layouts. A product of fewer than 132 tiles of 128x128 has tiles of 64x64. Vectors of 16
# bytes are copied where each row begins at a multiple of them, and whole tiles where all of their rows exist. K is
# split where there are at most 132 tiles and K >= 512: active columns keep that product short. See
# csrc/cuda/gemm/loops.cu.
ODD_SHAPE, WHOLE, SMALL, LARGE = (37, 101, 53), (72, 136, 88), (13, 24, 40), (8321, 32, 129)
LISTED = (40, 200, 210)  # lists of columns that need more than one tile; a list is made of 4096 columns at a time
CASES = [
    Case("odd sizes", ODD_SHAPE, {"activation": "gelu", "p": 0.3}, layouts=((), ("x", "w"))),
    Case("whole tiles", WHOLE, {"activation": "relu", "p": 0.3}, residual=True, layouts=LAYOUTS),
    Case("no dropout", ODD_SHAPE, bias=False, layouts=((), ("w", "dy"))),
    Case("input dropout", ODD_SHAPE, {"activation": "silu", "p": 0.3, "input_p": 0.2}, layouts=((), ("x", "w", "dy"))),
    Case("odd origin", ODD_SHAPE, {"activation": "tanh", "p": 0.3, "dropout_first": True}, ODD, residual=True),
    Case("unit dropout", LISTED, {"activation": "gelu", "p": 0.4, "granularity": "unit"}, layouts=((), ("x", "w"))),
    Case("long list", (3, 5, 4500), {"activation": "relu", "p": 0.9, "granularity": "unit"}),
    Case(
        "unit dropout of x",
        LISTED,
        {"activation": "sigmoid", "p": 0.4, "dropout_first": True, "input_p": 0.3, "granularity": "unit"},
        active=3,
        residual=True,
    ),
    Case("active columns", WHOLE, {"activation": "relu", "p": 0.3}, active=3),
    Case("all dropped", SMALL, {"activation": "relu", "p": 1.0}),
    Case("key on the device", SMALL, {"activation": "gelu", "p": 0.3, "input_p": 0.2}, key_on_device=True),
    Case("K is split", (9, 1100, 11), {"activation": "relu", "p": 0.3}),
    Case("many rows", (2100, 9, 5), {"activation": "relu", "p": 0.3}),
    Case("one element", (1, 1, 1), {"activation": "relu"}),
    Case("K = 0", (5, 0, 9), {"activation": "gelu", "p": 0.3}),
    Case("M = 0", (0, 7, 9), {"activation": "gelu", "p": 0.3}),
    Case("large tiles, K is split", (8321, 515, 129), {"activation": "relu"}, None, active=13, backward=False),
    Case("large tiles", LARGE, {}, None, bias=False, layouts=LAYOUTS[1:], backward=False),
]


def run(arrays: Arrays, tf32: bool = False) -> Iterator[str]:
    """Yields the name of each case, then runs it. Raises Difference for a wrong result."""
    yield from _compare_masks(arrays)
    for activation in fusedrop.activations:
        for first in (False, True):
            options = {"activation": activation, "p": 0.3, "dropout_first": first}
            yield from _compare(arrays, Case(f"{activation}, dropout_first={first}", SMALL, options), tf32)
    for case in CASES:
        yield from _compare(arrays, case, tf32)


def _compare_masks(arrays: Arrays) -> Iterator[str]:
    """Layers whose results are 0 exactly where the mask drops: of ones, and with the identity as the weight."""
    large, K = (LARGE[0], LARGE[2]), 8
    for (M, N), rng in itertools.product(((72, 88), large), (RNG, ODD)):
        yield f"mask of y, [M, N] = {[M, N]}, {rng}"
        y = fusedrop.linear(arrays.put(np.ones((M, K))), arrays.put(np.ones((N, K))), p=0.4, rng=rng)
        require_mask("mask", arrays.get(y) != 0, fusedrop.dropout_mask((M, N), p=0.4, rng=rng))
    M, N = 72, 88
    for rng in (RNG, ODD):
        yield f"mask of x, [M, K] = {[M, N]}, {rng}"
        y = fusedrop.linear(arrays.put(np.ones((M, N))), arrays.put(np.eye(N)), input_p=0.4, rng=rng)
        require_mask("mask", arrays.get(y) != 0, fusedrop.dropout_mask((M, N), p=0.4, rng=input_rng(rng)))


def _compare(arrays: Arrays, case: Case, tf32: bool) -> Iterator[str]:
    M, K, N = case.shape
    x, w, dy = (arrays.draw(shape, seed) for seed, shape in enumerate(((M, K), (N, K), (M, N))))
    b = arrays.draw(N, 3) if case.bias else None
    options = {**case.options, "rng": case.rng}
    if case.residual:
        options["residual"] = arrays.draw((M, N), 4)
    if case.active:
        options["active_inputs"] = np.arange(K) % case.active == 1
        x[:, ~options["active_inputs"]] = np.nan  # no kernel reads them
    y, saved = reference.linear_forward(x, w, b, **options)
    bounds = RoundedBounds(saved, b, HALF[arrays.dtype], LEAST[arrays.dtype], TF32 if tf32 else 0.0)
    y_bound = bounds.y(y, options.get("residual"))
    if not saved.dropout_first:
        y_bound = np.where(saved.keep, y_bound, 0.0)
    given = {name: arrays.put(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}
    if case.key_on_device and case.rng is not None:
        given["rng"] = key_on_device(arrays, case.rng)
    if case.backward:
        wanted = list(zip(("dx", "dw", "db"), reference.linear_backward(dy, saved), bounds.gradients(dy), strict=True))
        wanted[0] = ("dx", wanted[0][1], np.where(saved.keep_x, wanted[0][2], 0.0))
    for layout in case.layouts:
        yield f"{case.name}, [M, K, N] = {list(case.shape)}" + (f", transposed {', '.join(layout)}" if layout else "")
        operands = [arrays.put(a, name in layout) for name, a in (("x", x), ("w", w))]
        operands += [] if b is None else [arrays.put(b)]
        got, context = fusedrop.linear_forward(*operands, out=arrays.unwritten((M, N)), **given)
        require_close("y", arrays.get(got), y, y_bound)
        if case.backward:
            _compare_gradients(arrays, arrays.put(dy, "dy" in layout), context, wanted)


def _compare_gradients(arrays: Arrays, dy: Any, context: Any, wanted: list[tuple[str, Any, Any]]) -> None:
    places = {name: want is not None and arrays.unwritten(want.shape) for name, want, _ in wanted}
    gradients = fusedrop.linear_backward(dy, context, **places)
    for (name, want, bound), got in zip(wanted, gradients, strict=True):
        if want is not None:
            require_close(name, arrays.get(got), want, bound)


def key_on_device(arrays: Arrays, rng: Philox) -> Any:
    """The same key in the device's memory."""
    from fusedrop.cuda import DevicePhilox

    drawn = np.array([rng.seed, rng.step, rng.stream], np.uint64).view(np.int64)
    return DevicePhilox(arrays.put(drawn)).at(rng.row0, rng.col0).tied(rng.repeat, rng.period)
