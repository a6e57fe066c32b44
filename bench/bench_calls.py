"""What a call costs beyond its arithmetic: overhead, the second thread, memory.

    python bench/bench_calls.py [--json FILE]

Overhead: a call of 8x16x8 less NumPy's bare matmul of that shape. Threads: 1024x1024x1024 on one thread over all.
Memory: growth of the process's peak during a call on 60000x16x1024, less its results; one temporary of M x N would
show as 246 MB, a mask of bits as 8.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from harness import interleaved, print_machine, write_json

# isort: split
# harness comes before NumPy: it tells OpenBLAS's threads to sleep early
import fusedrop as fd
import numpy as np
from peers import Fusedrop, Problem

TALL = (60000, 16, 1024)


def overhead() -> dict[str, float]:
    """Microseconds of each call of 8x16x8."""
    ours = Fusedrop(q := Problem(8, 16, 8, "float32"))
    layer = fd.Linear(16, 8, activation="relu", dropout=0.5, seed=0)
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
    """Speed-up over one thread, forward and backward of 1024x1024x1024."""
    ours = Fusedrop(Problem(1024, 1024, 1024, "float32"))
    _, saved = ours.forward()
    threads = fd.get_num_threads()

    def on(count: int, call: Callable[[], object]) -> Callable[[], object]:
        def run():
            fd.set_num_threads(count)
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
    fd.set_num_threads(threads)
    return {name: times[f"{name} 1"] / times[name] for name in ("forward", "backward")}


def peak_growth(call: Callable[[], object]) -> float:
    """MB by which the process grew at most while `call` ran (Linux; the peak is reset through /proc)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    call()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def memory() -> dict[str, float]:
    """MB beyond inputs and results; the first call of a process also pays for the scratch memory, which is kept."""
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
    growth = memory()  # first: other calls would leave scratch memory behind
    for name, size in growth.items():
        print(f"{name:18s} {size:8.1f} MB beyond its arrays ({'x'.join(map(str, TALL))})")
    calls = overhead()
    bare = calls["NumPy x @ w.T"]
    for name, us in calls.items():
        print(f"{name:18s} {us:8.2f} us, {us - bare:5.2f} over NumPy's matmul (8x16x8)")
    gains = second_thread()
    for name, gain in gains.items():
        print(f"{name:18s} {gain:8.2f} times faster on {fd.get_num_threads()} threads than on one (1024x1024x1024)")
    if options.json:
        write_json(options.json, memory_mb=growth, us_8x16x8=calls, threads_over_one=gains)


if __name__ == "__main__":
    main()
