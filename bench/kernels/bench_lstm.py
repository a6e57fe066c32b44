"""Forward and backward of one LSTM layer, by default B = 64, T = 28, K = 28, H = 128, both rates .25, float32.

    python -m bench.kernels.bench_lstm [--shape B,T,K,H] [--peers torch,keras] [--threads N] [--json FILE]

Results are checked first: without dropout against torch.nn.LSTM, with dropout against Keras's own loop, which gets our
masks. Keras runs on its PyTorch backend. Figures are interleaved medians. torch.nn.LSTM has no recurrent dropout and is
timed without any.
"""

from __future__ import annotations

import argparse
import os
import sys

from bench.support.harness import interleaved, measured_peak, print_machine, write_json

# isort: split
# The harness is imported before NumPy: it sets how soon OpenBLAS's threads go to sleep.
import fusedrop as fd
import numpy as np

from bench.support.peers import installed

RATE, SEED, STREAM = 0.25, 1, 0
SHAPE = (64, 28, 28, 128)
CLOSE = 1e-4  # allowed difference over the largest element: float32 sums of up to B*T terms


def data(shape):
    B, T, K, H = shape
    rng = np.random.default_rng(0)
    return rng.standard_normal((B, T, K), np.float32), rng.standard_normal((B, T, H), np.float32)


def layer(shape, rate):
    """A new layer, always with the same weights."""
    rates = {"input_p": rate, "recurrent_p": rate}
    return fd.LSTM(shape[2], shape[3], return_sequences=True, seed=SEED, stream=STREAM, **rates)


def fusedrop_step(shape, rate):
    ours, (x, dy) = layer(shape, rate), data(shape)

    def step():
        y = ours.forward(x)
        return y, ours.backward(dy), *ours.grads.values()

    return step


def torch_step(shape):
    import torch

    torch.set_num_threads(fd.config.get_num_threads())
    theirs = torch.nn.LSTM(shape[2], shape[3], batch_first=True)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in layer(shape, 0).to_pytorch().items()})
    x, dy = map(torch.from_numpy, data(shape))
    x.requires_grad_()

    def step():
        theirs.zero_grad()
        x.grad = None
        y = theirs(x)[0]
        y.backward(dy)
        return y, x.grad, theirs.weight_ih_l0.grad, theirs.weight_hh_l0.grad, theirs.bias_ih_l0.grad

    return step


def keras_step(shape, rate, our_masks=False):
    """Keras's layer. With our_masks its cell gets the masks of our first training call."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    torch.set_num_threads(fd.config.get_num_threads())
    theirs = keras.layers.LSTM(shape[3], dropout=rate, recurrent_dropout=rate, return_sequences=True)
    theirs.build((None, None, shape[2]))
    theirs.set_weights(layer(shape, 0).to_keras())
    if our_masks:
        theirs.cell.get_dropout_mask = lambda _: masks(shape[0], shape[2], STREAM ^ 0x80000000)
        theirs.cell.get_recurrent_dropout_mask = lambda _: masks(shape[0], shape[3], STREAM)
    x, dy = map(torch.from_numpy, data(shape))
    x.requires_grad_()
    kernel, recurrent, bias = (v.value for v in theirs.trainable_variables)

    def step():
        theirs.zero_grad()
        x.grad = None
        y = theirs(x, training=True)
        y.backward(dy)
        return y, x.grad, kernel.grad.T, recurrent.grad.T, bias.grad

    return step


def masks(B, columns, stream):
    """Keras's four masks, 1 / (1 - p) where an element is kept and 0 elsewhere, from the keys of our masks."""
    import torch

    keys = [fd.Philox(SEED, stream, step=0, col0=gate * columns) for gate in range(4)]
    keep = [fd.dropout_mask((B, columns), p=RATE, rng=key) for key in keys]
    return [torch.from_numpy(k.astype(np.float32) / np.float32(1 - RATE)) for k in keep]


def check(name, got, want):
    """Ends the program where y or a gradient differs; nothing is timed then."""
    for part, a, b in zip(("y", "dx", "dw_ih", "dw_hh", "db"), got, want, strict=True):
        a, b = np.asarray(a), b.detach().numpy()
        if np.abs(a - b).max() > CLOSE * max(np.abs(b).max(), 1):
            sys.exit(f"nothing timed: {part} differs from {name}'s by {np.abs(a - b).max()}")
    print(f"checked against {name}: y and all gradients")


def candidates(shape, peers):
    steps = {"fusedrop": fusedrop_step(shape, RATE), "fusedrop without dropout": fusedrop_step(shape, 0.0)}
    if "torch" in peers:
        steps["torch without dropout"] = torch_step(shape)
        check("torch", steps["fusedrop without dropout"](), steps["torch without dropout"]())
    if "keras" in peers:
        steps |= {"keras": keras_step(shape, RATE), "keras without dropout": keras_step(shape, 0.0)}
        check("keras", fusedrop_step(shape, RATE)(), keras_step(shape, RATE, our_masks=True)())
    return steps


def flop(shape):
    """Forward multiplies by the weights once, backward twice."""
    B, T, K, H = shape
    return 3 * 2 * B * T * 4 * H * (K + H)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default=",".join(map(str, SHAPE)), help="B,T,K,H")
    parser.add_argument("--peers", default="torch,keras")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    fd.config.set_num_threads(options.threads)
    shape = tuple(int(size) for size in options.shape.split(","))
    present, absent = installed([name for name in options.peers.split(",") if name])
    print_machine()
    print(f"peers: {', '.join(present) or 'none'}" + (f"; absent: {', '.join(absent)}" if absent else ""))
    times = {name: s * 1e6 for name, s in interleaved(candidates(shape, present)).items()}
    ratios = {name: t / times["fusedrop"] for name, t in times.items()}
    peak = measured_peak()
    print(f"B, T, K, H = {shape}; {flop(shape) / 1e9:.3f} GFLOP forward and backward; peak {peak:.0f} GFLOP/s")
    for name, t in times.items():
        rate = flop(shape) / t / 1e3
        share = f"{rate:6.1f} GFLOP/s ({100 * rate / peak:.0f} %)"
        print(f"{name:26s} {t:9.1f} us   {share}   / fusedrop {ratios[name]:.3f}")
    if options.json:
        write_json(options.json, shape=shape, us=times, ratios=ratios, peak=peak, absent=absent)


if __name__ == "__main__":
    main()
