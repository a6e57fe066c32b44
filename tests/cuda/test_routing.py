"""Which module a call goes to, the errors without a CUDA module, and which of its paths are on."""

import sys
import types

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import cuda
from fusedrop.cuda import paths


class OnGPU:
    """An array on a GPU, with the attributes that routing reads before it calls the CUDA module."""

    def __init__(self, device=(2, 0)):
        self.device_pair, self.dtype, self.shape, self.ndim = device, np.dtype("float32"), (3, 4), 2

    def __dlpack__(self, **options):
        raise AssertionError("its memory must not be read")

    def __dlpack_device__(self):
        return self.device_pair


X = np.ones((3, 4), np.float32)


@pytest.fixture
def module(monkeypatch):
    """A CUDA module whose functions return their names and arguments."""
    made = types.ModuleType("fusedrop._cuda")
    made.LinearContext = type("LinearContext", (), {})
    for name in ("linear_forward", "linear_backward", "dropout", "dropout_mask", "activate", "activate_backward"):
        setattr(made, name, lambda *args, name=name: (name, *args))
    monkeypatch.setitem(sys.modules, "fusedrop._cuda", made)
    return made


@pytest.fixture
def no_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "fusedrop._cuda", None)


def test_calls_are_passed_on_with_all_arguments(module):
    x, dy, saved = OnGPU(), OnGPU(), module.LinearContext()
    assert fd.linear(x, X, p=0.5)[:3] == ("linear_forward", x, X)
    assert fd.linear(x, X)[-1] is False
    assert fd.linear_forward(x, X)[-1] is True
    assert fd.linear_backward(dy, saved, dx=False) == ("linear_backward", dy, saved, False, True, True)
    assert fd.dropout(x, p=0.5) == ("dropout", x, 0.5, None, "element", "inverted")
    assert fd.dropout_mask((3, 4), p=0.5, out=x) == ("dropout_mask", (3, 4), 0.5, None, "element", x)
    assert fd.activate(x, "relu") == ("activate", x, "relu")
    y, context = fd.activate_forward(x, "relu")
    assert y == ("activate", x, "relu")
    assert fd.activate_backward(X, context) == ("activate_backward", X, x, "relu")


def test_the_first_operand_decides(module):
    with pytest.raises(ValueError, match="w must be on the CPU, this call runs there only; got cuda:1"):
        fd.linear(X, OnGPU((2, 1)))
    with pytest.raises(ValueError, match="dy must be on the CPU, this call runs there only; got cuda:0"):
        fd.linear_backward(OnGPU(), fd.linear_forward(X, X)[1])


def test_what_runs_on_the_cpu_only(module):
    x = OnGPU()
    for call in (
        lambda: fd.conv2d(x, np.ones((1, 1, 1, 1), np.float32)),
        lambda: fd.max_pool2d_forward(x, 2),
        lambda: fd.lstm_forward(x, X, X),
        lambda: fd.softmax_cross_entropy(x, np.zeros(3, int)),
    ):
        with pytest.raises(ValueError, match="must be on the CPU, this call runs there only; got cuda:0"):
            call()


def test_without_the_module(no_module):
    message = (
        r"must be on the CPU, this fusedrop has no CUDA module \(build it where nvcc .*FUSEDROP_CUDA=ON\); got cuda:0"
    )
    for name, call in (
        ("x", lambda: fd.linear(OnGPU(), X)),
        ("x", lambda: fd.dropout(OnGPU(), p=0.0)),
        ("out", lambda: fd.dropout_mask((3, 4), p=0.0, out=OnGPU())),
        ("x", lambda: fd.activate(OnGPU(), "relu")),
    ):
        with pytest.raises(ValueError, match=f"{name} {message}"):
            call()
    assert cuda.module() is None
    assert cuda.state() == "not built with CUDA"
    assert fd.config.get_tf32() is False
    with pytest.raises(RuntimeError, match="set_tf32 needs the CUDA module, which this fusedrop lacks"):
        fd.config.set_tf32(True)
    with pytest.raises(RuntimeError, match="DevicePhilox needs the CUDA module, which this fusedrop lacks"):
        fd.DevicePhilox(None)


def test_a_module_that_cannot_be_loaded_says_why(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "fusedrop._cuda":
                raise ImportError("undefined symbol: something")

    monkeypatch.delitem(sys.modules, "fusedrop._cuda", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ValueError, match=r"no CUDA module \(undefined symbol: something\); got cuda:0"):
        fd.linear(OnGPU(), X)
    assert cuda.state() == "built, and cannot be loaded: undefined symbol: something"


def test_mask_in_the_callers_array():
    rng = fd.Philox(7)
    want = fd.dropout_mask((5, 40), p=0.3, rng=rng)
    out = np.zeros((5, 40), bool)
    assert fd.dropout_mask((5, 40), p=0.3, rng=rng, out=out) is out
    assert np.array_equal(out, want)
    for bad, error, message in (
        (np.zeros((5, 40)), TypeError, "out must be an array of bool or None; got float64"),
        ([True], TypeError, "out must be an array of bool or None; got list"),
        (np.zeros((40, 5), bool), ValueError, r"out must be \[5, 40\] to match shape; got \[40, 5\]"),
        (np.zeros((40, 5), bool).T, ValueError, "out must be C-contiguous; got other strides"),
    ):
        with pytest.raises(error, match=message):
            fd.dropout_mask((5, 40), p=0.3, rng=rng, out=bad)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writeable; got a read-only array"):
        fd.dropout_mask((5, 40), p=0.3, rng=rng, out=out)


def test_mask_in_a_tensor_of_the_cpu():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    out = torch.zeros(5, 40, dtype=torch.bool)
    assert fd.dropout_mask((5, 40), p=0.3, rng=fd.Philox(7), out=out) is out
    assert np.array_equal(out.numpy(), fd.dropout_mask((5, 40), p=0.3, rng=fd.Philox(7)))


def test_paths_that_passed_no_gate_are_off(monkeypatch):
    monkeypatch.setitem(paths.PATHS, "dropout", None)
    monkeypatch.delenv(paths.SWITCH, raising=False)
    message = r"the CUDA path 'dropout' .*bench/gpu/gpu_gate.sh .*FUSEDROP_CUDA_UNPROVED=1"
    with pytest.raises(RuntimeError, match=message):
        paths.require("dropout")
    assert paths.describe("dropout") == "has not passed the gate on any GPU"
    monkeypatch.setenv(paths.SWITCH, "1")
    paths.require("dropout")
    monkeypatch.delenv(paths.SWITCH)
    monkeypatch.setitem(paths.PATHS, "dropout", paths.GateRun("a GPU", "2030-01-02", "gpu.json"))
    paths.require("dropout")
    assert paths.describe("dropout") == "passed the gate on a GPU, 2030-01-02 (gpu.json)"
