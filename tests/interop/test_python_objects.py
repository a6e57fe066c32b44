"""Objects that Python can make although they make no sense, and methods of a caller's class that raise Ctrl-C."""

import copy
import numbers
import pickle
import subprocess
import sys

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import _core

RNG = fd.Philox(seed=1, stream=2, step=3)
X, W = np.ones((4, 5), np.float32), np.ones((3, 5), np.float32)
MADE_BY_CALLS = [
    _core.LinearContext,
    _core.Conv2dContext,
    _core.LSTMContext,
    _core.PoolContext,
    _core.DeviceArray,
]


@pytest.mark.parametrize("cls", [*MADE_BY_CALLS, fd.Philox], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    "make",
    [lambda cls: cls.__new__(cls), object.__new__, lambda cls: cls.__mro__[1].__new__(cls)],
    ids=["its own", "object's", "its base's"],
)
def test_new_makes_no_instance_without_contents(cls, make):
    """Its memory would never have been initialized."""
    with pytest.raises(TypeError, match=rf"__new__\(fusedrop\._core\.{cls.__name__}\) is not safe"):
        make(cls)


@pytest.mark.parametrize("cls", MADE_BY_CALLS, ids=lambda cls: cls.__name__)
def test_contexts_are_made_by_calls_alone(cls):
    with pytest.raises(TypeError, match=rf"cannot create 'fusedrop\._core\.{cls.__name__}' instances"):
        cls()
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Derived", (cls,), {})


def test_contexts_are_not_copied():
    _, saved = fd.linear_forward(X, W)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            copied(saved)


def test_a_key_is_frozen():
    key = fd.Philox(1, 2, 3)
    with pytest.raises(TypeError, match="No constructor defined"):
        key.__init__(5)
    assert key == fd.Philox(seed=1, stream=2, step=3)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_key_is_pickled(protocol):
    for key in (RNG, fd.Philox(2**64 - 1, 2, 3, 4, 5, 6, 7), RNG.tied(period=3)):
        again = pickle.loads(pickle.dumps(key, protocol))
        assert again == key == copy.copy(key) == copy.deepcopy(key)
        assert hash(again) == hash(key)


class Interrupted:
    """Ctrl-C arrives while one of its methods runs."""

    def raise_ctrl_c(self, *_, **__):
        raise KeyboardInterrupt

    __index__ = __float__ = raise_ctrl_c


numbers.Real.register(Interrupted)


class InterruptedArray(Interrupted):
    def __dlpack__(self, **_):
        return X.__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)


class InDevice(InterruptedArray):
    __dlpack_device__ = Interrupted.raise_ctrl_c


class InNegation(InterruptedArray):
    is_neg = Interrupted.raise_ctrl_c


@pytest.mark.parametrize(
    "call",
    [
        lambda: fd.linear(X, W, p=Interrupted(), rng=RNG),
        lambda: fd.linear(X, W, input_p=Interrupted(), rng=RNG),
        lambda: fd.dropout(X, p=Interrupted(), rng=RNG),
        lambda: fd.dropout_mask(Interrupted(), p=0.5, rng=RNG),
        lambda: fd.dropout_mask((3, Interrupted()), p=0.5, rng=RNG),
        lambda: fd.Philox(Interrupted()),
        lambda: RNG.at(row0=Interrupted()),
        lambda: fd.config.set_num_threads(Interrupted()),
        lambda: fd.linear(InDevice(), W),
        lambda: fd.linear(X, InDevice()),
        lambda: fd.linear(InNegation(), W),
    ],
)
def test_ctrl_c_is_no_wrong_argument(call):
    with pytest.raises(KeyboardInterrupt):
        call()


class NoDevice(InterruptedArray):
    def __init__(self, device):
        self.device_pair = device

    def __dlpack_device__(self):
        if isinstance(self.device_pair, Exception):
            raise self.device_pair
        return self.device_pair


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (RuntimeError("lost"), ": lost"),
        (5, r", whose __dlpack_device__ returned no pair of integers"),
        (("cpu", 0), r", whose __dlpack_device__ returned no pair of integers"),
        ((2**40, 0), r", whose __dlpack_device__ returned no pair of integers"),
    ],
)
def test_an_array_without_a_device_is_refused(device, text):
    for name, call in (("x", lambda a: fd.linear(a, W)), ("w", lambda a: fd.linear(X, a))):
        with pytest.raises(ValueError, match=f"^{name} must be an array that DLPack can share; got NoDevice{text}$"):
            call(NoDevice(device))


@pytest.mark.parametrize("module", ["ml_dtypes", "__main__"])
def test_structures_named_bfloat16_are_no_bfloat16(module):
    """Any class can have this name. The first real bfloat16 must not matter: the others are compared with it."""
    scalar = type("bfloat16", (np.void,), {"__module__": module})
    for dtype in (np.dtype((scalar, 2)), np.dtype((scalar, [("a", "u1"), ("b", "u1")]))):
        with pytest.raises(TypeError, match="x must be a NumPy array of float32, float64 or bfloat16; got"):
            fd.dropout(np.zeros((4, 5), dtype), p=0.0)


BFLOAT16_OF_TORCH = """
import sys
sys.modules["ml_dtypes"] = None
import fusedrop as fd, torch
torch.manual_seed(1)
x, w, b, dy = (torch.randn(s).bfloat16() for s in ((33, 21), (40, 21), (40,), (33, 40)))
rng = fd.Philox(1)
for activation in ("relu", "gelu"):
    for residual in (None, dy):
        y, saved = fd.linear_forward(x, w, b, activation=activation, p=0.5, rng=rng, residual=residual)
        wide, _ = fd.linear_forward(x.float(), w.float(), b.float(), activation=activation, p=0.5, rng=rng,
                                    residual=None if residual is None else residual.float())
        gradients = fd.linear_backward(dy, saved)
        assert torch.equal(y, wide.bfloat16()) and y.dtype == torch.bfloat16, activation
        assert {g.dtype for g in gradients} == {torch.bfloat16}
        assert saved.saved_activation.dtype == torch.bfloat16
image = x.reshape(1, 3, 11, 21)
for function in (fd.max_pool2d, fd.avg_pool2d):
    assert torch.equal(function(image, 2), function(image.float(), 2).bfloat16())
assert torch.equal(fd.dropout(x.T, p=0.5, rng=rng), fd.dropout(x.T.float(), p=0.5, rng=rng).bfloat16())
assert torch.equal(fd.activate(x.T, "silu"), fd.activate(x.T.float(), "silu").bfloat16())
y, saved = fd.conv2d_forward(image, w.reshape(-1, 3, 5, 4)[:40], activation="tanh")
assert fd.conv2d_backward(y, saved)[1].dtype == torch.bfloat16
print("right")
"""


def test_bfloat16_tensors_need_no_ml_dtypes():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    done = subprocess.run([sys.executable, "-c", BFLOAT16_OF_TORCH], capture_output=True, text=True)
    assert done.stdout == "right\n", done.stderr
