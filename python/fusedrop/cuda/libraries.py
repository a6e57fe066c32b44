"""Array libraries without DLPack's exchange functions: how to get their current stream and make an array on a GPU.

    PyTorch   2.10 and later has the exchange functions; the adapter is for older ones and for subclasses that hide them
    CuPy      has not run on a GPU yet: docs/cuda.md

A library without an adapter, such as JAX, does not expose its stream: csrc/devices/memory.hpp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Adapter(NamedTuple):
    """The functions of a library that the CUDA module calls."""

    stream: Callable[[int], int]  # the current stream on a device, as the integer of its pointer
    empty: Callable[[Any, tuple[int, ...], str], Any]  # (like, shape, dtype): C order, contents unspecified


def _torch_stream(device):
    import torch

    return torch.cuda.current_stream(device).cuda_stream


def _torch_empty(like, shape, dtype):
    import torch

    return torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)


def _cupy_stream(device):
    import cupy

    with cupy.cuda.Device(device):
        return cupy.cuda.get_current_stream().ptr


def _cupy_empty(like, shape, dtype):
    import cupy

    with like.device:
        return cupy.empty(shape, like.dtype if dtype == like.dtype.name else dtype)


ADAPTERS = {
    "torch": Adapter(_torch_stream, _torch_empty),
    "cupy": Adapter(_cupy_stream, _cupy_empty),
}


def adapter_of(array: Any) -> Adapter | None:
    """The adapter of the library that defines the array's class or its nearest base class; None if there is none."""
    for base in type(array).__mro__:
        found = ADAPTERS.get(base.__module__.partition(".")[0])
        if found is not None:
            return found
    return None
