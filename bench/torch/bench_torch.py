"""fusedrop inside PyTorch: the training step of a patched model, and the cost of an operator call beyond its kernel.

    python -m bench.torch.bench_torch [--threads N] [--no-compile] [--json FILE]

Step: 784-256-256-10, relu, dropout .2 and .5, cross-entropy, torch.optim.SGD, batch 256; and a transformer's
feed-forward block, 64-256-64 over 512 rows, GELU, dropout .1. First the loss of every candidate is checked to fall.
Overhead: 8x16x8, whose kernel takes 2 us; the time of the operator minus that of the kernel on NumPy arrays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from bench.support.harness import interleaved, print_machine, write_json

# isort: split
# harness is imported before NumPy: it sets OpenBLAS's threads to sleep early
import fusedrop as fd
import fusedrop.torch as ft
import torch
from fusedrop.torch import operators


class FeedForward(torch.nn.Module):
    """x + dropout(w2 dropout(gelu(w1 x))), and a head for the loss."""

    def __init__(self, rate: float, width: int = 64):
        super().__init__()
        self.block = torch.nn.Sequential(
            torch.nn.Linear(width, 4 * width),
            torch.nn.GELU(),
            torch.nn.Dropout(rate),
            torch.nn.Linear(4 * width, width),
            torch.nn.Dropout(rate),
        )
        self.head = torch.nn.Linear(width, 10)

    def forward(self, x):
        return self.head(x + self.block(x))


def classifier(rates: tuple[float, float]) -> torch.nn.Module:
    nn = torch.nn
    net = nn.Sequential(
        *(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(rates[0])),
        *(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(rates[1])),
        nn.Linear(256, 10),
    )
    for name, parameter in net.named_parameters():
        torch.nn.init.normal_(parameter, std=0.01 if "weight" in name else 0.0)
    return net


def step(net: torch.nn.Module, batch: tuple[int, ...], lr: float, compiled: bool = False) -> Callable[[], float]:
    """A function that makes one training step on one batch and returns the loss."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, generator=generator)
    labels = torch.randint(10, batch[:-1], generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    call = torch.compile(net) if compiled else net

    def one():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(call(x).flatten(0, -2), labels.flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return one


def candidates(make: Callable, rate, batch: tuple[int, ...], lr: float, compiled: bool) -> dict:
    """{name: training step}, all from the same initial weights."""

    def net(change=lambda net: net):
        torch.manual_seed(0)
        return change(make(rate))

    steps = {
        "patched": step(net(ft.patch), batch, lr),
        "torch eager": step(net(), batch, lr),
        "torch eager, dropout off": step(net(without_dropout), batch, lr),
        "patched, dropout off": step(net(lambda n: ft.patch(without_dropout(n))), batch, lr),
    }
    if compiled:
        steps["torch.compile"] = step(net(), batch, lr, compiled=True)
        steps["torch.compile of patched"] = step(net(ft.patch), batch, lr, compiled=True)
    return steps


def without_dropout(net: torch.nn.Module) -> torch.nn.Module:
    """The net with its Dropout modules in eval mode."""
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    return net


def check(steps: dict) -> None:
    for name, one in steps.items():
        first, last = one(), [one() for _ in range(200)][-1]
        if not last < 0.9 * first:
            sys.exit(f"nothing timed: the loss of {name} went from {first:.3f} to {last:.3f}")


def overhead() -> dict[str, float]:
    """Microseconds per call of 8x16x8 with relu and dropout."""
    x, w, b = torch.randn(8, 16), torch.randn(8, 16), torch.randn(8)
    trained = [t.clone().requires_grad_() for t in (w, b)]
    arrays, rng = [t.numpy() for t in (x, w, b)], fd.Philox(7)
    options = ("relu", 0.5, 7, 0, 0, 0, 0, 1, 0, None, False, 0.0, "element")
    layer = ft.Linear(16, 8, activation="relu", p=0.5, seed=0)
    dy = torch.ones(8, 8)

    def kernels():
        saved = fd.linear_forward(*arrays, activation="relu", p=0.5, rng=rng)[1]
        return fd.linear_backward(dy.numpy(), saved, dx=False)

    def eager(x):
        return torch.dropout(torch.relu(torch.nn.functional.linear(x, *trained)), 0.5, True)

    calls = {
        "kernel": lambda: fd.linear(*arrays, activation="relu", p=0.5, rng=rng),
        "operator": lambda: operators.linear(x, w, b, None, *options),
        "operator, with a graph": lambda: operators.linear(x, *trained, None, *options),
        "functional.linear, with a graph": lambda: ft.linear(x, *trained, activation="relu", p=0.5, rng=rng),
        "module, with a graph": lambda: layer(x),
        "torch's three, with a graph": lambda: eager(x),
        "kernel, both ways": kernels,
        "operator, both ways": lambda: operators.linear(x, *trained, None, *options).backward(dy),
        "torch's three, both ways": lambda: eager(x).backward(dy),
    }
    return {name: seconds * 1e6 for name, seconds in interleaved(calls).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    fd.config.set_num_threads(options.threads)
    torch.set_num_threads(fd.config.get_num_threads())
    print_machine(torch=torch.__version__)
    record = {}
    workloads = {
        "784-256-256-10, batch 256": (classifier, (0.2, 0.5), (256, 784), 0.5),
        "feed-forward block, 512 rows": (FeedForward, 0.1, (16, 32, 64), 0.1),
    }
    for name, workload in workloads.items():
        steps = candidates(*workload, compiled=not options.no_compile)
        check(steps)
        times = {key: seconds * 1e6 for key, seconds in interleaved(steps).items()}
        record[name] = {"us": times, "ratios": {key: t / times["patched"] for key, t in times.items()}}
        print(name)
        for key, t in times.items():
            print(f"  {key:26s} {t:9.1f} us a step   / patched {record[name]['ratios'][key]:.3f}")
    calls = overhead()
    print("8x16x8, us a call")
    for key, us in calls.items():
        print(f"  {key:34s} {us:7.2f}   over the kernel {us - calls['kernel']:7.2f}")
    if options.json:
        write_json(options.json, torch=torch.__version__, steps=record, us_8x16x8=calls)


if __name__ == "__main__":
    main()
