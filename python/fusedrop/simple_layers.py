"""Layers without parameters: Dropout, the activations, Flatten."""

from __future__ import annotations

from fusedrop import functions
from fusedrop.layers import Layer, _probability
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
        if scaling not in ("inverted", "classic"):
            raise ValueError(f"scaling must be 'inverted' or 'classic'; got {scaling!r}")
        if granularity not in ("element", "unit"):
            raise ValueError(f"granularity must be 'element' or 'unit'; got {granularity!r}")
        self.scaling, self.granularity = scaling, granularity
        self.mask_name = MaskName(seed, stream)
        self._apply = None

    @property
    def p(self) -> float:
        """Probability of dropping while training."""
        return self._p

    @p.setter
    def p(self, p):
        self._p = _probability(p, "p")

    dropout = p

    def forward(self, x, train=True):
        """An array like x; at test time and with inverted scaling, x itself."""
        if train:
            p, rng = self._p, self.mask_name.rng
            self._apply = lambda a: functions.dropout(
                a, p=p, rng=rng, granularity=self.granularity, scaling=self.scaling
            )
            self.mask_name.advance()
        elif self.scaling == "classic":
            factor = 1 - self._p
            self._apply = lambda a: a * a.dtype.type(factor)
        else:
            self._apply = lambda a: a
        return self._apply(x)

    def backward(self, dy, input_grad=True):
        """dx: dropout is linear, so dy goes through the very same mask and scale."""
        return self._require_forward(self._apply)(dy) if input_grad else None

    def __repr__(self):
        return f"Dropout({self.p}" + (", scaling='classic')" if self.scaling == "classic" else ")")


class Activation(Layer):
    """y = act(x) on its own, any shape. A `Linear` with `activation=` does the same inside its matmul, for
    nothing."""

    activation: str

    def __init__(self):
        super().__init__()
        self._x = None

    def forward(self, x, train=True):
        self._x = x
        return functions.activate(x, self.activation)

    def backward(self, dy, input_grad=True):
        x = self._require_forward(self._x)
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

    def __init__(self):
        super().__init__()
        self._shape = None

    def forward(self, x, train=True):
        self._shape = x.shape
        return x.reshape(x.shape[0], -1)

    def backward(self, dy, input_grad=True):
        return dy.reshape(self._require_forward(self._shape)) if input_grad else None

    def __repr__(self):
        return "Flatten()"
