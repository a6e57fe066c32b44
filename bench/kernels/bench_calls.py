"""The cost of a call beyond its arithmetic: overhead, gain by a second thread, memory.

    python -m bench.kernels.bench_calls [--json FILE]

Overhead: time of a call of 8x16x8 minus NumPy's bare matmul of that shape. Threads: time of 1024x1024x1024 on one
thread over its time on all. Memory: growth of the process's peak during a call on 60000x16x1024, minus its results; one
temporary array of M x N would show as 246 MB, a mask of bits as 8 MB.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from bench.support.harness import interleaved, print_machine, write_json

# isort: split
# The harness is imported before NumPy: it sets how soon OpenBLAS's threads go to sleep.
import fusedrop as fd
import numpy as np

from bench.support.peers import Fusedrop, Problem

TALL = (60000, 16, 1024)


def overhead() -> dict[str, float]:
    """Microseconds of each call of 8x16x8."""
    ours = Fusedrop(q := Problem(8, 16, 8, "float32"))
    layer = fd.Linear(16, 8, activation="relu", p=0.5, seed=0)
    y, saved = ours.forward()
    calls = {
        "NumPy x @ w.T": lambda: q.x @ q.w.T,
        "linear, p = 0": lambda: fd.linear(q.x, q.w, q.b, activation="relu"),
        "linear, p = .5": lambda: fd.linear(q.x, q.w, q.b, activation="relu", p=0.5, rng=ours.rng),
        "linear_forward": ours.forward,
        "linear_backward": lambda: fd.linear_backward(y, saved),
        "Linear.forward": lambda: layer.forward(q.x),
    }
    return {name: seconds * 1e6 for name, seconds in interleaved(calls).items()}


def second_thread() -> dict[str, float]:
    """Speed-up of all threads over one, for forward and backward of 1024x1024x1024."""
    ours = Fusedrop(Problem(1024, 1024, 1024, "float32"))
    _, saved = ours.forward()
    threads = fd.config.get_num_threads()

    def on(count: int, call: Callable[[], object]) -> Callable[[], object]:
        def run():
            fd.config.set_num_threads(count)
            return call()

        return run

    backward = lambda: fd.linear_backward(ours.problem.dy, saved)  # noqa: E731
    times = interleaved(
        {
            "forward 1": on(1, ours.forward),
            "forward": on(threads, ours.forward),
            "backward 1": on(1, backward),
            "backward": on(threads, backward),
        }
    )
    fd.config.set_num_threads(threads)
    return {name: times[f"{name} 1"] / times[name] for name in ("forward", "backward")}


def peak_growth(call: Callable[[], object]) -> float:
    """Largest growth of the process in MB while `call` ran (Linux only; the peak is reset through /proc)."""
    Path("/proc/self/clear_refs").write_text("5")
    start = _status("VmRSS")
    call()
    return (_status("VmHWM") - start) / 1024


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def memory() -> dict[str, float]:
    """MB beyond inputs and results. The first call of a process also allocates the scratch memory, which stays."""
    M, K, N = TALL
    q = Problem(M, K, N, "float32")
    ours = Fusedrop(q)
    y = np.zeros_like(q.dy)
    results = {"dx": np.zeros_like(q.x), "dw": np.zeros_like(q.w), "db": np.zeros_like(q.b)}
    forward = peak_growth(lambda: fd.linear(q.x, q.w, q.b, activation="relu", p=0.5, rng=ours.rng, out=y))
    y, saved = ours.forward()
    return {"forward": forward, "backward": peak_growth(lambda: fd.linear_backward(q.dy, saved, **results))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    print_machine()
    growth = memory()  # must come first: any other call would have allocated the scratch memory already
    for name, size in growth.items():
        print(f"{name:18s} {size:8.1f} MB beyond its arrays ({'x'.join(map(str, TALL))})")
    calls = overhead()
    bare = calls["NumPy x @ w.T"]
    for name, us in calls.items():
        print(f"{name:18s} {us:8.2f} us, {us - bare:5.2f} over NumPy's matmul (8x16x8)")
    gains = second_thread()
    for name, gain in gains.items():
        print(
            f"{name:18s} {gain:8.2f} times faster on {fd.config.get_num_threads()} threads than on one (1024x1024x1024)"
        )
    if options.json:
        write_json(options.json, memory_mb=growth, us_8x16x8=calls, threads_over_one=gains)


if __name__ == "__main__":
    main()
