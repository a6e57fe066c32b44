"""Which device a call runs on, and the errors without a CUDA module."""

import sys

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import cuda


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
def no_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "fusedrop._cuda", None)


def test_the_first_operand_decides():
    with pytest.raises(ValueError, match="w must be on the CPU, this call runs there only; got cuda:1"):
        fd.linear(X, OnGPU((2, 1)))
    with pytest.raises(ValueError, match="dy must be on the CPU, this call runs there only; got cuda:0"):
        fd.linear_backward(OnGPU(), fd.linear_forward(X, X)[1])


def test_what_runs_on_the_cpu_only():
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
    message = r"must be on the CPU, this fusedrop has no CUDA module \(build .*FUSEDROP_CUDA=ON\); got cuda:0"
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
        (np.zeros((40, 5), bool).T, ValueError, "out must be C-contiguous and aligned; got other strides"),
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
