"""Features of a GPU only: mask keys in its memory, products in TF32, and the module `fusedrop._cuda` itself."""

from __future__ import annotations

import importlib
from typing import Any

from fusedrop import _core
from fusedrop._core import Philox
from fusedrop.cuda.libraries import adapter_of

HOW_TO_BUILD = "build fusedrop where nvcc 12 or later is found, with FUSEDROP_CUDA=ON"


def module() -> Any:
    """`fusedrop._cuda`, or None if this fusedrop was built without it or it cannot be loaded."""
    try:
        return importlib.import_module("fusedrop._cuda")
    except ImportError:
        return None


def required(what: str) -> Any:
    """`fusedrop._cuda`; raises a RuntimeError that says what needs it if it is missing."""
    try:
        return importlib.import_module("fusedrop._cuda")
    except ModuleNotFoundError:
        raise RuntimeError(f"{what} needs the CUDA module, which this fusedrop lacks: {HOW_TO_BUILD}") from None
    except ImportError as error:
        raise RuntimeError(f"{what} needs the CUDA module, which cannot be loaded: {error}") from error


def load() -> None:
    """Register the kernels of `fusedrop._cuda`; raises an ImportError that says why there are none."""
    try:
        found = importlib.import_module("fusedrop._cuda")
    except ModuleNotFoundError:
        raise ImportError(HOW_TO_BUILD) from None
    _core.register_device(found.backend)


def verify(device: int, kernel: str) -> None:
    """Return if a kernel is verified on a device, now or by an earlier run; see `fusedrop.cuda.verification`."""
    from fusedrop.cuda import verification

    verification.verify(device, kernel)


def state() -> str:
    """One line: the CUDA module and the GPU it finds."""
    try:
        found = importlib.import_module("fusedrop._cuda")
    except ModuleNotFoundError:
        return "not built with CUDA"
    except ImportError as error:
        return f"built, and cannot be loaded: {error}"
    return found.state()


def get_tf32() -> bool:
    """Whether float32 layers on a GPU multiply in TF32."""
    return _core.get_tf32()


def set_tf32(on: bool) -> None:
    """Multiply float32 layers on a GPU in TF32 from now on: 10 bits of each factor, sums in float32. False: exactly.

    Off at import. A backward call multiplies as its forward call did. Raises RuntimeError without the CUDA module.
    """
    required("set_tf32")
    _core.set_tf32(on)


class DevicePhilox:
    """The key of one dropout mask, as integers in a GPU's memory that the kernels read when they run.

    A CUDA graph that was captured with it reads `drawn` at each replay and draws that mask: change `drawn` between
    replays, or inside the graph (`drawn[1] += 1`). It is for arrays on that GPU only. Backward reads `drawn` again. It
    must then have the values of the forward pass: a training step that is captured as a whole changes it last.

    Args:
        drawn: int64 [2] = (seed, step) or [3] = (seed, step, stream), C-contiguous, on the GPU; a seed of 2^63 or more
            is given as the int64 with the same bits. The caller keeps it alive as long as a graph may be replayed.
        stream: as in `fusedrop.Philox`; leave it out if `drawn` has the stream.
        row0, col0, repeat, period: as in `fusedrop.Philox`.

    The mask equals that of fusedrop.Philox(seed, stream, step, ...), bit for bit.

    Raises:
        TypeError, ValueError: as `fusedrop.Philox`; the call that uses the key raises them for a wrong `drawn`.
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
        """The same mask, for an array whose first element is element (row0, col0) of the mask."""
        return self._with(self.origin.at(row0, col0))

    def tied(self, repeat: int = 1, period: int | None = None) -> DevicePhilox:
        """The same mask with shared rows: row r uses mask row (r // repeat) % period."""
        return self._with(self.origin.tied(repeat, period))

    def _with(self, origin: Philox) -> DevicePhilox:
        key = object.__new__(DevicePhilox)
        key.drawn, key.origin = self.drawn, origin
        return key

    def __repr__(self):
        o = self.origin
        return (
            f"DevicePhilox({self.drawn!r}, stream={o.stream}, row0={o.row0}, col0={o.col0}, repeat={o.repeat}, "
            f"period={o.period})"
        )


# The compiled module calls these for the first operand on a GPU, for the first use of a kernel there, and for arrays of
# libraries that do not tell their stream.
_core.connect_devices(load, verify, adapter_of, DevicePhilox)
