"""Timing on a shared machine: candidates are interleaved in one process; figures are medians and their ratios.

The threads of a pool spin after a call and would take a core from the next candidate. Each sample therefore begins with
a rest, longer than OpenMP's threads spin, and with untimed calls. OpenBLAS's threads spin for 0.1 s; an environment
variable makes them sleep as early as the others. A longer rest is no substitute: the cores then go to sleep, and every
candidate runs at half speed.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "22")  # 2^22 cycles, about 1 ms; read when NumPy is imported

import fusedrop as fd
import numpy as np

SAMPLE_SECONDS = 0.02  # long enough to make the clock's resolution and the noise of one call negligible
REST_SECONDS = 0.006  # longer than an OpenMP pool spins
WARM_SECONDS = 0.012  # untimed calls: they wake the candidate's own pool and refill the caches


def seconds_of(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def interleaved(candidates: dict[str, Callable[[], object]], rounds: int = 9) -> dict[str, float]:
    """Median seconds per call of each candidate. Every round times all of them once, in a rotating order."""
    calls = {}
    for name, call in candidates.items():
        call()
        calls[name] = max(1, round(SAMPLE_SECONDS / max(seconds_of(call, 1), 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for index in range(rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            time.sleep(REST_SECONDS)
            warm_until = time.perf_counter() + WARM_SECONDS
            while time.perf_counter() < warm_until:
                candidates[name]()
            samples[name].append(seconds_of(candidates[name], calls[name]))
    return {name: statistics.median(values) for name, values in samples.items()}


def measured_peak(dtype: str = "float32") -> float:
    """GFLOP/s of independent fused multiply-adds in registers on all threads in use: the best of five runs."""
    return max(fd._core.fma_peak(dtype, 0.05) for _ in range(5))


def machine() -> dict[str, str | int | float]:
    """The facts a figure depends on: CPU, instruction set, threads, versions, date, load before the run."""
    cpu = next(
        (line.split(":")[1].strip() for line in _proc_cpuinfo() if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "isa": fd.config.get_isa(),
        "threads": fd.config.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "fusedrop": fd.__version__,
        "load": os.getloadavg()[0],
        "date": datetime.date.today().isoformat(),
    }


def print_machine(**more: object) -> None:
    """Prints one line. `more` has the versions of libraries that only this benchmark uses."""
    print(" ".join(f"{key}={value}" for key, value in {**machine(), **more}.items()))


def _proc_cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def geometric_mean(values: list[float]) -> float:
    return statistics.geometric_mean(values) if values else float("nan")


def write_json(path: str | Path, **content: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({"machine": machine(), **content}, indent=1) + "\n")
    print(f"wrote {path}")
