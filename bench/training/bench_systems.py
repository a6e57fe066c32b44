"""One training step of the networks in examples/textbooks 02, 06 and 07, against the same networks in torch eager.

    python -m bench.training.bench_systems [--threads N] [--json FILE]

A step is forward, cross-entropy, backward and an update with SGD, on random data of the real shape: 784 to six layers
of 100 (batch 100), the convolutional net (batch 100, in NCHW and in NHWC, where torch uses channels_last),
784-256-256-10 (batch 256). Before timing, the loss of every network must fall. Figures are interleaved medians.
"""

from __future__ import annotations

import argparse
import itertools
import sys

from bench.support.harness import interleaved, print_machine, write_json

# isort: split
# The harness is imported before NumPy: it sets how soon OpenBLAS's threads go to sleep.
import fusedrop as fd
import numpy as np
import torch

LR = 0.01
MLPS = {
    "row 2: 784, 6 x 100, 10": (100, (784, 100, 100, 100, 100, 100, 100, 10), (0.2,) * 6),
    "row 7: 784-256-256-10": (256, (784, 256, 256, 10), (0.2, 0.5)),
}
CONVOLUTIONS = [  # C, N, kernel, padding, whether a pool follows, input_p
    (3, 64, 5, 2, True, 0.0),
    (64, 64, 5, 2, True, 0.0),
    (64, 128, 5, 2, False, 0.0),
    (128, 128, 5, 2, True, 0.0),
    (128, 256, 4, 2, False, 0.5),
    (256, 256, 4, 1, True, 0.0),
    (256, 512, 2, 0, False, 0.5),
    (512, 10, 1, 0, False, 0.0),
]


def batch(shape):
    draw = np.random.default_rng(0)
    return draw.standard_normal(shape, np.float32), draw.integers(0, 10, shape[0])


def mlp(sizes, rates):
    pairs = list(itertools.zip_longest(itertools.pairwise(sizes), rates, fillvalue=0.0))
    ours = [fd.Linear(k, n, activation="identity" if n == 10 else "relu", p=p, init="he") for (k, n), p in pairs]
    theirs: list[torch.nn.Module] = []
    for (k, n), p in pairs:
        theirs.append(torch.nn.Linear(k, n))
        theirs += [] if n == 10 else [torch.nn.ReLU(), torch.nn.Dropout(p)]
    return fd.Sequential(*ours, seed=1), torch.nn.Sequential(*theirs)


def convolutional(layout):
    ours: list[fd.Layer] = []
    theirs: list[torch.nn.Module] = []
    for c, n, k, padding, pooled, p in CONVOLUTIONS:
        activation = "identity" if n == 10 else "relu"
        ours.append(fd.Conv2d(c, n, k, padding=padding, activation=activation, input_p=p, layout=layout, init="he"))
        theirs += [torch.nn.Dropout(p)] if p else []
        theirs += [torch.nn.Conv2d(c, n, k, padding=padding), *([torch.nn.ReLU()] if n != 10 else [])]
        if pooled:
            ours.append(fd.MaxPool2d(3, 2, ceil_mode=True, layout=layout))
            theirs.append(torch.nn.MaxPool2d(3, 2, ceil_mode=True))
    net = torch.nn.Sequential(*theirs, torch.nn.Flatten())
    if layout == "NHWC":
        net = net.to(memory_format=torch.channels_last)
    return fd.Sequential(*ours, fd.Flatten(), seed=1), net


def copy_weights(net, module):
    """Copies our parameters into torch's module: both train the same network."""
    for p, q in zip(net.parameters(), module.parameters(), strict=True):
        with torch.no_grad():
            q.copy_(torch.from_numpy(p.value))


def fusedrop_step(net, x, labels):
    optimizer = fd.training.SGD(net.parameters(), lr=LR)

    def step():
        loss, gradient = fd.softmax_cross_entropy(net.forward(x), labels)
        net.backward(gradient, input_grad=False)
        optimizer.step()
        return loss

    return step


def torch_step(module, x, labels):
    optimizer = torch.optim.SGD(module.parameters(), lr=LR)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def systems():
    """Yields (name, our network, torch's module, x, x as a tensor, labels)."""
    for name, (size, sizes, rates) in MLPS.items():
        x, labels = batch((size, sizes[0]))
        yield name, *mlp(sizes, rates), x, torch.from_numpy(x), labels
    for layout in ("NCHW", "NHWC"):
        x, labels = batch((100, 3, 32, 32))
        tensor = torch.from_numpy(x)
        if layout == "NHWC":
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
            tensor = tensor.to(memory_format=torch.channels_last)
        yield f"row 6: convolutional net, {layout}", *convolutional(layout), x, tensor, labels


def check(name, step, steps):
    """The loss must fall on a repeated batch."""
    losses = [step() for _ in range(steps)]
    if not np.mean(losses[-3:]) < 0.98 * np.mean(losses[:3]):
        sys.exit(f"nothing timed: {name}'s loss went from {losses[0]:.3f} to {losses[-1]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    fd.config.set_num_threads(options.threads)
    torch.set_num_threads(fd.config.get_num_threads())
    print_machine(torch=torch.__version__)
    print(f"{'one training step, ms':36}{'fusedrop':>10}{'torch':>10}  torch / fusedrop")
    rows = []
    for name, net, module, x, tensor, labels in systems():
        copy_weights(net, module)
        steps = {
            "fusedrop": fusedrop_step(net, x, labels),
            "torch": torch_step(module, tensor, torch.from_numpy(labels)),
        }
        for framework, step in steps.items():
            check(f"{framework}, {name}", step, 12 if "row 6" in name else 60)
        seconds = interleaved(steps)
        rows.append({"system": name, "seconds": seconds})
        ours, theirs = seconds["fusedrop"], seconds["torch"]
        print(f"{name:36}{ours * 1e3:>10.2f}{theirs * 1e3:>10.2f}  {theirs / ours:>8.2f}", flush=True)
    if options.json:
        write_json(options.json, rows=rows)


if __name__ == "__main__":
    main()
