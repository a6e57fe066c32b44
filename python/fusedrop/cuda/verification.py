"""A kernel verifies itself on the device at hand: at its first use there, small odd problems are compared with the CPU.

Masks must be equal to the bit, values within derived bounds (linear_cases, elementwise_cases). A kernel that passes is
on, and is remembered for this device, driver and build (verified_cache). A kernel that fails raises RuntimeError at
each call, until the process ends; a later process verifies it again.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

import fusedrop
from fusedrop import _core
from fusedrop.cuda import elementwise_cases, linear_cases, verified_cache
from fusedrop.cuda.comparison import Arrays, Difference

DTYPES = ("float32", "bfloat16", "float16")
KERNELS = (
    "linear float32",
    "linear tf32",
    "linear bfloat16",
    "linear float16",
    *(f"dropout {dtype}" for dtype in DTYPES),
    "dropout_mask",
    *(f"activation {dtype}" for dtype in DTYPES),
)

VERIFIED = "verified"
_lock = threading.RLock()
_results: dict[tuple[str, str], str] = {}  # of this process: (key of a device, kernel) to VERIFIED or what is wrong
_again: set[tuple[str, str]] = set()  # to be verified although an earlier process has done it


def verify(device: int, kernel: str) -> None:
    """Return if `kernel` is verified on `device`, by an earlier process or now; the first use of the kernel calls this.

    Raises:
        RuntimeError: the kernel is wrong: the message names the case, the element, both values and the bound. Or a call
            failed: then nothing is remembered, and the next use verifies again.
    """
    with _lock:  # a second thread that needs the kernel waits for the result
        entry = key, _ = key_of(device), kernel
        if entry not in _results:
            known = None if entry in _again else _remembered(key).get(kernel)
            if known != VERIFIED:
                known = _compare(device, kernel)
                _remember(key, kernel, known)
            _again.discard(entry)
            _results[entry] = known
        if _results[entry] != VERIFIED:
            raise RuntimeError(_results[entry])


def verify_again(device: int, kernel: str) -> None:
    """Verify a kernel now, whether or not it has been verified before. One that was wrong in this process stays wrong.

    Raises:
        RuntimeError: as `verify`.
    """
    entry = key_of(device), kernel
    with _lock:
        if _results.get(entry) == VERIFIED:
            del _results[entry]
        _again.add(entry)
    _use(device, kernel)


def state(device: int, kernel: str) -> str:
    """The state of a kernel on a device, for `fusedrop info`: verified, not yet used, or failed and why."""
    key = key_of(device)
    found = _results.get((key, kernel)) or _remembered(key).get(kernel) or "not yet used"
    return found if found in (VERIFIED, "not yet used") else f"failed: {found}"


def devices() -> list[int]:
    """The devices that the CUDA module finds; none without a module."""
    from fusedrop import cuda

    module = cuda.module()
    if module is None:
        return []
    if module.emulated():
        return [0]
    found: list[int] = []
    with contextlib.suppress(RuntimeError):  # for the index after the last device
        while True:
            module.device_identity(len(found))
            found.append(len(found))
    return found


def name_of(device: int) -> str:
    """One line: its name, capability, UUID, driver and runtime."""
    return _module().device_identity(device)


def key_of(device: int) -> str:
    """The device with its driver, the version of fusedrop, and a hash of what computes and verifies."""
    return f"{name_of(device)}; fusedrop {fusedrop.__version__}; build {_build(_module().__file__)}"


def _module() -> Any:
    return importlib.import_module("fusedrop._cuda")


@functools.cache
def _build(module_file: str) -> str:
    return verified_cache.digest([module_file, _core.__file__, *verified_cache.own_sources()])


def _remembered(key: str) -> dict[str, str]:
    return {} if _module().emulated() else verified_cache.read(key)


def _remember(key: str, kernel: str, result: str) -> None:
    if not _module().emulated():  # the emulation is for tests, whose kernels are changed on purpose
        verified_cache.write(key, kernel, result)


def _use(device: int, kernel: str) -> None:
    """The smallest call of a kernel, as its first use: the compiled module then calls `verify`."""
    _core.register_device(_module().backend)  # it forgets which kernels are verified
    operator, arrays = _operator_and_arrays(device, kernel)
    x = arrays.put(np.ones((1, 1)))
    with _tf32_for(kernel):
        if operator == "linear":
            fusedrop.linear(x, x)
        elif operator == "activation":
            fusedrop.activate(x, "relu")
        elif operator == "dropout":
            fusedrop.dropout(x, p=0.5, rng=_core.Philox(0))
        else:
            fusedrop.dropout_mask((1, 1), p=0.5, rng=_core.Philox(0), out=arrays.unwritten((1, 1), bool))


@contextlib.contextmanager
def _tf32_for(kernel: str) -> Iterator[None]:
    before = _core.get_tf32()
    if kernel.startswith("linear"):
        _core.set_tf32(kernel == "linear tf32")
    try:
        yield
    finally:
        _core.set_tf32(before)


def _compare(device: int, kernel: str) -> str:
    """VERIFIED, or the message that says what is wrong. Errors of a call are raised."""
    where = f"the CUDA kernel '{kernel}' on device {device} ({name_of(device)})"
    case = "the first"
    try:
        with _tf32_for(kernel), np.errstate(all="ignore"):  # whatever the caller has set
            for name in _cases(device, kernel):
                case = name
    except Difference as difference:
        return (
            f"{where} is wrong and stays off: case '{case}': {difference}. Compute on the CPU, or update the NVIDIA "
            "driver; `fusedrop info --verify` verifies all kernels again"
        )
    except RuntimeError as error:
        raise RuntimeError(
            f"{where} could not be verified: case '{case}': {error}. The first use of a kernel verifies it, so it must "
            "not be part of the capture of a CUDA graph"
        ) from error
    return VERIFIED


def _cases(device: int, kernel: str) -> Iterator[str]:
    """Yields the name of each case, then runs it. Raises Difference for a wrong result."""
    operator, arrays = _operator_and_arrays(device, kernel)
    if operator == "linear":
        return linear_cases.run(arrays, tf32=kernel == "linear tf32")
    return {
        "dropout": elementwise_cases.dropout,
        "dropout_mask": elementwise_cases.masks,
        "activation": elementwise_cases.activations,
    }[operator](arrays)


def _operator_and_arrays(device: int, kernel: str) -> tuple[str, Arrays]:
    operator, _, dtype = kernel.partition(" ")
    return operator, Arrays(device, "float32" if dtype in ("tf32", "") else dtype)
