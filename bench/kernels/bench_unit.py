"""Unit dropout against element dropout and none: one layer, a chain, a training step.

    python -m bench.kernels.bench_unit [--threads N] [--json FILE] [--plot FILE]

Forward and backward, relu, float32. Every ratio is to the time of the same layer at p = 0, interleaved in one process.
At the break-even p unit dropout takes as long as no dropout.
"""

from __future__ import annotations

import argparse
import sys

from bench.support.harness import geometric_mean, interleaved, print_machine, write_json

# isort: split
# The harness is imported before NumPy: it sets how soon OpenBLAS's threads go to sleep.
import fusedrop as fd
import numpy as np

from bench.support.peers import Problem

SHAPES = ["256x784x512", "1024x1024x1024", "512x2048x1024"]
RATES = [0.02, 0.03, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9]
CHAIN = (512, 1024, 4)  # rows, width, layers


def check(problem: Problem, p: float) -> None:
    """Unit dropout's results equal those of the smaller matrices, bit for bit."""
    q, rng = problem, fd.Philox(seed=1)
    y, saved = fd.linear_forward(q.x, q.w, q.b, p=p, rng=rng, granularity="unit")
    keep = fd.dropout_mask((1, q.N), p=p, rng=rng, granularity="unit")[0]
    bare, small = fd.linear_forward(q.x, q.w[keep], q.b[keep])
    scale = np.float32(65536 / (65536 - round(65536 * p)))
    dx, dw, _ = fd.linear_backward(q.dy, saved)
    want_dx, want_dw, _ = fd.linear_backward(q.dy[:, keep] * scale, small)
    same = (
        np.array_equal(y[:, keep], bare * scale) and np.array_equal(dx, want_dx) and np.array_equal(dw[keep], want_dw)
    )
    if not same or y[:, ~keep].any() or dw[~keep].any():
        sys.exit(f"wrong result, nothing timed: unit dropout at p = {p}")


def layer_calls(problem: Problem) -> dict[str, object]:
    """Forward and backward of one layer, by granularity and rate."""
    q, rng = problem, fd.Philox(seed=1)
    out = np.empty_like(q.dy)
    gradients = {"dx": np.empty_like(q.x), "dw": np.empty_like(q.w), "db": np.empty_like(q.b)}

    def call(p, granularity):
        def run():
            options = {"activation": "relu", "p": p, "rng": rng, "granularity": granularity}
            _, saved = fd.linear_forward(q.x, q.w, q.b, out=out, **options)
            fd.linear_backward(q.dy, saved, **gradients)

        return run

    calls = {"none": call(0.0, "element"), "unit 0": call(0.0, "unit")}
    for p in RATES:
        calls[f"unit {p}"] = call(p, "unit")
    return calls | {"element 0.5": call(0.5, "element")}


def chain_calls() -> dict[str, object]:
    """Forward and backward of equal layers in a row: each skips the columns that the previous layer has dropped."""
    M, width, depth = CHAIN
    x = np.random.default_rng(0).standard_normal((M, width), np.float32)

    def call(p, granularity):
        layers = [fd.Linear(width, width, activation="relu", p=p, granularity=granularity) for _ in range(depth)]
        net = fd.Sequential(*layers, seed=1)
        return lambda: net.backward(net.forward(x))

    calls = {"none": call(0.0, "element"), "element 0.5": call(0.5, "element")}
    return calls | {f"unit {p}": call(p, "unit") for p in RATES}


