"""Monte-Carlo dropout: mean and std over 100 masks, 784-256-256-10, relu, dropout .2 and .5, batch 256.

    python -m bench.torch.bench_monte_carlo [--samples 100] [--threads N] [--json FILE]

Compares fusedrop.torch.mc_dropout with a loop of training-mode calls: of a torch.nn.Dropout model in PyTorch eager, and
of the fused model. Nothing is timed unless all agree on mean and std within the sampling error. Times are medians of
interleaved runs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable

from bench.support.harness import interleaved, print_machine, write_json

# isort: split
# harness is imported before NumPy: it sets OpenBLAS's threads to sleep early
import fusedrop as fd
import torch
from fusedrop.torch import Linear, mc_dropout
from fusedrop.torch.mc.monte_carlo import Prediction

from bench.torch.bench_torch import classifier

SIZES, RATES, BATCH = (784, 256, 256, 10), (0.2, 0.5), 256


def fused_model(model: torch.nn.Sequential) -> torch.nn.Sequential:
    """The same model with fused layers and the same weights."""
    first, second, last = (Linear(k, n) for k, n in itertools.pairwise(SIZES))
    for ours, theirs in zip((first, second, last), model[::3], strict=True):
        ours.load_state_dict(theirs.state_dict())
    for layer, rate in zip((first, second), RATES, strict=True):
        layer.activation, layer.p = "relu", rate
    return torch.nn.Sequential(first, second, last)


def loop(model: torch.nn.Module, x: torch.Tensor, samples: int) -> Callable[[], Prediction]:
    """The loop that a user writes without mc_dropout."""

    def run() -> Prediction:
        model.train()
        with torch.inference_mode():
            std, mean = torch.std_mean(torch.stack([model(x) for _ in range(samples)]), 0)
        return Prediction(mean, std)

    return run


def candidates(samples: int) -> dict[str, Callable[[], Prediction]]:
    torch.manual_seed(0)
    plain, x = classifier(RATES), torch.randn(BATCH, SIZES[0])
    fused = fused_model(plain)
    return {
        "mc_dropout": lambda: mc_dropout(fused, x, samples, progress=False),
        "mc_dropout, torch's modules": lambda: mc_dropout(plain, x, samples, progress=False),
        "loop, fused layers": loop(fused, x, samples),
        "loop, torch": loop(plain, x, samples),
    }


def check(runs: dict[str, Callable[[], Prediction]], samples: int) -> None:
    """Means differ by noise only: (a - b) / sqrt((s_a² + s_b²) / samples) has variance 1. Stds agree on average.

    The elements of a row share their masks, so the variance is known only to about 1 in sqrt(BATCH), or 6 %.
    """
    want = runs["loop, torch"]()
    for name, run in runs.items():
        got = run()
        error = ((got.std**2 + want.std**2) / samples).sqrt()
        variance = ((got.mean - want.mean) / error).square().mean().item()
        spread = (got.std / want.std).mean().item()
        if not (0.7 < variance < 1.3 and 0.97 < spread < 1.03):
            sys.exit(f"nothing timed: {name} has {variance=:.3f} (wanted 1) and std / torch's = {spread:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    fd.config.set_num_threads(options.threads)
    torch.set_num_threads(fd.config.get_num_threads())
    print_machine(torch=torch.__version__)
    runs = candidates(options.samples)
    check(runs, options.samples)
    times = {name: seconds * 1e3 for name, seconds in interleaved(runs).items()}
    ratios = {name: t / times["mc_dropout"] for name, t in times.items()}
    for name, t in times.items():
        print(f"{name:28s} {t:8.1f} ms for {options.samples} samples   / mc_dropout {ratios[name]:.2f}")
    if options.json:
        write_json(options.json, torch=torch.__version__, samples=options.samples, ms=times, ratios=ratios)


if __name__ == "__main__":
    main()
