"""Fused linear + gelu + dropout on a GPU against cuBLAS's bare products and PyTorch's layer, eager and compiled.

    python -m bench.gpu.bench_gpu --json FILE [--shapes 8192x8192x8192,...] [--dtypes bfloat16,...] [--rounds 9]
                              [--compile 8192x8192x8192|none] [--seconds 180] [--emulated MODULE.so]

Masks and values are checked first. Then all candidates of a problem are timed interleaved in this process, by CUDA
events, on random normal inputs that rotate through more memory than the L2 cache holds. It reports medians, and ratios
within the run. The file is rewritten after every problem, so that an interrupted run leaves what it has measured.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import fusedrop as fd
import torch

from bench.gpu.gpu_check import WrongResult, masks_equal, value_shares
from bench.gpu.gpu_peers import (
    TYPES,
    Problem,
    layer_candidates,
    load_emulated,
    our_layer,
    ours_candidates,
    product_candidates,
    rotating,
    set_precision,
)

SHAPES = ["4096x4096x4096", "8192x8192x8192", "8192x512x8192", "8192x4096x8192"]
SAMPLE_SECONDS = 0.004


class DeviceClock:
    """Seconds on the GPU between two events. A call before them keeps the GPU busy while the host enqueues the rest."""

    def sample(self, call, calls: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        call()
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3 / calls


class HostClock:
    """For dry runs: its figures have no meaning."""

    def sample(self, call, calls: int) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def interleaved(candidates: dict, clock, rounds: int) -> dict[str, list[float]]:
    """Seconds per call. Every round measures each candidate once, in a rotating order."""
    calls = {name: max(1, min(20, round(SAMPLE_SECONDS / clock.sample(call, 1)))) for name, call in candidates.items()}
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for index in range(rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            samples[name].append(clock.sample(candidates[name], calls[name]))
    return samples


def gradient_pass(problem: Problem) -> dict:
    """The pass that computes dz and sums db, alone: it reads dy and the saved activation."""
    saved = {x.data_ptr(): our_layer(x, w, b, save=True, p=problem.p)[1] for x, w, b, _ in problem.sets}
    return {
        "ours db alone": rotating(
            problem, lambda x, w, b, dy: fd.linear_backward(dy, saved[x.data_ptr()], dx=False, dw=False)
        )
    }


def activation_memory(problem: Problem) -> dict[str, int] | None:
    """Bytes allocated between forward and backward (including y), and the peak of both, without the inputs."""
    if problem.device != "cuda":
        return None
    x, w, b, dy = problem.sets[0]
    leaves = [t.detach().requires_grad_() for t in (x, w, b)]

    def eager_forward():
        f = torch.nn.functional
        return f.dropout(f.gelu(f.linear(*leaves)), problem.p, training=True)

    pairs = {
        "ours": (lambda: our_layer(x, w, b, save=True, p=problem.p), lambda result: fd.linear_backward(dy, result[1])),
        "eager": (eager_forward, lambda y: torch.autograd.grad(y, leaves, dy)),
    }
    found = {}
    for name, (forward, backward) in pairs.items():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = forward()
        found[f"{name} held"] = torch.cuda.memory_allocated() - before
        gradients = backward(result)
        found[f"{name} peak"] = torch.cuda.max_memory_allocated() - before
        del result, gradients
    return found


def measure(problem: Problem, rounds: int, compiled: bool) -> dict:
    """One row of the file."""
    row = {"shape": problem.shape, "dtype": problem.dtype, "activation": problem.activation, "p": problem.p}
    set_precision(problem.dtype)
    row["masks_equal"] = masks_equal(problem)
    row["error_over_bound"] = value_shares(problem)
    row["activation_bytes"] = activation_memory(problem)
    candidates = {
        **ours_candidates(problem),
        **gradient_pass(problem),
        **product_candidates(problem),
        **layer_candidates(problem, "eager"),
    }
    if compiled:
        start = time.perf_counter()
        candidates |= layer_candidates(problem, "compile")
        for name in ("compile forward", "compile forward+backward"):
            candidates[name]()
        row["compile_seconds"] = time.perf_counter() - start
    clock = DeviceClock() if problem.device == "cuda" else HostClock()
    samples = interleaved(candidates, clock, rounds)
    row["us"] = {name: statistics.median(s) * 1e6 for name, s in samples.items()}
    row["samples_us"] = {name: [round(s * 1e6, 2) for s in values] for name, values in samples.items()}
    row["tflops"] = {
        name: problem.flop * (3 if "3 " in name or "backward" in name else 1) / us * 1e-6
        for name, us in row["us"].items()
        if name != "ours db alone"
    }
    return row


def report(row: dict) -> None:
    shares = ", ".join(f"{name} {share:.2f}" for name, share in row["error_over_bound"].items())
    print(f"\n{row['shape']} {row['dtype']}: masks equal {row['masks_equal']}; errors over bound: {shares}")
    best = row["us"]
    for name, us in row["us"].items():
        rate = f"{row['tflops'][name]:8.1f} TFLOP/s" if name in row["tflops"] else " " * 16
        base = "3 torch.mm" if "backward" in name or "3 " in name else "torch.mm"
        print(f"  {name:30s} {us:10.1f} us {rate} {us / best[base]:6.2f} of {base}")
    if row["activation_bytes"]:
        print("  " + ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in row["activation_bytes"].items()))


def device() -> dict:
    """The hardware and the versions that the figures depend on."""
    common = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fusedrop": fd.__version__,
        "date": datetime.date.today().isoformat(),
    }
    if not torch.cuda.is_available():
        return {"name": "host", **common}
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "memory_bytes": found.total_memory,
        "l2_bytes": found.L2_cache_size,
        "cuda": torch.version.cuda,
        **common,
    }


def problems(options) -> list[tuple[str, str, bool]]:
    """(shape, dtype, compiled). The compiled problem is last, because compilation may take a minute."""
    shapes = options.shapes.split(",")
    listed = [(shape, dtype, False) for dtype in options.dtypes.split(",") for shape in shapes]
    return listed + ([] if options.compile == "none" else [(options.compile, "bfloat16", True)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", required=True, help="the file for the figures")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="M x K x N, separated by commas")
    parser.add_argument("--dtypes", default="bfloat16,float16,tf32,float32", help="of " + ", ".join(TYPES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compile", default="8192x8192x8192", help="the shape for torch.compile in bfloat16, or none")
    parser.add_argument("--seconds", type=float, default=180, help="no problem starts after this time")
    parser.add_argument("--emulated", help="a _cuda made for the host: a dry run without a GPU")
    options = parser.parse_args()
    if not options.emulated and not torch.cuda.is_available():
        sys.exit("there is no GPU; --emulated makes a dry run without one")
    place = "cpu" if options.emulated else "cuda"
    if options.emulated:
        load_emulated(options.emulated)
    found, rows, wrong, left_out, begun = device(), [], [], [], time.monotonic()
    print(" ".join(f"{key}={value}" for key, value in found.items()))
    for shape, dtype, compiled in problems(options):
        what = f"{shape} {dtype}" + (" with torch.compile" if compiled else "")
        if time.monotonic() - begun > options.seconds:
            left_out.append(what)
            continue
        M, K, N = map(int, shape.split("x"))
        try:
            rows.append(measure(Problem(M, K, N, dtype, place), options.rounds, compiled))
            report(rows[-1])
        except WrongResult as error:
            wrong.append(str(error))
            print(f"\nwrong result, not timed: {error}")
        if place == "cuda":
            torch.cuda.empty_cache()
        content = {"device": found, "wrong": wrong, "left_out": left_out, "rows": rows}
        Path(options.json).write_text(json.dumps(content, indent=1) + "\n")
    if left_out:
        print(f"\nno time for: {', '.join(left_out)}")
    return 1 if wrong or not all(row["masks_equal"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
