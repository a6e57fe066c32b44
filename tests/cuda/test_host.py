"""CUDA kernels on the host: tests/cuda/host_*.cpp run them in the emulation, to test what Python cannot reach."""

import shutil
import subprocess

import pytest
from repository import ROOT

CUDA = ROOT / "csrc" / "cuda"
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
INCLUDES = ("-I", ROOT / "csrc", "-I", CUDA / "emulation" / "include")

# The programs of tests/cuda, with the sources that each is linked with.
PROGRAMS = {
    "host_passes": ("linear/active_columns.cu", "linear/dz.cu"),
    "host_streams": ("runtime/streams.cu", "emulation/device.cpp"),
    "host_tile": (),
}


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request, tmp_path_factory):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    main, path = ROOT / "tests" / "cuda" / f"{request.param}.cpp", tmp_path_factory.mktemp("host") / request.param
    linked = [CUDA / name for name in PROGRAMS[request.param]]
    sources = [main, CUDA / "emulation" / "fibers.cpp", "-x", "c++", *linked]
    done = subprocess.run([compiler, *FLAGS, *INCLUDES, *sources, "-o", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def test_kernels_give_what_the_scalar_functions_give(program):
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines
    assert all(line.endswith(": equal") for line in lines), done.stdout
