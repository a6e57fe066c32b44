"""Max and average pooling, forward and backward, in both layouts, against PyTorch (channels_last for NHWC).

    python -m bench.kernels.bench_pool [--threads N] [--json FILE]

Every result is first compared with PyTorch's. Figures are interleaved medians. "copy" is NumPy's copy of x, the time to
read and write that much memory. GB/s counts x, y and the positions once in each direction.
"""

from __future__ import annotations

import argparse
import sys

from bench.support.harness import geometric_mean, interleaved, print_machine, write_json

# isort: split
# The harness is imported before NumPy: it sets how soon OpenBLAS's threads go to sleep.
import fusedrop as fd
import numpy as np
import torch

# B, C, H, W, kernel_size, stride, padding
SHAPES = [(100, 64, 32, 32, 3, 2, 0), (100, 64, 32, 32, 2, 2, 0), (100, 64, 15, 15, 3, 2, 0), (32, 64, 56, 56, 3, 1, 1)]
POOLS = {
    "max": (fd.max_pool2d_forward, fd.max_pool2d_backward, torch.nn.functional.max_pool2d),
    "avg": (fd.avg_pool2d_forward, fd.avg_pool2d_backward, torch.nn.functional.avg_pool2d),
}


def ours(pool: str, x: np.ndarray, layout: str, sizes: tuple[int, ...]):
    """A call of forward and backward; returns (y, dx)."""
    forward, backward, _ = POOLS[pool]
    dy = np.ones_like(forward(x, *sizes, layout=layout)[0])

    def call():
        y, saved = forward(x, *sizes, layout=layout)
        return y, backward(dy, saved)

    return call


def torchs(pool: str, x: np.ndarray, layout: str, sizes: tuple[int, ...]):
    """The same computation by PyTorch's autograd, on the same memory."""
    tensor = torch.from_numpy(x if layout == "NCHW" else x.transpose(0, 3, 1, 2)).requires_grad_()
    function = POOLS[pool][2]
    dy = torch.ones_like(function(tensor, *sizes))

    def call():
        y = function(tensor, *sizes)
        tensor.grad = None
        y.backward(dy)
        return y, tensor.grad

    return call


def check(call, peer, layout: str, exact: bool) -> None:
    for got, want in zip(call(), peer(), strict=True):
        array = want.detach().numpy()
        array = array if layout == "NCHW" else array.transpose(0, 2, 3, 1)
        right = np.array_equal(got, array) if exact else np.allclose(got, array, rtol=1e-5, atol=1e-5)
        if got.shape != array.shape or not right:
            sys.exit("nothing timed: the results differ from PyTorch's")


def measure(pool: str, layout: str, shape: tuple[int, ...]) -> dict[str, object]:
    b, c, h, w, *sizes = shape
    x = np.random.default_rng(0).standard_normal((b, c, h, w) if layout == "NCHW" else (b, h, w, c), np.float32)
    call, peer = ours(pool, x, layout, tuple(sizes)), torchs(pool, x, layout, tuple(sizes))
    check(call, peer, layout, exact=pool == "max")
    seconds = interleaved({"fusedrop": call, "torch": peer, "copy": x.copy})
    y, _ = call()
    moved = 2 * (x.nbytes + y.nbytes + (y.size if pool == "max" else 0))
    print(
        f"{pool} {layout} {'x'.join(map(str, shape[:4]))} {sizes[0]}x{sizes[0]}/{sizes[1]}: "
        f"{seconds['fusedrop'] * 1e3:.2f} ms, {moved / seconds['fusedrop'] / 1e9:.1f} GB/s, "
        f"torch {seconds['torch'] * 1e3:.2f} ms, copy of x {seconds['copy'] * 1e3:.2f} ms, "
        f"torch / ours {seconds['torch'] / seconds['fusedrop']:.2f}"
    )
    return {"pool": pool, "layout": layout, "shape": shape, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    fd.config.set_num_threads(arguments.threads)
    torch.set_num_threads(fd.config.get_num_threads())
    print_machine(torch=torch.__version__)
    rows = [measure(pool, layout, shape) for pool in POOLS for layout in ("NCHW", "NHWC") for shape in SHAPES]
    ratios = [row["seconds"]["torch"] / row["seconds"]["fusedrop"] for row in rows]
    print(f"torch / ours, geometric mean {geometric_mean(ratios):.2f}, least {min(ratios):.2f}")
    if arguments.json:
        write_json(arguments.json, rows=rows, torch=torch.__version__)


if __name__ == "__main__":
    main()
