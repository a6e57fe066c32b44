"""Fused linear + relu + dropout against bare matmuls and whole layers of other libraries.

    python -m bench.kernels.bench_linear [--shapes 256x784x256,...] [--peers numpy,torch,torch.compile,jax]
        [--dtype float32] [--threads N] [--activations] [--json FILE] [--plot FILE]

Results are checked first. Then all candidates are timed interleaved in this process: medians, ratios within the run.
"""

from __future__ import annotations

import argparse
import sys

from bench.support.harness import geometric_mean, interleaved, measured_peak, print_machine, write_json

# isort: split
# The harness is imported before NumPy: it sets how soon OpenBLAS's threads go to sleep.
import fusedrop as fd
import numpy as np
from fusedrop import reference

from bench.support.peers import LACKING, PEERS, Fusedrop, Problem, installed

SHAPES = [
    "64x128x64",
    "128x512x512",
    "256x256x256",
    "256x784x256",
    "512x4096x1024",
    "1024x1024x1024",
    "2048x2048x2048",
    "4096x1024x1024",
    "60000x784x256",
    "8x1024x1024",
    "257x785x259",
]
SIX = [*SHAPES[1:6], "4096x1024x1024"]  # the shapes of the geometric means, from 128x512x512 up


def check(problem: Problem, peers: dict[str, object]) -> None:
    """Compares y, dx, dw, db with the float64 reference, and every bare matmul with x wᵀ, within the same bound."""
    q = problem
    # bfloat16 operands are summed in float32; each stored intermediate or result is rounded once more
    eps, stored = (2.0**-23, 2.0**-8) if q.dtype == "bfloat16" else (np.finfo(q.dtype).eps, 0.0)
    rng, options = fd.Philox(seed=1), {"activation": q.activation, "p": q.p}
    rows = slice(0, min(q.M, 512))  # only the first rows of a tall problem; dw and db are checked for these rows alone
    x, dy, w = q.x[rows], q.dy[rows], np.abs(q.w.astype(float))
    wide_x, wide_dy = np.abs(x.astype(float)), np.abs(dy.astype(float))
    y, saved = fd.linear_forward(x, q.w, q.b, rng=rng, **options)
    want, want_saved = reference.linear_forward(x, q.w, q.b, rng=rng, **options)
    size = wide_x @ w.T + np.abs(q.b.astype(float))
    _within(y, want, 3 * q.K * eps * size + stored * 1.01 * np.abs(want) + 1e-30, "y")
    for peer in peers.values():
        if hasattr(peer, "matmul"):
            product = np.asarray(peer.matmul()[rows].tolist())
            bare = x.astype(float) @ q.w.T.astype(float)
            _within(product, bare, 3 * q.K * eps * size + stored * 1.01 * np.abs(bare), f"{peer.name} matmul")
    dz = np.abs(reference.pre_activation_gradient(dy.astype(float), want_saved))
    # Where |z| is below its own error bound, its sign and so relu's gradient may differ: allow for those elements.
    doubt = wide_dy * 2 * (np.abs(want_saved.z) <= 3 * q.K * eps * size) + stored * 1.01 * dz
    bounds = (
        3 * q.N * eps * (dz @ w) + doubt @ w,
        3 * len(x) * eps * (dz.T @ wide_x) + doubt.T @ wide_x,
        3 * len(x) * eps * dz.sum(0) + doubt.sum(0),
    )
    wanted = reference.linear_backward(dy.astype(float), want_saved)
    bounds = tuple(bound + stored * 1.01 * np.abs(g) for bound, g in zip(bounds, wanted, strict=True))
    for name, got, want_g, bound in zip(("dx", "dw", "db"), fd.linear_backward(dy, saved), wanted, bounds, strict=True):
        _within(got, want_g, bound + 1e-30, name)


def _within(got, want, bound, what):
    error = np.abs(got.astype(float) - want)
    if not (error <= bound).all():
        sys.exit(f"wrong result, nothing timed: {what} is off by {(error - bound).max():.3g} more than its bound")


