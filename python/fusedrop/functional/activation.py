"""Activations without a layer, as pure functions."""

from typing import NamedTuple

from fusedrop import _core
from fusedrop._types import Array
from fusedrop.functional.operator import SAVE, output_only


class ActivationContext(NamedTuple):
    """What `activate_backward` takes: the pre-activation, not copied, and the name of the activation."""

    x: Array
    activation: str


def activate_forward(x: Array, activation: str) -> tuple[Array, ActivationContext]:
    """y = act(x), elementwise, and the context of its backward pass. A fused layer computes the same bits.

    Args:
        x: pre-activation, float32, float64 or bfloat16 (float16 on a GPU), any shape and strides.
        activation: identity, relu, gelu, gelu_tanh, silu, tanh or sigmoid.

    Returns:
        (y, context): `activate_backward` takes the context. It refers to x: do not change x before the backward pass.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    y = _core.activate(x, activation)
    return (y, ActivationContext(x, activation)) if SAVE else y  # type: ignore[return-value]


activate = output_only(activate_forward, "Array", "y = act(x), elementwise. A fused layer computes the same bits.")


def activate_backward(dy: Array, saved: ActivationContext) -> Array:
    """The gradient by x: dx = dy * act'(x), elementwise.

    Args:
        dy: gradient of the loss by y, shape and dtype of x, any strides.
        saved: what `activate_forward` returned.

    Returns:
        dx, the shape and dtype of x.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    if not isinstance(saved, ActivationContext):
        raise TypeError(f"saved must be what activate_forward returned; got {type(saved).__name__}")
    return _core.activate_backward(dy, saved.x, saved.activation)
