"""Arrays on a device, and their comparison with what the CPU computes. No array library is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusedrop import _core

HALF = {"float32": 0.0, "bfloat16": 2.0**-8, "float16": 2.0**-11}  # relative error of rounding to the type
LEAST = {"float32": 0.0, "bfloat16": 0.0, "float16": 2.0**-25}  # its absolute error below the normal numbers


class Difference(Exception):
    """A result that is not the CPU's. The message names the element, both values and the bound of the error."""


class Arrays:
    """Makes arrays of one dtype on one device, and reads them. Values are float64 or bool on the CPU."""

    def __init__(self, device: int, dtype: str):
        self.device, self.dtype = device, dtype

    def draw(self, shape: int | tuple[int, ...], seed: int) -> Any:
        """Normal values that the dtype represents exactly, in float64."""
        return self.rounded(np.random.default_rng(seed).standard_normal(shape))

    def rounded(self, values: Any) -> Any:
        return _values(_stored(values, self.dtype), self.dtype)

    def put(self, values: Any, transposed: bool = False) -> Any:
        """An array on the device; `transposed`: a view of a matrix whose columns are contiguous."""
        if transposed:
            return self.put(np.transpose(values)).T
        values = np.ascontiguousarray(values)
        if values.dtype.kind in "bi":
            return _core.to_device(values, self.device, values.dtype.name)
        return _core.to_device(_stored(values, self.dtype), self.device, self.dtype)

    def unwritten(self, shape: tuple[int, ...], dtype: type = float) -> Any:
        """An array for a result, full of NaN or of True: an element that no kernel writes is then wrong."""
        return self.put(np.full(shape, np.nan if dtype is float else True, dtype))

    def get(self, array: Any) -> Any:
        host = _core.to_host(array)
        return host if host.dtype == np.bool_ else _values(host, array.dtype)


def _stored(values: Any, dtype: str) -> Any:
    """Rounded to nearest, as the CPU holds the dtype: bfloat16 as uint16 of its bits."""
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return np.asarray(values).astype(dtype)
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _values(stored: Any, dtype: str) -> Any:
    if dtype == "bfloat16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float64)


def require_close(what: str, got: Any, want: Any, bound: Any = 0.0) -> None:
    """Raises Difference, which names the worst element, unless |got - want| <= bound everywhere and no NaN is new."""
    if got.shape != want.shape:
        raise Difference(f"{what}: got shape {list(got.shape)}, expected {list(want.shape)}")
    bound = np.broadcast_to(bound, want.shape)
    with np.errstate(invalid="ignore"):
        error = np.abs(got - want)
    error[(got == want) | (np.isnan(got) & np.isnan(want))] = 0.0
    error[np.isnan(error)] = np.inf
    wrong = error > bound
    if wrong.any():
        at = np.unravel_index(np.argmax(np.where(wrong, error - bound, -1.0)), want.shape)
        raise Difference(
            f"{_element(what, at)}: got {got[at]:.9g}, expected {want[at]:.9g}, error bound {bound[at]:.3g}; "
            f"{np.count_nonzero(wrong)} of {want.size} elements differ"
        )


def require_mask(what: str, got: Any, want: Any) -> None:
    """Raises Difference for the first wrong bit of a mask."""
    wrong = got != want
    if wrong.any():
        at = np.unravel_index(np.argmax(wrong), want.shape)
        raise Difference(
            f"{_element(what, at)}: got {bool(got[at])}, expected {bool(want[at])}; "
            f"{np.count_nonzero(wrong)} of {want.size} bits differ"
        )


def _element(what: str, at: Any) -> str:
    return f"{what}[{', '.join(str(int(i)) for i in at)}]"
