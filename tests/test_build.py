"""The build: no symbol leaks from an instruction set's object file, and csrc/core compiles as device code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "mutants"))
from mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[1]
ISAS = ("scalar", "avx2", "avx512", "avx512_bf16")


def need(tool):
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """The kernels' object files, built by the project's own CMakeLists.txt with its own flags."""
    cmake, folder = need("cmake"), tmp_path_factory.mktemp("objects")
    pytest.importorskip("pybind11", reason="pybind11 is needed to configure the build again")
    subprocess.run([cmake, "-S", ROOT, "-B", folder, f"-DPython_EXECUTABLE={sys.executable}"], check=True)
    targets = [f"fusedrop_{isa}" for isa in ISAS]
    subprocess.run([cmake, "--build", folder, "--parallel", "2", "--target", *targets], check=True)
    return {isa: sorted(folder.glob(f"CMakeFiles/fusedrop_{isa}.dir/**/*.cpp.o")) for isa in ISAS}


@pytest.mark.parametrize("isa", ISAS)
def test_no_weak_symbols(objects, isa):
    """A weak symbol compiled for AVX-512 could be the copy the linker keeps for everybody: a crash on older CPUs."""
    lines = subprocess.run([need("nm"), *objects[isa]], check=True, capture_output=True, text=True).stdout.splitlines()
    kinds = {(line[17], line[19:]) for line in lines if len(line) > 19}
    assert not {name for kind, name in kinds if kind in "wWvVu"}
    exported = {name for kind, name in kinds if kind.isupper() and kind != "U"}
    ours = f"N8fusedrop3cpu{len(isa)}{isa}"  # how the instruction set's own namespace is mangled
    assert f"_Z{ours}7backendE" in exported
    assert all(ours in name for name in exported), exported


def test_core_compiles_as_device_code(tmp_path):
    command = [need("nvcc"), "-std=c++17", "-arch=sm_80", "-I", ROOT / "csrc", "-Werror", "all-warnings", "-c"]
    source = ROOT / "tests" / "cuda" / "core_compiles.cu"
    # nvcc crashes under the address sanitizer that a run of the suite may preload
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command += [source, "-o", tmp_path / "core.o"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_mutants_still_fit_the_sources():
    """Each mutant's line stands exactly once in its file; tests/mutants/run.py runs them."""
    for mutant in MUTANTS:
        text = (ROOT / mutant.file).read_text()
        assert text.count(mutant.old) == 1, mutant.name
        assert mutant.old != mutant.new
