"""Fixtures: every instruction set of this CPU, forced one after the other, and restored."""

import contextlib
import os
import sys

import fusedrop as fd
import pytest

FLOAT_ISAS = ("scalar", "avx2", "avx512")  # avx512_bf16 has kernels of its own for bfloat16 alone


@contextlib.contextmanager
def forced(isa):
    """`isa` in use, and the former one again; on a CPU that lacks it the test is skipped and counted by name."""
    if isa not in fd.available_isas():
        pytest.skip(f"this CPU has no {isa}")
    before = fd.isa()
    fd.use_isa(isa)
    yield isa
    fd.use_isa(before)


@pytest.fixture(params=FLOAT_ISAS)
def isa(request):
    """Runs the test once per instruction set that float32 and float64 know."""
    with forced(request.param) as name:
        yield name


@pytest.fixture(params=(*FLOAT_ISAS, "avx512_bf16"))
def every_isa(request):
    """Runs the test once per instruction set, for what takes bfloat16."""
    with forced(request.param) as name:
        yield name


@pytest.fixture
def threads():
    """Sets the thread count for a test and goes back to the default after it."""
    yield fd.set_num_threads
    fd.set_num_threads(0)


@pytest.fixture(scope="session")
def emulated_cuda(tmp_path_factory):
    """`fusedrop._cuda` compiled for the host."""
    cuda_devices = pytest.importorskip("cuda_devices", reason="PyTorch is not installed", exc_type=ImportError)
    return cuda_devices.load(cuda_devices.build_emulated(tmp_path_factory.mktemp("emulated_cuda")))


@pytest.fixture(params=["emulated", "gpu"])
def device(request, monkeypatch):
    """Runs the test on the CUDA module's kernels, emulated in tensors of the CPU and on a GPU."""
    import cuda_devices
    from fusedrop import cuda, cuda_paths

    if request.param == "emulated":
        module, place = request.getfixturevalue("emulated_cuda"), "cpu"
        monkeypatch.setitem(sys.modules, "fusedrop._cuda", module)
    else:
        module, place = cuda.module(), "cuda"
        if module is None or not cuda_devices.torch.cuda.is_available():
            missing = pytest.fail if os.environ.get("FUSEDROP_REQUIRE_GPU") == "1" else pytest.skip
            missing("no GPU, or no CUDA module for it")
    monkeypatch.setenv(cuda_paths.SWITCH, "1")
    return cuda_devices.Device(module, place)