def measure(problem: Problem, peers: dict[str, object]) -> dict[str, float]:
    """Median microseconds of every candidate, named "library: what"."""
    ours = Fusedrop(problem)
    candidates = {
        "fusedrop: forward": ours.forward,
        "fusedrop: forward p=0": lambda: ours.forward(p=0.0),
        "fusedrop: forward+backward": ours.forward_backward,
    }
    labels = {
        "matmul": "matmul",
        "three_matmuls": "3 matmuls",
        "forward": "forward",
        "forward_backward": "forward+backward",
    }
    for peer in peers.values():
        for method, label in labels.items():
            if hasattr(peer, method):
                candidates[f"{peer.name}: {label}"] = getattr(peer, method)
    return {name: seconds * 1e6 for name, seconds in interleaved(candidates).items()}


def ratios(times: dict[str, float]) -> dict[str, float]:
    """The ratios that are reported. "... / best matmul" below 1: ours is faster. "x / ours" above 1: ours is faster."""
    found = {"p=.5 / p=0": times["fusedrop: forward"] / times["fusedrop: forward p=0"]}
    for label, ours in (("matmul", "forward"), ("3 matmuls", "forward+backward")):
        bare = [t for name, t in times.items() if name.endswith(f": {label}")]
        if bare:
            found[f"{ours} / best {label}"] = times[f"fusedrop: {ours}"] / min(bare)
    for name, t in times.items():
        library, what = name.split(": ")
        if library != "fusedrop" and what.startswith("forward"):
            found[f"{library} {what} / ours"] = t / times[f"fusedrop: {what}"]
    return found


def report(problem: Problem, times: dict[str, float], found: dict[str, float], peak: float) -> None:
    shape = f"{problem.M}x{problem.K}x{problem.N}"
    size = problem.x.itemsize
    moved = size * (problem.M * problem.K + problem.N * problem.K + problem.M * problem.N)
    print(f"\n{shape} {problem.dtype}: {problem.flop / 1e6:.1f} Mflop and {moved / 1e6:.2f} MB a matmul")
    for name, t in times.items():
        flop = problem.flop * (3 if "3 matmuls" in name or "backward" in name else 1)
        rate = flop / t * 1e-3
        print(f"  {name:34s} {t:10.1f} us {rate:7.1f} GFLOP/s {100 * rate / peak:5.1f} % of peak")
    print("  " + "   ".join(f"{name} {value:.3f}" for name, value in found.items()))


def summarize(rows: list[dict]) -> dict[str, float]:
    """Geometric means over those of the six shapes that were run."""
    six = [row["ratios"] for row in rows if row["shape"] in SIX and row["activation"] == "relu"]
    names = [name for name in (six[0] if six else {}) if all(name in row for row in six)]
    summary = {f"geomean {name}": geometric_mean([row[name] for row in six]) for name in names}
    for name in names:
        if name.startswith("forward /"):
            summary[f"worst {name}"] = max(row[name] for row in six)
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default=",".join(SHAPES), help="M x K x N, separated by commas")
    parser.add_argument("--peers", default=",".join(PEERS), help="of " + ", ".join(PEERS))
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16"])
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--activations", action="store_true", help="every activation, not relu alone")
    parser.add_argument("--json", help="write the figures there")
    parser.add_argument("--plot", help="write the picture of ratios there")
    options = parser.parse_args()
    fd.config.set_num_threads(options.threads)
    asked = [name for name in options.peers.split(",") if name and name not in LACKING[options.dtype]]
    present, absent = installed(asked)
    print_machine()
    print(
        f"peers: {', '.join(present) or 'none'}" + (f"; absent (not installed): {', '.join(absent)}" if absent else "")
    )
    peak = measured_peak(options.dtype)
    print(f"measured peak: {peak:.1f} GFLOP/s")
    rows = []
    for shape in options.shapes.split(","):
        for activation in fd.activations if options.activations else ("relu",):
            M, K, N = (int(size) for size in shape.split("x"))
            problem = Problem(M, K, N, options.dtype, activation=activation)
            peers = {name: PEERS[name](problem) for name in (present if activation == "relu" else [])}
            check(problem, peers)
            times = measure(problem, peers)
            row = {
                "shape": shape,
                "dtype": options.dtype,
                "activation": activation,
                "us": times,
                "ratios": ratios(times),
            }
            rows.append(row)
            report(problem, times, row["ratios"], peak)
    summary = summarize(rows)
    print("\n" + "\n".join(f"{name:44s} {value:.3f}" for name, value in summary.items()))
    if options.json:
        write_json(options.json, peak_gflops=peak, absent=absent, rows=rows, summary=summary)
    if options.plot:
        from bench.kernels.plot_linear import plot

        plot(rows, options.plot)


if __name__ == "__main__":
    main()
