"""Builds the emulated CUDA module with one mutant: python tests/mutants/emulated.py FOLDER words of the mutant's name

Prints the module's path. Without words the sources are unchanged. The sources are copied, so that the tree stays as it
is; with ccache only what the mutant changes is compiled again, at -O1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mutant import Mutant
from mutants_of_cuda import CUDA

ROOT = Path(__file__).resolve().parents[2]


def build_emulated(folder: Path, mutant: Mutant | None = None) -> Path:
    """The path of `_cuda` compiled for the host from the sources with this mutant."""
    tree = folder / "tree"
    shutil.copytree(ROOT / "csrc", tree / "csrc")
    for name in ("CMakeLists.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    if mutant is not None:
        file = tree / mutant.file
        text = file.read_text()
        if text.count(mutant.old) != 1:
            raise ValueError(f"mutant '{mutant.name}': its line stands {text.count(mutant.old)} times in {mutant.file}")
        file.write_text(text.replace(mutant.old, mutant.new))
    options = ["-DFUSEDROP_CUDA=OFF", "-DFUSEDROP_CUDA_EMULATE=ON", "-DCMAKE_BUILD_TYPE=Debug"]
    options += ["-DCMAKE_CXX_FLAGS_DEBUG=-O1", f"-DPython_EXECUTABLE={sys.executable}"]
    run("cmake", "-S", tree, "-B", tree / "build", "-GNinja", *options)
    run("cmake", "--build", tree / "build", "--target", "_cuda_emulated")
    (module,) = (tree / "build" / "emulated").glob("_cuda*.so")
    return module


def run(*command: str | Path) -> None:
    """Runs a command. ccache takes paths relative to the working folder, so that every copy finds the same objects."""
    environment = os.environ | {"CCACHE_BASEDIR": "/", "CCACHE_NOHASHDIR": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}")


def main() -> int:
    words = " ".join(sys.argv[2:])
    chosen = [mutant for mutant in CUDA if words in mutant.name] if words else [None]
    if len(chosen) != 1:
        print(f"one mutant must have '{words}' in its name; got {len(chosen)}")
        return 1
    print(build_emulated(Path(sys.argv[1]), chosen[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
