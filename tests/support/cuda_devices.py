"""The devices of the CUDA tests: a GPU, and the emulation of the same kernels on the CPU.

The methods of Device have the names of fusedrop's functions, whose results they return, for tensors of PyTorch.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import _core
from repository import ROOT

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HALF = {"float32": 0.0, "bfloat16": 2.0**-8, "float16": 2.0**-11}  # relative error of rounding to the type
LEAST = {"float32": 0.0, "bfloat16": 0.0, "float16": 2.0**-25}  # absolute, below its normal numbers


class Device:
    """fusedrop's functions, and arrays that lie on the device."""

    def __init__(self, place):
        self.place = place

    def tensor(self, array, dtype=None):
        """A tensor with the values and the strides of a NumPy array."""
        made = torch.from_numpy(np.asarray(array)).to(self.place)
        return made if dtype is None else made.to(DTYPES[dtype])

    def empty(self, shape, dtype="float32", value=float("nan")):
        return torch.full(shape, value, dtype=DTYPES.get(dtype, getattr(torch, dtype)), device=self.place)

    def linear_forward(self, x, w, b=None, **options):
        return fd.linear_forward(x, w, b, **options)

    def linear(self, x, w, b=None, **options):
        return fd.linear(x, w, b, **options)

    def linear_backward(self, dy, saved, dx=True, dw=True, db=True):
        return fd.linear_backward(dy, saved, dx=dx, dw=dw, db=db)

    def dropout(self, x, p, rng=None, granularity="element", scaling="inverted"):
        return fd.dropout(x, p=p, rng=rng, granularity=granularity, scaling=scaling)

    def dropout_mask(self, shape, p, rng=None, granularity="element", out=None):
        out = self.empty(shape, "bool", False) if out is None else out
        return fd.dropout_mask(shape, p=p, rng=rng, granularity=granularity, out=out)

    def activate(self, x, activation):
        return fd.activate(x, activation)

    def activate_backward(self, dy, x, activation):
        return _core.activate_backward(dy, x, activation)


def wide(tensor):
    """The values of a tensor as a NumPy array of float64 (or bool)."""
    if tensor is None:
        return None
    tensor = tensor.cpu()
    return tensor.numpy() if tensor.dtype == torch.bool else tensor.double().numpy()


def stored(array, dtype):
    """An array rounded to `dtype`, in float64: the values that the kernels receive."""
    return torch.from_numpy(np.asarray(array)).to(DTYPES[dtype]).double().numpy()


def draw(shape, seed, dtype="float32"):
    return stored(np.random.default_rng(seed).standard_normal(shape), dtype)


def build_emulated(folder):
    """The path of `_cuda` compiled for the host; FUSEDROP_EMULATED_CUDA names one that was built before."""
    made = os.environ.get("FUSEDROP_EMULATED_CUDA")
    if made:
        return Path(made)
    for tool in ("cmake", "ninja"):
        pytest.importorskip(tool, reason=f"{tool} is not installed")
    cmake = Path(sys.executable).with_name("cmake")
    configure = [cmake, "-S", ROOT, "-B", folder, "-G", "Ninja", "-DFUSEDROP_CUDA=OFF", "-DFUSEDROP_CUDA_EMULATE=ON"]
    subprocess.run([*configure, f"-DPython_EXECUTABLE={sys.executable}"], check=True, capture_output=True)
    subprocess.run([cmake, "--build", folder, "--target", "_cuda_emulated"], check=True, capture_output=True)
    (module,) = (folder / "emulated").glob("_cuda*.so")
    return module


def load(path):
    spec = importlib.util.spec_from_file_location("fusedrop._cuda", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
