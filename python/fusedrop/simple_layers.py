"""Layers without parameters: Dropout, the activations, Flatten."""

from __future__ import annotations

import math

import numpy as np

from fusedrop import checks, functions
from fusedrop.layers import Layer
from fusedrop.naming import MaskName


class Dropout(Layer):
    """Dropout of an array of any rank; its last axis is the mask's column, all others count its rows.

    "inverted" scaling           train keep ? x / (1 - p) : 0      test x
    "classic", the textbook's    train keep ? x : 0                test x * (1 - p)

    Args:
        p: probability of dropping; `layer.p` (or `layer.dropout`) may be set between calls.
        scaling: "inverted" or "classic".
        granularity: "element", or "unit" for one decision per index of the last axis and call.
        seed, stream: see `MaskName`.

    Srivastava et al., JMLR 15 (2014), section 10 for the two scalings.
    """

    def __init__(self, p=0.5, *, scaling="inverted", granularity="element", seed=None, stream=None):
        super().__init__()
        self.p = p
        self.scaling = checks.choice(scaling, "scaling", ("inverted", "classic"))
        self.granularity = checks.choice(granularity, "granularity", ("element", "unit"))
        self.mask_name = MaskName(seed, stream)

    @property
    def p(self) -> float:
        """Probability of dropping while training."""
        return self._p

    @p.setter
    def p(self, p):
        self._p = checks.probability(p, "p")

    dropout = p

    def forward(self, x, train=True):
        """An array like x; at test time and with inverted scaling, x itself."""
        checks.floating_array_anywhere(x, "x")
        following = self.mask_name.following(train)
        call = (self.mask_name.rng if train else None, self._p, self.granularity, self.scaling)
        y = _dropped(x, *call)
        self._saved = (x.shape, x.dtype, call)
        self.mask_name.rng = following
        return y

    def forward_known(self, x, train, kept_inputs):
        y = self.forward(x, train)
        if self.overrides(Dropout) or x.ndim != 2:
            return y, None
        if checks.on_gpu(x):  # what was 0 is 0 still
            return y, kept_inputs
        call = self._saved[2]
        if self.granularity == "unit" and call[0] is not None and self._p > 0:
            kept = functions.dropout_mask((1, x.shape[1]), p=self._p, rng=call[0], granularity="unit")[0]
            kept_inputs = kept if kept_inputs is None else kept & kept_inputs
        return y, kept_inputs

    def backward(self, dy, input_grad=True):
        """dx: dropout is linear, so dy goes through the very same mask and scale."""
        shape, dtype, call = self._last_forward()
        checks.gradient_like(dy, shape, dtype)
        return _dropped(dy, *call) if input_grad else None

    def __repr__(self):
        return f"Dropout({self.p}" + (", scaling='classic')" if self.scaling == "classic" else ")")


def _dropped(a, rng, p, granularity, scaling):
    """Training has the name of a mask, test time has none."""
    if rng is not None:
        return functions.dropout(a, p=p, rng=rng, granularity=granularity, scaling=scaling)
    if scaling == "classic" and checks.on_gpu(a):
        return a * (1 - p)
    return a if scaling == "inverted" else np.asarray(np.multiply(a, a.dtype.type(1 - p), order="C"))


class Activation(Layer):
    """y = act(x) on its own, any shape. `Linear(activation=...)` does the same inside its matmul, for nothing."""

    activation: str

    def forward(self, x, train=True):
        y = functions.activate(x, self.activation)
        self._saved = x
        return y

    def forward_known(self, x, train, kept_inputs):
        zero_stays = self.activation != "sigmoid" and not self.overrides(Activation)
        return self.forward(x, train), kept_inputs if zero_stays else None

    def backward(self, dy, input_grad=True):
        x = self._last_forward()
        checks.gradient_like(dy, x.shape, x.dtype)
        return functions.activate_backward(dy, x, self.activation) if input_grad else None

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


class Flatten(Layer):
    """[M, ...] to [M, all the rest]."""

    def forward(self, x, train=True):
        checks.floating_array_anywhere(x, "x")
        if x.ndim == 0:
            raise ValueError("x must be [M, ...], an array of rank 1 or more; got []")
        y = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        self._saved = (x.shape, y.shape, y.dtype)
        return y

    def backward(self, dy, input_grad=True):
        x_shape, y_shape, dtype = self._last_forward()
        return checks.gradient_like(dy, y_shape, dtype).reshape(x_shape) if input_grad else None

    def __repr__(self):
        return "Flatten()"
