"""The activations as layers: ReLU, GELU, SiLU, Tanh, Sigmoid."""

from __future__ import annotations

from fusedrop import checks
from fusedrop.functional import activate_backward, activate_forward
from fusedrop.layers.base import Layer


class Activation(Layer):
    """y = act(x), elementwise, for x of any shape. `Linear(activation=...)` does this inside its matmul, at no cost."""

    activation: str

    def forward(self, x, train=True):
        y, self._context = activate_forward(x, self.activation)
        return y

    def forward_sparse(self, x, train, active_inputs):
        zero_stays_zero = self.activation != "sigmoid" and not self.overrides(Activation)
        return self.forward(x, train), active_inputs if zero_stays_zero else None

    def backward(self, dy, input_grad=True):
        context = self._last_forward()
        checks.gradient_like(dy, context.x.shape, context.x.dtype)
        return activate_backward(dy, context) if input_grad else None

    def __repr__(self):
        return f"{type(self).__name__}()"


class ReLU(Activation):
    """max(x, 0); NaN stays NaN."""

    activation = "relu"


class GELU(Activation):
    """x Φ(x), with Φ the normal distribution function. Hendrycks and Gimpel, 1606.08415."""

    activation = "gelu"


class SiLU(Activation):
    """x sigmoid(x), also called swish."""

    activation = "silu"


class Tanh(Activation):
    """tanh(x)."""

    activation = "tanh"


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    activation = "sigmoid"
