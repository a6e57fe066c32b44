"""Builds each mutant and runs the tests that must kill it: python tests/mutants/run.py [words of a mutant's name ...]

Works on a copy in a temporary folder and needs cmake, ninja and pybind11 (the extra `test` installs them). Ends with
"N killed, M survived", and with exit code 1 if a mutant survived or the unchanged tree does not build and pass.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mutant import Mutant
from mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("csrc", "python", "tests", "CMakeLists.txt", "pyproject.toml")


def main() -> int:
    words = " ".join(sys.argv[1:])
    chosen = [mutant for mutant in MUTANTS if words in mutant.name]
    if importlib.util.find_spec("torch") is None:  # the tests would be skipped, and the mutants would survive
        print("PyTorch is not installed: mutants that need it are left out")
        chosen = [mutant for mutant in chosen if not needs_torch(mutant)]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in PARTS:
            source = ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, tree / part)
        configure(tree)
        if not build(tree) or not passes(tree, " ".join(sorted({m.killer for m in chosen} - {"build"}))):
            print("the unchanged tree does not build and pass, so the mutants would prove nothing")
            return 1
        survivors = [mutant.name for mutant in chosen if not is_killed(mutant, tree)]
    for name in survivors:
        print(f"SURVIVED  {name}")
    print(f"{len(chosen) - len(survivors)} killed, {len(survivors)} survived")
    return bool(survivors)


def needs_torch(mutant: Mutant) -> bool:
    """All tests of CUDA use PyTorch's tensors but those of test_host.py."""
    return "tests/torch/" in mutant.killer or (
        "tests/cuda/" in mutant.killer and "tests/cuda/test_host.py" not in mutant.killer
    )


def configure(tree: Path) -> None:
    """At -O1 the kernels give the same bits, and compile in a third of the time."""
    command = [
        "cmake",
        "-S",
        tree,
        "-B",
        tree / "build",
        "-GNinja",
        f"-DPython_EXECUTABLE={sys.executable}",
        "-DFUSEDROP_CUDA=OFF",
        "-DFUSEDROP_CUDA_EMULATE=ON",
        "-DCMAKE_BUILD_TYPE=Debug",
        "-DCMAKE_CXX_FLAGS_DEBUG=-O1",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def build(tree: Path) -> bool:
    done = subprocess.run(["cmake", "--build", tree / "build"], capture_output=True, text=True)
    if done.returncode == 0:
        for module in (tree / "build").rglob("_core*.so"):
            shutil.copy(module, tree / "python" / "fusedrop")
    return done.returncode == 0


def passes(tree: Path, selection: str) -> bool:
    """Runs pytest on a selection, "file ... [-k words]", up to the first failure."""
    (emulated,) = (tree / "build" / "emulated").glob("_cuda*.so")
    environment = os.environ | {
        "PYTHONPATH": str(tree / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FUSEDROP_EMULATED_CUDA": str(emulated),
    }
    words = shlex.split(selection)
    if words.count("-k") > 1 or not words:
        words = sorted({word for word in words if word.endswith(".py")})
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest {selection} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def is_killed(mutant: Mutant, tree: Path) -> bool:
    file = tree / mutant.file
    original = file.read_text()
    if original.count(mutant.old) != 1:
        raise ValueError(f"mutant '{mutant.name}': its line stands {original.count(mutant.old)} times in {mutant.file}")
    file.write_text(original.replace(mutant.old, mutant.new))
    built = build(tree)
    killed = not built if mutant.killer == "build" else built and not passes(tree, mutant.killer)
    file.write_text(original)
    print(f"{'killed  ' if killed else 'SURVIVED'}  {mutant.name}", flush=True)
    return killed


if __name__ == "__main__":
    sys.exit(main())
