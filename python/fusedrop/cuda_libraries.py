"""Array libraries without DLPack's exchange functions: how each tells its current stream and makes an array on a GPU.

    PyTorch   2.10 and later has the exchange functions; this is for older ones and for subclasses that hide them
    CuPy      not run so far: README.md
    NumPy     for the emulated build alone, whose "GPU" is the CPU

A library that is not here, such as JAX, does not tell its stream: csrc/bind/cuda/own_stream.hpp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Adapter(NamedTuple):
    """What the CUDA module asks a library for."""

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
    "numpy": Adapter(lambda device: 0, lambda like, shape, dtype: np.empty(shape, dtype)),
}


def adapter_of(array: Any) -> Adapter | None:
    """That of the library an array's class, or its nearest base class, comes from."""
    for base in type(array).__mro__:
        found = ADAPTERS.get(base.__module__.partition(".")[0])
        if found is not None:
            return found
    return None
