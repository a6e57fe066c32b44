"""The convolutions of the net in examples/06: conv, relu and dropout 0.5, forward and backward, batch 100.

    python -m bench.kernels.bench_conv [--threads N] [--layout NCHW|NHWC] [--json FILE]

The peers are torch eager (conv2d, relu, dropout; channels_last for NHWC) and the same without dropout. First, values
and gradients are compared with torch's at p = 0. The first layer computes no gradient of its images, as in training.
Figures are interleaved medians; GFLOP/s counts products with padding as if they were computed.
"""

from __future__ import annotations

import argparse
import sys

from bench.support.harness import geometric_mean, interleaved, measured_peak, print_machine, write_json

# isort: split
# The harness is imported before NumPy: it sets how soon OpenBLAS's threads go to sleep.
import fusedrop as fd
import numpy as np
import torch

BATCH, P = 100, 0.5
# C, H = W, N, kernel, padding
LAYERS = [
    (3, 32, 64, 5, 2),
    (64, 16, 64, 5, 2),
    (64, 8, 128, 5, 2),
    (128, 8, 128, 5, 2),
    (128, 4, 256, 4, 2),
    (256, 5, 256, 4, 1),
    (256, 2, 512, 2, 0),
    (512, 1, 10, 1, 0),
]


def arrays(layer, layout):
    c, h, n, k, _ = layer
    draw = np.random.default_rng(0).standard_normal
    x = draw((BATCH, c, h, h), np.float32)
    x = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return x, draw((n, c, k, k), np.float32) * np.float32(1 / (k * np.sqrt(c))), draw(n, np.float32)


def fusedrop_call(layer, layout, p, first):
    """(y, dx, dw, db) of one forward and backward with dy = y."""
    x, w, b = arrays(layer, layout)
    options = {"padding": layer[4], "layout": layout, "activation": "relu", "p": p, "rng": fd.Philox(1)}

    def call():
        y, saved = fd.conv2d_forward(x, w, b, **options)
        return y, *fd.conv2d_backward(y, saved, dx=not first)

    return call


def torch_call(layer, layout, p, first):
    x, w, b = arrays(layer, layout)
    image = torch.from_numpy(x if layout == "NCHW" else x.transpose(0, 3, 1, 2)).requires_grad_(not first)
    weight, bias = torch.from_numpy(w).requires_grad_(), torch.from_numpy(b).requires_grad_()

    def call():
        image.grad = weight.grad = bias.grad = None
        y = torch.relu(torch.nn.functional.conv2d(image, weight, bias, padding=layer[4]))
        y = torch.nn.functional.dropout(y, p) if p else y
        y.backward(y.detach())
        return y.detach(), image.grad, weight.grad, bias.grad

    return call


def check(layer, layout):
    ours, theirs = fusedrop_call(layer, layout, 0.0, False)(), torch_call(layer, layout, 0.0, False)()
    for name, got, want in zip(("y", "dx", "dw", "db"), ours, theirs, strict=True):
        want = want.numpy()
        want = want if layout == "NCHW" or want.ndim != 4 or name == "dw" else want.transpose(0, 2, 3, 1)
        # A sum has up to 100k products: 4e-3 of the largest element is over 30 times float32's rounding of such sums.
        if not np.abs(got - want).max() <= 4e-3 * np.abs(want).max():
            sys.exit(f"nothing timed: {name} of {layer} differs from torch by {np.abs(got - want).max()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--layout", choices=("NCHW", "NHWC"), default="NCHW")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    fd.config.set_num_threads(options.threads)
    torch.set_num_threads(fd.config.get_num_threads())
    peak = measured_peak()
    print_machine(torch=torch.__version__, layout=options.layout, peak_gflops=round(peak))
    names = f"{'fusedrop':>10}{'p = 0':>10}{'torch':>10}{'no dropout':>12}"
    print(f"{'C, H, N, kernel, padding':26}{names}  ours/torch  GFLOP/s")
    rows = []
    for layer in LAYERS:
        check(layer, options.layout)
        first = layer is LAYERS[0]
        seconds = interleaved(
            {
                "fusedrop": fusedrop_call(layer, options.layout, P, first),
                "fusedrop without dropout": fusedrop_call(layer, options.layout, 0.0, first),
                "torch": torch_call(layer, options.layout, P, first),
                "torch without dropout": torch_call(layer, options.layout, 0.0, first),
            }
        )
        rows.append({"layer": layer, "seconds": seconds})
        print_row(layer, seconds, first)
    ours, torch_all, plain = (
        sum(row["seconds"][n] for row in rows) for n in ("fusedrop", "torch", "torch without dropout")
    )
    ratios = [row["seconds"]["fusedrop"] / row["seconds"]["torch"] for row in rows]
    print(f"all layers: fusedrop / torch {ours / torch_all:.2f}, / torch without dropout {ours / plain:.2f}")
    print(f"single layers: fusedrop / torch geomean {geometric_mean(ratios):.2f}, worst {max(ratios):.2f}")
    if options.json:
        write_json(options.json, layout=options.layout, batch=BATCH, peak_gflops=peak, rows=rows)


def print_row(layer, seconds, first):
    c, h, n, k, padding = layer
    out = h + 2 * padding - k + 1
    flop = 2 * BATCH * out * out * n * c * k * k * (2 if first else 3)
    times = "".join(f"{t * 1e3:>{width}.2f}" for t, width in zip(seconds.values(), (10, 10, 10, 12), strict=True))
    ratio, speed = seconds["fusedrop"] / seconds["torch"], flop / seconds["fusedrop"] / 1e9
    print(f"{layer!s:26}{times}  {ratio:>10.2f}  {speed:>7.0f}", flush=True)


if __name__ == "__main__":
    main()
