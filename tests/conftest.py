"""Fixtures: every instruction set of this CPU, forced one after the other, and restored."""

import contextlib
import os
import sys

import fusedrop as fd
import pytest

FLOAT_ISAS = ("scalar", "avx2", "avx512")  # avx512_bf16 has kernels of its own for bfloat16 alone


@contextlib.contextmanager
def forced(isa):
    """`isa` inside, the previous one after it; a CPU without `isa` skips the test and reports its name."""
    if isa not in fd.config.available_isas():
        pytest.skip(f"this CPU has no {isa}")
    before = fd.config.get_isa()
    fd.config.set_isa(isa)
    yield isa
    fd.config.set_isa(before)


@pytest.fixture(params=FLOAT_ISAS)
def isa(request):
    """Runs the test once per instruction set with kernels for float32 and float64."""
    with forced(request.param) as name:
        yield name


@pytest.fixture(params=(*FLOAT_ISAS, "avx512_bf16"))
def every_isa(request):
    """Runs the test once per instruction set, for tests with bfloat16."""
    with forced(request.param) as name:
        yield name


@pytest.fixture
def threads():
    """Sets the thread count in a test and restores the default after it."""
    yield fd.config.set_num_threads
    fd.config.set_num_threads(0)


@pytest.fixture(scope="session")
def emulated_cuda(tmp_path_factory):
    """`fusedrop._cuda` compiled for the host."""
    cuda_devices = pytest.importorskip("cuda_devices", reason="PyTorch is not installed", exc_type=ImportError)
    return cuda_devices.load(cuda_devices.build_emulated(tmp_path_factory.mktemp("emulated_cuda")))


@pytest.fixture(params=["emulated", "gpu"])
def device(request, monkeypatch):
    """Runs the test on the CUDA module's kernels, emulated in tensors of the CPU and on a GPU.

    While the emulated module is registered, its kernels compute what is given as tensors of the CPU; NumPy's arrays
    still take the CPU's kernels.
    """
    import cuda_devices
    from fusedrop import _core, cuda

    if request.param == "gpu":
        if cuda.module() is None or not cuda_devices.torch.cuda.is_available():
            missing = pytest.fail if os.environ.get("FUSEDROP_REQUIRE_GPU") == "1" else pytest.skip
            missing("no GPU, or no CUDA module for it")
        yield cuda_devices.Device("cuda")
        return
    module = request.getfixturevalue("emulated_cuda")
    monkeypatch.setitem(sys.modules, "fusedrop._cuda", module)
    _core.register_device(module.backend)
    yield cuda_devices.Device("cpu")
    _core.unregister_device()
