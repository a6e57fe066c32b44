"""Which CUDA paths have passed the gate, on which GPU and when.

A path that has not run on hardware is off: a call raises RuntimeError, and FUSEDROP_CUDA_UNPROVED=1 switches it on.
`bench/gpu/gpu_gate.sh` tests all paths on the machine where it runs, and writes the file that a record here names.
"""

from __future__ import annotations

import os
from typing import NamedTuple

SWITCH = "FUSEDROP_CUDA_UNPROVED"
GATE = "bench/gpu/gpu_gate.sh"


class GateRun(NamedTuple):
    """One run of the gate in which every test of a path passed."""

    gpu: str
    date: str  # YYYY-MM-DD
    results: str  # in bench/results


PATHS: dict[str, GateRun | None] = {
    "dropout": None,  # and dropout_mask
    "activation": None,
    "linear float32": None,
    "linear tf32": None,
    "linear bfloat16": None,
    "linear float16": None,
}


def is_on(path: str) -> bool:
    """Whether calls may take this path."""
    return PATHS[path] is not None or os.environ.get(SWITCH) == "1"


def require(path: str) -> None:
    """Raises RuntimeError for a path that is off; the CUDA module calls it once per path."""
    if not is_on(path):
        raise RuntimeError(
            f"the CUDA path '{path}' has not passed the gate on any GPU, so it is off: {GATE} tests it on this "
            f"machine, {SWITCH}=1 switches it on"
        )


def describe(path: str) -> str:
    """The state of a path, for `fusedrop info`."""
    run = PATHS[path]
    if run is not None:
        return f"passed the gate on {run.gpu}, {run.date} ({run.results})"
    return "has not passed the gate on any GPU" + (f", on by {SWITCH}=1" if is_on(path) else "")
