"""Does unit dropout regularize as well as element dropout? Two Fashion-MNIST networks, trained with each.

    python -m bench.kernels.study_unit [--data DIR] [--seeds 5] [--json FILE] [--plot FILE]

MLP: 784-256-256-10, SGD, batches of 256, 10 epochs, 50000 images. The rates and the learning rate of each granularity
are chosen by accuracy on the other 10000 training images; the test accuracy is reported for that choice. Overfitting
study: six hidden layers of 100, 300 images, SGD 0.01, batches of 100, 301 epochs. Figures are means and standard
deviations over the seeds.
"""

from __future__ import annotations

import argparse
import itertools

import fusedrop as fd
import numpy as np
from fusedrop.cli.datasets import load

from bench.support.harness import write_json

RATES = [(0.02, 0.05), (0.05, 0.1), (0.1, 0.3), (0.2, 0.5)]  # of the two hidden layers
LEARNING_RATES = [0.5, 0.2]
DEEP = {
    "no dropout": (0.0, "element"),
    "element .2": (0.2, "element"),
    "unit .2": (0.2, "unit"),
    "unit .05": (0.05, "unit"),
}


def accuracy(net: fd.Sequential, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(net.forward(x, train=False).argmax(axis=1) == y))


def epoch(net: fd.Sequential, sgd: fd.training.SGD, x: np.ndarray, y: np.ndarray, batches: list[np.ndarray]) -> None:
    for rows in batches:
        _, gradient = fd.softmax_cross_entropy(net.forward(x[rows]), y[rows])
        net.backward(gradient, input_grad=False)
        sgd.step()


def mlp(data, rates: tuple[float, float], granularity: str, lr: float, seed: int) -> tuple[float, float]:
    """(validation, test) accuracy after ten epochs."""
    options = {"activation": "relu", "init": 0.01, "granularity": granularity}
    layers = [fd.Linear(784, 256, p=rates[0], **options), fd.Linear(256, 256, p=rates[1], **options)]
    net = fd.Sequential(*layers, fd.Linear(256, 10, init=0.01), seed=seed)
    sgd, shuffle = fd.training.SGD(net.parameters(), lr=lr), np.random.default_rng(seed)
    split = shuffle.permutation(len(data.x_train))
    train, valid = split[:50000], split[50000:]
    for _ in range(10):
        epoch(net, sgd, data.x_train, data.y_train, np.array_split(shuffle.permutation(train), -(-len(train) // 256)))
    return accuracy(net, data.x_train[valid], data.y_train[valid]), accuracy(net, data.x_test, data.y_test)


def deep(data, p: float, granularity: str, seed: int) -> tuple[list[float], list[float]]:
    """(train, test) accuracy by epoch on 300 images."""
    sizes = [784, *[100] * 6, 10]
    hidden = [
        fd.Linear(k, n, activation="relu", p=p, granularity=granularity) for k, n in itertools.pairwise(sizes[:-1])
    ]
    net = fd.Sequential(*hidden, fd.Linear(100, 10), seed=seed)
    sgd, shuffle = fd.training.SGD(net.parameters(), lr=0.01), np.random.default_rng(seed)
    x, y = data.x_train[:300], data.y_train[:300]
    curves: tuple[list[float], list[float]] = ([], [])
    for _ in range(301):
        epoch(net, sgd, x, y, np.array_split(shuffle.permutation(300), 3))
        curves[0].append(accuracy(net, x, y))
        curves[1].append(accuracy(net, data.x_test, data.y_test))
    return curves


def study_mlp(data, seeds: int) -> dict[str, dict]:
    table = {}
    cases = [("none", (0.0, 0.0))] + [(granularity, rates) for granularity in ("element", "unit") for rates in RATES]
    for (granularity, rates), lr in itertools.product(cases, LEARNING_RATES):
        runs = [mlp(data, rates, granularity.replace("none", "element"), lr, seed) for seed in range(seeds)]
        valid, test = zip(*runs, strict=True)
        row = {"granularity": granularity, "rates": rates, "lr": lr, "valid": valid, "test": test}
        table[f"{granularity} {rates[0]} {rates[1]} lr {lr}"] = row
        print(describe(row), flush=True)
    for granularity in ("none", "element", "unit"):
        rows = [row for row in table.values() if row["granularity"] == granularity]
        print(f"best: {describe(max(rows, key=lambda row: np.mean(row['valid'])))}")
    return table


def describe(row: dict) -> str:
    test = row["test"]
    return (
        f"{row['granularity']:8s} p {row['rates']!s:12s} lr {row['lr']}  validation {np.mean(row['valid']):.4f}   "
        f"test {np.mean(test):.4f} +- {np.std(test, ddof=1):.4f}"
    )


def study_deep(data, seeds: int) -> dict[str, dict]:
    curves = {}
    for name, (p, granularity) in DEEP.items():
        runs = np.array([deep(data, p, granularity, seed) for seed in range(seeds)])  # [seeds, 2, epochs]
        train, test = runs.mean(axis=0)
        curves[name] = {"train": train.tolist(), "test": test.tolist(), "last": runs[:, :, -1].tolist()}
        print(f"{name:12s} train {train[-1]:.4f}   test {test[-1]:.4f} +- {runs[:, 1, -1].std(ddof=1):.4f}", flush=True)
    return curves


def plot(table: dict[str, dict], curves: dict[str, dict], path: str) -> None:
    """Left: test accuracy of the MLP by rate; right: the overfitting study's curves."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.3), layout="constrained")
    kinds = [("none", "black"), ("element", "#e69f00"), ("unit", "#0072b2")]
    for (offset, (granularity, color)), (lr, mark) in itertools.product(
        enumerate(kinds), zip(LEARNING_RATES, "os", strict=True)
    ):
        rows = [row for row in table.values() if row["granularity"] == granularity and row["lr"] == lr]
        shift = 0.14 * offset + (0.07 if mark == "s" else 0)
        at = [(-1 if granularity == "none" else RATES.index(tuple(row["rates"]))) + shift for row in rows]
        means, spread = ([f(row["test"]) for row in rows] for f in (np.mean, lambda a: np.std(a, ddof=1)))
        left.errorbar(at, means, spread, fmt=mark, color=color, capsize=3, label=f"{granularity}, lr {lr}")
    left.set_xticks(range(-1, len(RATES)), ["0", *(f"{a:g}, {b:g}" for a, b in RATES)])
    left.set(
        xlabel="p of the two hidden layers",
        ylabel="test accuracy, mean and std",
        title="784-256-256-10",
        ylim=(0.8, 0.9),
    )
    left.legend(frameon=False, title="dropout")
    for (name, curve), color in zip(curves.items(), ["black", "#e69f00", "#0072b2", "#56b4e9"], strict=True):
        right.plot(curve["train"], color=color, label=f"{name}: train")
        right.plot(curve["test"], "--", color=color, label="test")
    right.set(ylim=(0, 1.02), xlabel="epoch", ylabel="accuracy", title="300 images, six hidden layers of 100")
    right.legend(frameon=False, ncols=2, fontsize=8, loc="lower right")
    fig.savefig(path, dpi=130)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="folder with the four IDX files, plain or .gz")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", help="write the figures there")
    parser.add_argument("--plot", help="write the picture there")
    options = parser.parse_args()
    data = load(options.data)
    print(f"data: {data.name}, from {data.source}")
    table, curves = study_mlp(data, options.seeds), study_deep(data, options.seeds)
    if options.json:
        write_json(options.json, mlp=table, deep={name: curve["last"] for name, curve in curves.items()})
    if options.plot:
        plot(table, curves, options.plot)


if __name__ == "__main__":
    main()
