"""What only a GPU has: names of masks in its memory, products in TF32, and the module `fusedrop._cuda` itself."""

from __future__ import annotations

import importlib
from typing import Any

from fusedrop._core import Philox

HOW_TO_BUILD = "build fusedrop where nvcc 12 or later is found, with FUSEDROP_CUDA=ON"


def module() -> Any:
    """`fusedrop._cuda`, or None where this fusedrop was built without it or it cannot be loaded."""
    try:
        return importlib.import_module("fusedrop._cuda")
    except ImportError:
        return None


def required(what: str) -> Any:
    """`fusedrop._cuda`, or a RuntimeError that says what needs it."""
    try:
        return importlib.import_module("fusedrop._cuda")
    except ModuleNotFoundError:
        raise RuntimeError(f"{what} needs the CUDA module, which this fusedrop lacks: {HOW_TO_BUILD}") from None
    except ImportError as error:
        raise RuntimeError(f"{what} needs the CUDA module, which cannot be loaded: {error}") from error


def state() -> str:
    """One line: the CUDA module and the GPU it finds."""
    try:
        found = importlib.import_module("fusedrop._cuda")
    except ModuleNotFoundError:
        return "not built with CUDA"
    except ImportError as error:
        return f"built, and cannot be loaded: {error}"
    return found.state()


def tf32() -> bool:
    """Whether float32 layers on a GPU multiply in TF32."""
    found = module()
    return found is not None and found.tf32()


def use_tf32(on: bool) -> None:
    """Multiply float32 layers on a GPU in TF32 from now on: 10 bits of each factor, sums in float32; False: exactly.

    Off at import. A backward call multiplies as its forward call did. Raises RuntimeError without the CUDA module.
    """
    required("use_tf32").use_tf32(on)


class DevicePhilox:
    """Names one dropout mask by integers in a GPU's memory, which the kernels read when they run.

    A CUDA graph that was captured with it draws the mask that `drawn` names at each replay: change `drawn` between
    replays, or inside the graph (`drawn[1] += 1`). For arrays on that GPU alone. Backward reads it again: it must then
    hold what it held in the forward pass, so a step that is captured as a whole changes it last.

    Args:
        drawn: int64 [2] = (seed, step) or [3] = (seed, step, stream), C-contiguous, on the GPU; a seed of 2^63 or more
            as the int64 of the same bits. The caller keeps it alive as long as a graph may be replayed.
        stream: as `fusedrop.Philox`; left out where `drawn` holds it.
        row0, col0, repeat, period: as `fusedrop.Philox`.

    The mask equals that of fusedrop.Philox(seed, stream, step, ...), bit for bit.

    Raises:
        TypeError, ValueError: as `fusedrop.Philox`, or from the call that uses it for a wrong `drawn`.
        RuntimeError: without the CUDA module.
    """

    __slots__ = ("drawn", "origin")

    def __init__(
        self,
        drawn: Any,
        stream: int = 0,
        row0: int = 0,
        col0: int = 0,
        repeat: int = 1,
        period: int | None = None,
    ):
        required("DevicePhilox")
        self.drawn = drawn
        self.origin = Philox(0, stream, 0, row0, col0, repeat, period)

    def at(self, row0: int = 0, col0: int = 0) -> DevicePhilox:
        """The same mask, for an array that begins at (row0, col0) of it."""
        return self._with(self.origin.at(row0, col0))

    def tied(self, repeat: int = 1, period: int | None = None) -> DevicePhilox:
        """Rows share masks: row r draws row (r // repeat) % period."""
        return self._with(self.origin.tied(repeat, period))

    def _with(self, origin: Philox) -> DevicePhilox:
        name = object.__new__(DevicePhilox)
        name.drawn, name.origin = self.drawn, origin
        return name

    def __repr__(self):
        o = self.origin
        return (
            f"DevicePhilox({self.drawn!r}, stream={o.stream}, row0={o.row0}, col0={o.col0}, repeat={o.repeat}, "
            f"period={o.period})"
        )
