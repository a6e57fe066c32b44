"""Registers, spills and stack of every CUDA kernel, from the output of nvcc with `-Xptxas -v`.

    python -m bench.gpu.ptxas_report BUILD.log

Prints one line per kernel and architecture. The exit status is 1 if a kernel spills registers without a reason in
SPILLS, or if the log names no kernel.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# The beginning of a kernel's printed name, and the reason why its spills are accepted.
SPILLS = {"float_tile<TileShape<128, 128, 16, 64, 32, 3>, FloatProduct": "eight words of copies by 1,024 product-sums"}

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")


@dataclass
class Kernel:
    name: str
    architecture: str
    registers: int = 0
    spilled: int = 0  # bytes stored and loaded
    stack: int = 0  # bytes


def parse(log: str) -> list[Kernel]:
    """The kernels in the log's order, with mangled names; a function that a kernel calls is added to the kernel."""
    found: list[Kernel] = []
    for line in log.splitlines():
        if entry := ENTRY.search(line):
            found.append(Kernel(*entry.groups()))
        elif found and (memory := MEMORY.search(line)):
            stack, stored, loaded = map(int, memory.groups())
            found[-1].stack = max(found[-1].stack, stack)
            found[-1].spilled += stored + loaded
        elif found and (used := USED.search(line)):
            found[-1].registers = int(used[1])
    return found


def demangled(names: list[str]) -> list[str]:
    """The demangled names; unchanged if c++filt is missing."""
    if shutil.which("c++filt") is None:
        return names
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def short(name: str) -> str:
    """`void fusedrop::cuda::(anonymous namespace)::f<float, (int)3>(fusedrop::Args)` as `f<float, 3>`."""
    name = re.sub(r"\(anonymous namespace\)::|\b_GLOBAL__N__\w+::|\bfusedrop::|\bcuda::", "", name)
    name = re.sub(r"\((?:int|bool|unsigned int|long)\)", "", name)
    depth = 0
    for at, letter in enumerate(name):  # the parameters begin at the first parenthesis outside < >
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            name = name[:at]
            break
    return re.sub(r">\s+(?=>)", ">", name.removeprefix("void "))


def main(path: str) -> int:
    kernels = parse(Path(path).read_text(errors="replace"))
    if not kernels:
        print(f"{path} has no line of ptxas -v: the module must be compiled with -Xptxas -v, from scratch")
        return 1
    for kernel, name in zip(kernels, demangled([k.name for k in kernels]), strict=True):
        kernel.name = short(name)
    kernels.sort(key=lambda k: (k.name, k.architecture))
    width = min(100, max(len(k.name) for k in kernels))
    print(f"{'kernel':{width}}  arch     registers  spilled bytes  stack bytes")
    unexplained = []
    for k in kernels:
        why = next((reason for name, reason in SPILLS.items() if k.spilled and k.name.startswith(name)), "")
        print(f"{k.name:{width}}  {k.architecture:8} {k.registers:9} {k.spilled:14} {k.stack:12}  {why}".rstrip())
        if k.spilled and not why:
            unexplained.append(f"{k.name} on {k.architecture}")
    print(f"{len(kernels)} kernels, most registers {max(k.registers for k in kernels)}")
    if unexplained:
        print(f"spills that bench/gpu/ptxas_report.py does not explain: {', '.join(unexplained)}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
