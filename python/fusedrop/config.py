"""Settings of the process: the instruction set of the CPU kernels, the number of threads, TF32 on a GPU.

Each setting is a pair of functions get_..., set_...; none of them changes a mask. Results are the same bits for every
number of threads. The environment variable FUSEDROP_ISA sets the instruction set at import.
"""

from __future__ import annotations

from fusedrop._core import available_isas, get_isa, get_num_threads, set_isa, set_num_threads
from fusedrop.cuda import get_tf32, set_tf32

__all__ = [
    "available_isas",
    "get_isa",
    "get_num_threads",
    "get_tf32",
    "set_isa",
    "set_num_threads",
    "set_tf32",
]
