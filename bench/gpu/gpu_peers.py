"""The candidates of bench_gpu.py: our layer, bare products, and the same layer in PyTorch, eager and compiled.

Each candidate is a callable without arguments that uses the next of several sets of inputs, so that no call finds its
inputs in the L2 cache. In a dry run the kernels are emulated on the host, for PyTorch's tensors of the CPU.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
from dataclasses import dataclass

import fusedrop as fd
import torch
from fusedrop import cuda
from torch.nn import functional

TYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "tf32": torch.float32,  # float32 arrays, products in TF32
}
RNG = fd.Philox(seed=1, stream=2, step=3)


@dataclass(frozen=True)
class Problem:
    """x [M, K] and dy [M, N] standard normal, w [N, K] with variance 1/K, so that the activation sees normal values."""

    M: int
    K: int
    N: int
    dtype: str
    device: str
    activation: str = "gelu"
    p: float = 0.1

    def __post_init__(self):
        generator = torch.Generator(self.device).manual_seed(0)

        def normal(*shape, scale=1.0):
            drawn = torch.randn(shape, generator=generator, device=self.device, dtype=torch.float32)
            return (drawn * scale).to(TYPES[self.dtype])

        def inputs():
            x, w = normal(self.M, self.K), normal(self.N, self.K, scale=1 / math.sqrt(self.K))
            return x, w, normal(self.N), normal(self.M, self.N)

        size = TYPES[self.dtype].itemsize * (self.M + self.N) * self.K
        sets = max(2, math.ceil(2 * cache_bytes(self.device) / size))
        object.__setattr__(self, "sets", [inputs() for _ in range(sets)])

    @property
    def shape(self) -> str:
        return f"{self.M}x{self.K}x{self.N}"

    @property
    def flop(self) -> int:
        return 2 * self.M * self.K * self.N


def cache_bytes(device: str) -> int:
    return torch.cuda.get_device_properties(device).L2_cache_size if device == "cuda" else 0


def load_emulated(path: str) -> None:
    """Register `_cuda` compiled for the host (CMake's FUSEDROP_CUDA_EMULATE), whose arrays are tensors of the CPU."""
    spec = importlib.util.spec_from_file_location("fusedrop._cuda", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["fusedrop._cuda"] = module
    cuda.load()


def our_layer(x, w, b, *, save, activation="gelu", p=0.0, rng=RNG, **options):
    """Our layer: y, or (y, context) if it saves what backward needs."""
    function = fd.linear_forward if save else fd.linear
    return function(x, w, b, activation=activation, p=p, rng=rng, **options)


def set_precision(dtype: str) -> None:
    """Exact float32 products, or TF32, in fusedrop and in PyTorch."""
    fd.config.set_tf32(dtype == "tf32")
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")


def rotating(problem: Problem, call):
    """A callable without arguments that runs `call(x, w, b, dy)` on the next set."""
    sets = itertools.cycle(problem.sets)
    return lambda: call(*next(sets))


def ours_candidates(problem: Problem) -> dict:
    def forward(p):
        return rotating(problem, lambda x, w, b, dy: our_layer(x, w, b, save=False, p=p))

    def both(p):
        def call(x, w, b, dy):
            y, saved = our_layer(x, w, b, save=True, p=p)
            return y, *fd.linear_backward(dy, saved)

        return rotating(problem, call)

    return {
        "ours forward": forward(problem.p),
        "ours forward p=0": forward(0.0),
        "ours forward+backward": both(problem.p),
        "ours forward+backward p=0": both(0.0),
    }


def product_candidates(problem: Problem) -> dict:
    """cuBLAS through torch.mm: the product of forward, and the three products of forward and backward."""

    def three(x, w, b, dy):
        return torch.mm(x, w.t()), torch.mm(dy, w), torch.mm(dy.t(), x)

    return {
        "torch.mm": rotating(problem, lambda x, w, b, dy: torch.mm(x, w.t())),
        "3 torch.mm": rotating(problem, three),
    }


def layer_candidates(problem: Problem, name: str) -> dict:
    """linear, gelu and dropout in PyTorch; `name` is "eager" or "compile"."""

    def layer(x, w, b):
        return functional.dropout(functional.gelu(functional.linear(x, w, b)), problem.p, training=True)

    if name == "compile":
        torch._dynamo.reset()
        # Without CUDA graphs, which would first copy every set of inputs into their own memory.
        layer = torch.compile(layer, mode="max-autotune-no-cudagraphs", dynamic=False)

    def forward(x, w, b, dy):
        with torch.no_grad():
            return layer(x, w, b)

    trained = [tuple(t.detach().requires_grad_() for t in (x, w, b)) for x, w, b, _ in problem.sets]
    sets = itertools.cycle(zip(trained, problem.sets, strict=True))

    def both():
        leaves, (_, _, _, dy) = next(sets)
        y = layer(*leaves)
        return y, *torch.autograd.grad(y, leaves, dy)

    return {f"{name} forward": rotating(problem, forward), f"{name} forward+backward": both}
