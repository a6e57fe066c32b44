"""Types in the signatures of the functions, imported at run time for typing.get_type_hints."""

from __future__ import annotations

from typing import Any, TypeAlias

from numpy.typing import NDArray

from fusedrop._core import Philox
from fusedrop.cuda import DevicePhilox

Array: TypeAlias = NDArray[Any]
"""An array of NumPy, or of any library that speaks DLPack."""

Rng: TypeAlias = Philox | DevicePhilox
"""The key of a mask: integers, or integers in a GPU's memory."""

Pair: TypeAlias = int | tuple[int, int]
"""One integer for both axes of an image, or (rows, columns)."""

Gradients: TypeAlias = tuple[Array | None, Array | None, Array | None]
"""(dx, dw, db); None for what was skipped."""
