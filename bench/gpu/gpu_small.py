"""Runs every family of CUDA kernels once, on small odd shapes, for compute-sanitizer and the profiler.

    python -m bench.gpu.gpu_small [--large] [--emulated MODULE.so]

Inputs are made on the host and copied: only fusedrop's kernels run, and all memory that they may read was written by a
copy. --large runs one layer of 4096x4096x4096 in bfloat16 instead, forward and backward, for the profiler.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys

os.environ.setdefault("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")  # one allocation per array, for memcheck

import fusedrop as fd
import torch

from bench.gpu.gpu_peers import RNG, TYPES, load_emulated, our_layer

M, K, N = 67, 45, 83  # not multiples of a tile, a vec8 or a group of the mask
P = 0.3


class Runs:
    """Calls of one dtype; every result is checked on the host."""

    def __init__(self, place: str, dtype: str):
        self.place, self.dtype = place, TYPES[dtype]
        self.generator = torch.Generator().manual_seed(0)

    def array(self, *shape: int, transposed: bool = False) -> torch.Tensor:
        host = torch.randn(shape[::-1] if transposed else shape, generator=self.generator).to(self.dtype)
        there = host.to(self.place)
        return there.t() if transposed else there

    def layer(self, x, w, b=None, rng=RNG, **options) -> torch.Tensor:
        """Forward and backward; the result y, on the host."""
        y, saved = our_layer(x, w, b, save=True, rng=rng, **options)
        gradients = fd.linear_backward(self.array(*y.shape), saved)
        self.require_finite(y, *gradients)
        return y.cpu()

    def require_finite(self, *results) -> None:
        for result in results:
            if result is not None and not torch.isfinite(result.cpu()).all():
                sys.exit(f"a result that is not finite in {self.dtype}")

    def all(self) -> None:
        keep = torch.from_numpy(fd.dropout_mask((M, N), p=P, rng=RNG))
        for x_turned, w_turned in itertools.product((False, True), repeat=2):
            x, w = self.array(M, K, transposed=x_turned), self.array(N, K, transposed=w_turned)
            y = self.layer(x, w, self.array(N), activation="gelu", p=P)
            self.require(bool((y[~keep] == 0).all()), "layer")
        x, w, b = self.array(M, K), self.array(N, K), self.array(N)
        self.layer(x, w, b, activation="identity", p=0.0, rng=None)
        self.layer(x, w, activation="relu", p=P, input_p=0.2)
        self.layer(x, w, b, activation="tanh", p=P, dropout_first=True, residual=self.array(M, N))
        self.layer(x, w, b, activation="silu", p=P, granularity="unit")
        self.layer(x, w, b, activation="sigmoid", p=P, rng=RNG.at(row0=5, col0=17), input_p=0.2, granularity="unit")
        self.layer(self.array(9, 1500), self.array(11, 1500), p=P)  # few tiles with long sums
        dropped = fd.dropout(torch.ones(M, N, dtype=self.dtype).to(self.place), p=P, rng=RNG)
        self.require(torch.equal(dropped.cpu() != 0, keep), "dropout")
        drawn = torch.tensor([RNG.seed, RNG.step]).to(self.place)
        y = self.layer(x, w, b, activation="gelu", p=P, rng=fd.DevicePhilox(drawn, stream=RNG.stream))
        self.require(bool((y[~keep] == 0).all()), "layer whose mask key is in device memory")
        y, context = fd.activate_forward(x, "gelu")
        self.require_finite(y, fd.activate_backward(x, context))

    def require(self, equal: bool, what: str) -> None:
        if not equal:
            sys.exit(f"the mask of {what} in {self.dtype} is not the CPU's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="one large layer, for the profiler")
    parser.add_argument("--emulated", help="a _cuda made for the host: a dry run without a GPU")
    options = parser.parse_args()
    if options.emulated:
        load_emulated(options.emulated)
    place = "cpu" if options.emulated else "cuda"
    if options.large:
        size = 64 if options.emulated else 4096
        runs = Runs(place, "bfloat16")
        runs.layer(runs.array(size, size), runs.array(size, size), runs.array(size), activation="gelu", p=0.1)
    else:
        for dtype in TYPES:
            fd.config.set_tf32(dtype == "tf32")
            Runs(place, dtype).all()
    print("gpu_small: every call returned, masks equal the CPU's")


if __name__ == "__main__":
    main()
