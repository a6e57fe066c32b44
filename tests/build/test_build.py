"""The build: no symbol leaks from an instruction set's object file, and the CUDA module's options mean what they say.

CI compiles the CUDA module itself, and the headers of csrc/core as device code with it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

sys.path.insert(0, str(ROOT / "tests" / "mutants"))
from mutants import MUTANTS

ISAS = ("scalar", "avx2", "avx512", "avx512_bf16")


def need(tool):
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """The kernels' object files, built by the project's own CMakeLists.txt with its own flags.

    FUSEDROP_KERNEL_OBJECTS names a folder in which they have been built before.
    """
    built = os.environ.get("FUSEDROP_KERNEL_OBJECTS")
    if built:
        return objects_under(Path(built))
    cmake, folder = need("cmake"), tmp_path_factory.mktemp("objects")
    pytest.importorskip("pybind11", reason="pybind11 is needed to configure the build again")
    subprocess.run(
        [cmake, "-S", ROOT, "-B", folder, f"-DPython_EXECUTABLE={sys.executable}", "-DFUSEDROP_CUDA=OFF"], check=True
    )
    targets = [f"fusedrop_{isa}" for isa in ISAS]
    subprocess.run([cmake, "--build", folder, "--parallel", "2", "--target", *targets], check=True)
    return objects_under(folder)


def objects_under(folder):
    """{instruction set: its object files}; an instruction set without any has not been built."""
    found = {isa: sorted(folder.glob(f"**/fusedrop_{isa}.dir/**/*.o")) for isa in ISAS}
    assert all(found.values()), f"{folder} must hold the objects of {ISAS}; got {found}"
    return found


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


def configure(folder, *options, **environment):
    """(status, all output on one line) of CMake alone; nothing is compiled but its own probes."""
    command = [need("cmake"), "-S", ROOT, "-B", folder, f"-DPython_EXECUTABLE={sys.executable}", *options]
    pytest.importorskip("pybind11", reason="pybind11 is needed to configure the build again")
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def script(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def nvcc_of(release, tmp_path):
    """Says its release and that it knows sm_90, and fails at everything else. It leaves a file `called`."""
    version = f'echo "Cuda compilation tools, release {release}, V{release}.1"'
    known = f"touch {tmp_path}/called; [ $1 = --list-gpu-code ] && echo sm_90"
    return script(tmp_path / "nvcc", f"{known}; [ $1 = --version ] && {version}")


def gpus_of(said, tmp_path):
    """A PATH whose nvidia-smi prints this, and fails if it is empty."""
    script(tmp_path / "gpus" / "nvidia-smi", f"[ -n '{said}' ] && printf '{said}'")
    return f"{tmp_path / 'gpus'}:{os.environ['PATH']}"


def test_cuda_option_is_one_of_three(tmp_path):
    status, said = configure(tmp_path, "-DFUSEDROP_CUDA=maybe")
    assert status != 0
    assert "FUSEDROP_CUDA must be AUTO, ON or OFF; got maybe" in said


@pytest.mark.parametrize(
    ("release", "why"),
    [
        (None, "there is no /nowhere/nvcc"),
        ("11.8", "is of CUDA 11, and 12 or later is needed"),
        ("12.4", "does not compile"),
    ],
)
def test_cuda_is_left_out_or_wanted_aloud(tmp_path, release, why):
    nvcc = "/nowhere/nvcc" if release is None else nvcc_of(release, tmp_path)
    status, said = configure(tmp_path / "on", "-DFUSEDROP_CUDA=on", CUDACXX=nvcc)
    assert status != 0
    assert "FUSEDROP_CUDA is ON, but" in said
    assert why in said
    status, said = configure(tmp_path / "auto", CUDACXX=nvcc, PATH=gpus_of("9.0\\n", tmp_path))
    assert status == 0
    assert "The CUDA module is left out:" in said
    assert why in said


def test_cuda_is_left_out_without_a_gpu(tmp_path):
    """nvcc is not even called, unless the architectures are given."""
    environment = {"CUDACXX": nvcc_of("12.4", tmp_path), "PATH": gpus_of("", tmp_path)}
    status, said = configure(tmp_path / "auto", **environment)
    assert status == 0
    assert "The CUDA module is left out:" in said
    assert "nvidia-smi finds no GPU" in said
    assert not (tmp_path / "called").exists()
    native = ("-DFUSEDROP_CUDA=ON", "-DFUSEDROP_CUDA_ARCHITECTURES=native")
    status, said = configure(tmp_path / "on", *native, **environment)
    assert status != 0
    assert "FUSEDROP_CUDA is ON, but" in said
    assert "nvidia-smi finds no GPU" in said
    assert not (tmp_path / "called").exists()
    status, said = configure(tmp_path / "given", "-DFUSEDROP_CUDA_ARCHITECTURES=90a-real", **environment)
    assert status == 0
    assert "does not compile and link" in said


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("9.0\\n", "90a-real"),
        ("8.6\\n", "86-real"),
        ("9.0\\n8.0\\n9.0\\n", "90a-real;80-real"),
        ("7.5\\n12.0\\n", "120-real"),
        ("7.5\\n", "the GPU has compute capability 7.5, and 8.0 or later is needed"),
        ("No devices were found\\n", "finds no GPU"),
    ],
)
def test_architectures_are_those_of_the_gpus(tmp_path, said, found):
    listfile = tmp_path / "find.cmake"
    listfile.write_text(
        f'include({ROOT}/csrc/cuda/find_cuda.cmake)\nfind_gpus()\nmessage(STATUS "${{ARCHITECTURES}}${{WHY_NOT}}")\n'
    )
    command, path = [need("cmake"), "-P", listfile], gpus_of(said, tmp_path)
    done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(found)
    if found.endswith("-real"):
        assert done.stdout.strip() == f"-- {found}"


def test_a_gpu_newer_than_nvcc_is_left_out(tmp_path):
    environment = {"CUDACXX": nvcc_of("12.4", tmp_path), "PATH": gpus_of("12.0\\n", tmp_path)}
    status, said = configure(tmp_path / "auto", **environment)
    assert status == 0
    assert "nvcc does not compile for sm_120, this machine's GPU" in said


def test_mutants_still_fit_the_sources():
    """Each mutant's line stands exactly once in its file; tests/mutants/run.py runs them."""
    for mutant in MUTANTS:
        text = (ROOT / mutant.file).read_text()
        assert text.count(mutant.old) == 1, mutant.name
        assert mutant.old != mutant.new