def training_calls() -> dict[str, object]:
    """A training step of bench_training's 784-256-256-10 network, and of one with 1024 hidden units."""
    from bench.training.bench_training import BATCH, LR, SIZES

    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((BATCH, SIZES[0]), np.float32), rng.integers(0, SIZES[-1], BATCH)

    def call(hidden, granularity, rates):
        net = fd.Sequential(
            fd.Linear(SIZES[0], hidden, activation="relu", p=rates[0], granularity=granularity),
            fd.Linear(hidden, hidden, activation="relu", p=rates[1], granularity=granularity),
            fd.Linear(hidden, SIZES[-1]),
            seed=1,
        )
        optimizer = fd.training.SGD(net.parameters(), lr=LR / 100)

        def step():
            loss, dy = fd.softmax_cross_entropy(net.forward(x), labels)
            net.backward(dy, input_grad=False)
            optimizer.step()
            return loss

        return step

    calls = {}
    for hidden in (256, 1024):
        for name, granularity, rates in (
            ("none", "element", (0.0, 0.0)),
            ("element .2 .5", "element", (0.2, 0.5)),
            ("unit .2 .5", "unit", (0.2, 0.5)),
            ("unit .5 .5", "unit", (0.5, 0.5)),
        ):
            calls[f"{hidden}: {name}"] = call(hidden, granularity, rates)
    return calls


def break_even(ratios: dict[float, float]) -> float:
    """The p at which a least-squares line through the ratios for rates up to 0.1 crosses 1.

    A ratio is known to 1 or 2 % at best, and the effect at these rates is as small. A line through four ratios is
    therefore a better estimate than the first rate whose ratio lies below 1.
    """
    small = [p for p in ratios if p <= 0.1]
    slope, start = np.polyfit(small, [ratios[p] for p in small], 1)
    return float((1 - start) / slope)


def over_none(us: dict[str, float]) -> dict[float, float]:
    """Time at each rate over the time at p = 0, which was timed twice."""
    return {p: us[f"unit {p}"] / ((us["none"] + us["unit 0"]) / 2) for p in RATES}


def summarize(rows: dict[str, dict]) -> dict[str, float]:
    by_rate = [over_none(rows[shape]["us"]) for shape in SHAPES]
    mean = {p: geometric_mean([ratios[p] for ratios in by_rate]) for p in RATES}
    half = [rows[shape]["us"]["unit 0.5"] / rows[shape]["us"]["unit 0"] for shape in SHAPES]
    return {
        "one layer, p=.5 / p=0, geomean": geometric_mean(half),
        "chain, p=.5 / p=0": rows["chain"]["ratios"]["unit 0.5"],
        "break-even p, mean of the shapes": break_even(mean),
        "p=0: unit / element, geomean": geometric_mean([rows[shape]["ratios"]["unit 0"] for shape in SHAPES]),
    }


def _bare(key: str) -> str:
    """The candidate to compare with: the same network without dropout, such as "256: none"."""
    return f"{key.split(':')[0]}: none" if ":" in key else "none"


def timed(name: str, calls: dict) -> dict:
    times = {key: seconds * 1e6 for key, seconds in interleaved(calls).items()}
    ratios = {key: t / times[_bare(key)] for key, t in times.items()}
    print(f"\n{name}")
    for key, t in times.items():
        print(f"  {key:22s} {t:10.1f} us   / without dropout {ratios[key]:.3f}")
    return {"us": times, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--json", help="write the figures there")
    parser.add_argument("--plot", help="write the picture of time by rate there")
    options = parser.parse_args()
    fd.config.set_num_threads(options.threads)
    print_machine()
    rows = {}
    for shape in SHAPES:
        M, K, N = map(int, shape.split("x"))
        problem = Problem(M, K, N, "float32")
        for p in RATES:
            check(problem, p)
        rows[shape] = timed(f"one layer, {shape}, forward and backward", layer_calls(problem))
        print(f"  break-even p: {break_even(over_none(rows[shape]['us'])):.3f}")
    rows["chain"] = timed("{2} layers of {1} x {1} on {0} rows, forward and backward".format(*CHAIN), chain_calls())
    rows["training"] = timed("training step, 784-H-H-10, batch 256, H = 256 and 1024", training_calls())
    summary = summarize(rows)
    print("\n" + "\n".join(f"{name:34s} {value:.3f}" for name, value in summary.items()))
    if options.json:
        write_json(options.json, rows=rows, summary=summary)
    if options.plot:
        from bench.kernels.plot_unit import plot

        plot(rows, options.plot)


if __name__ == "__main__":
    main()
