"""Every kernel is right where the tests run, and a wrong one is refused at its first use, with what differs."""

import importlib.util
import sys
import threading

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import _core
from fusedrop.cuda import verification
from fusedrop.cuda.comparison import Arrays
from fusedrop.functional.activation import ActivationContext
from repository import ROOT

WRONG = {"linear bfloat16": 20, "dropout float16": 2, "dropout_mask": 2, "activation float32": 2}  # kernel: a result


@pytest.fixture(autouse=True)
def own_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verification, "_results", {})


@pytest.mark.parametrize("kernel", verification.KERNELS)
def test_every_kernel_is_verified(device, kernel):
    verification.verify_again(0, kernel)
    assert verification.state(0, kernel) == "verified"


def first_use(kernel):
    """A call of the kernel with an array that needs no other library."""
    verification._use(0, kernel)


@pytest.mark.parametrize("kernel", verification.KERNELS)
def test_the_first_use_verifies_once(device, kernel, monkeypatch):
    seen = []
    monkeypatch.setattr(verification, "verify", lambda *which: seen.append(which))
    first_use(kernel)
    assert seen == [(0, kernel)]


@pytest.mark.parametrize("dtype", verification.DTYPES)
def test_a_gradient_alone_is_a_use_too(device, dtype, monkeypatch):
    seen = []
    monkeypatch.setattr(verification, "verify", lambda *which: seen.append(which))
    x = Arrays(0, dtype).put(np.ones((3, 3)))
    fd.activate_backward(x, ActivationContext(x, "relu"))
    options = "identity", 0.0, None, False, 0.0, "element"
    _core.linear_gradients(x, x, x, None, False, False, *options, True, True, False)
    assert seen == [(0, f"activation {dtype}"), (0, f"linear {dtype}")]


@pytest.mark.parametrize("kernel", WRONG)
def test_one_wrong_element_is_refused(device, kernel, monkeypatch):
    to_host, calls = _core.to_host, []

    def wrong(array):
        host = to_host(array)
        calls.append(host.size)
        if len(calls) == WRONG[kernel]:
            host.flat[-1] = host.flat[-1] + 1 if host.dtype.kind == "f" else ~host.flat[-1]
        return host

    monkeypatch.setattr(_core, "to_host", wrong)
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=rf"'{kernel}' on device 0 .* is wrong and stays off: case '.*: got .*, exp"
        ):
            first_use(kernel)
    assert len(calls) == WRONG[kernel]


def test_threads_that_use_a_kernel_first(device):
    errors = []

    def use():
        try:
            first_use("dropout_mask")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert verification.state(0, "dropout_mask") == "verified"


BROKEN = {  # kernel: file, a line, the line with an error, what the message says
    "dropout_mask": (
        "elementwise/dropout.cu",
        "to[e] = (keep >> e & 1) != 0;",
        "to[e] = (keep >> (e ^ 1) & 1) != 0;",
        r"case 'key plain, granularity=element, p=0.001': mask\[\d, \d+\]: got (True|False), expected",
    ),
    "linear float32": (
        "linear/forward.cu",
        "g.epilogue.scale = scale_of(args.epilogue.mask);",
        "g.epilogue.scale = 1;",
        r"case 'identity, dropout_first=False, .*': y\[\d+, \d+\]: got .*, expected .*, error bound .*; \d+ of 520",
    ),
}


@pytest.fixture(scope="session")
def broken_module(tmp_path_factory):
    """`_cuda` compiled for the host with a wrong line in some kernels."""
    for tool in ("cmake", "ninja"):
        pytest.importorskip(tool, reason=f"{tool} is not installed")
    sys.path.insert(0, str(ROOT / "tests" / "mutants"))
    try:
        from emulated import build_emulated
        from mutant import Mutant
    finally:
        sys.path.pop(0)

    def build(kernel):
        file, old, new, _ = BROKEN[kernel]
        path = build_emulated(tmp_path_factory.mktemp("broken"), Mutant(kernel, f"csrc/cuda/{file}", old, new, ""))
        # A name of its own: pybind11 returns the module that it has loaded before under a name.
        spec = importlib.util.spec_from_file_location(f"{kernel}._cuda", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return build


@pytest.mark.parametrize("kernel", BROKEN)
def test_a_broken_kernel_is_refused(broken_module, monkeypatch, kernel):
    module = broken_module(kernel)
    monkeypatch.setitem(sys.modules, "fusedrop._cuda", module)
    _core.register_device(module.backend)
    try:
        for _ in range(2):
            with pytest.raises(RuntimeError, match=f"'{kernel}' on device 0 .* stays off: {BROKEN[kernel][3]}"):
                first_use(kernel)
        first_use("activation float32")  # the other kernels stay on
    finally:
        _core.unregister_device()
