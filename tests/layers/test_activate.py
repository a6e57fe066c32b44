"""activate_forward, activate_backward: the context holds the pre-activation, and the gradient is the derivative."""

import fusedrop as fd
import numpy as np
import pytest
from finite_differences import assert_gradient
from fusedrop import reference

activations = pytest.mark.parametrize("activation", fd.activations)


def normal(*shape, dtype="float64"):
    return 2 * np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


@activations
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_context_refers_to_x(isa, activation, dtype):
    x, dy = normal(5, 37, dtype=dtype), normal(5, 37, dtype=dtype)
    y, saved = fd.activate_forward(x, activation)
    assert type(saved) is fd.ActivationContext
    assert saved.x is x
    assert saved.activation == activation
    assert y.tobytes() == fd.activate(x, activation).tobytes()
    assert fd.activate_backward(dy, saved).tobytes() == fd.activate_backward(dy, saved).tobytes()
    made = fd.ActivationContext(x.copy(), activation)
    assert fd.activate_backward(dy, made).tobytes() == fd.activate_backward(dy, saved).tobytes()


@activations
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_are_the_reference(isa, activation, dtype):
    x, dy = normal(5, 37, dtype=dtype), normal(5, 37, dtype=dtype) + 1
    y, saved = fd.activate_forward(x, activation)
    want, want_saved = reference.activate_forward(x, activation)
    eight_units = 8 * np.finfo(dtype).eps  # what an activation's evaluation may cost, of its terms' size
    assert (np.abs(y - want) <= eight_units * (np.abs(want) + np.abs(x))).all()
    wanted = reference.activate_backward(dy, want_saved)
    assert (np.abs(fd.activate_backward(dy, saved) - wanted) <= eight_units * np.abs(dy) * (1 + np.abs(x))).all()


@activations
def test_backward_is_the_derivative(activation):
    x, dy = normal(4, 7), normal(4, 7) + 1
    x[np.abs(x) < 0.01] = 0.5  # relu has a corner at 0
    _, saved = fd.activate_forward(x, activation)
    dx = fd.activate_backward(dy, saved)
    assert_gradient(lambda: float((fd.activate(x, activation) * dy).sum()), x, dx, operations=8 * 28)


@activations
def test_the_layer_computes_the_same_bits(isa, activation):
    """A fused layer with w = I: its epilogue and activate are one formula."""
    x, dy = normal(5, 16, dtype="float32"), normal(5, 16, dtype="float32")
    y, saved = fd.linear_forward(x, np.eye(16, dtype=np.float32), activation=activation)
    alone, context = fd.activate_forward(x, activation)
    assert y.tobytes() == alone.tobytes()
    dx = fd.linear_backward(dy, saved, dw=False, db=False)[0]
    if activation in ("gelu", "gelu_tanh", "silu", "relu", "identity"):  # tanh and sigmoid use y there
        assert np.array_equal(dx, fd.activate_backward(dy, context))
