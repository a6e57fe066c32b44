"""nn.Modules: Linear with everything inside, Dropout, Dropout1d, Dropout2d."""

from __future__ import annotations

import math

import torch

from fusedrop import checks
from fusedrop.torch import functional, operators
from fusedrop.torch.derivatives import apply_dropout
from fusedrop.torch.naming import MaskName


class Linear(torch.nn.Linear):
    """y = residual + dropout(activation(x wᵀ + b)), one fused call; a torch.nn.Linear in all that is not forward.

    Args:
        in_features, out_features, bias, device, dtype: torch.nn.Linear's, as are initial weights and state_dict.
        activation: identity, relu, gelu, gelu_tanh, silu, tanh or sigmoid.
        dropout: probability of dropping an output while training; may be set between any two calls.
        dropout_before_activation: y = activation(dropout(x wᵀ + b)).
        input_dropout: probability of dropping an input while training, inside the matmul.
        granularity: "element", or "unit" for one decision per output and call, whose work is skipped.
        seed, stream: see `MaskName`.

    forward(x, *, residual=None): x [..., K], residual and y [..., N]. Eval mode draws nothing and scales nothing.
    masks: the layer's `MaskName`, with its seed, stream and step, and `masks.rng`, the name of the last call's mask.

    A weight that is a DTensor makes it a part of a tensor-parallel layer, with that part's masks: docs/parallel.md.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(
        self,
        in_features,
        out_features,
        bias=True,
        device=None,
        dtype=None,
        *,
        activation="identity",
        dropout=0.0,
        dropout_before_activation=False,
        input_dropout=0.0,
        granularity="element",
        seed=None,
        stream=None,
    ):
        super().__init__(in_features, out_features, bias, device, dtype)
        self.activation = checks.choice(activation, "activation", tuple(operators.KEPT))
        self.dropout, self.input_dropout = dropout, input_dropout
        self.dropout_before_activation = checks.flag(dropout_before_activation, "dropout_before_activation")
        self.granularity = checks.choice(granularity, "granularity", ("element", "unit"))
        self.masks = MaskName(seed, stream)

    @property
    def dropout(self):
        """Probability of dropping an output while training."""
        return self._dropout

    @dropout.setter
    def dropout(self, p):
        self._dropout = checks.probability(p, "dropout")

    @property
    def input_dropout(self):
        """Probability of dropping an input while training."""
        return self._input_dropout

    @input_dropout.setter
    def input_dropout(self, p):
        self._input_dropout = checks.probability(p, "input_dropout")

    def forward(self, x, *, residual=None):
        functional.require_dense(x, "x")
        p, input_p = (self._dropout, self._input_dropout) if self.training else (0.0, 0.0)
        name = functional.NO_NAME
        if p > 0 or input_p > 0:
            name = self.masks.take(math.prod(x.shape[:-1]))
        elif self.training:
            self.masks.count()
        w = self.weight
        if type(w) is not torch.nn.Parameter and functional.is_dtensor(w):
            from fusedrop.torch import parallel

            return parallel.linear(self, x, residual, p, input_p, name)
        options = (self.dropout_before_activation, input_p, self.granularity)
        return functional.linear_over_rows(x, w, self.bias, residual, self.activation, p, *name, *options)

    def extra_repr(self):
        text = super().extra_repr()
        text += f", activation={self.activation!r}" if self.activation != "identity" else ""
        text += f", dropout={self.dropout}" if self.dropout else ""
        text += ", dropout_before_activation=True" if self.dropout_before_activation else ""
        text += f", input_dropout={self.input_dropout}" if self.input_dropout else ""
        text += f", granularity={self.granularity!r}" if self.granularity != "element" else ""
        return text + (f", {self.masks}" if self.masks.seed is not None else "")


class _Dropout(torch.nn.Module):
    """What the three share: p, inplace, a name, and eval mode."""

    def __init__(self, p=0.5, inplace=False, *, seed=None, stream=None):
        super().__init__()
        self.p = p
        self.inplace = checks.flag(inplace, "inplace")
        self.masks = MaskName(seed, stream)

    @property
    def p(self):
        """Probability of dropping while training; may be set between any two calls."""
        return self._p

    @p.setter
    def p(self, p):
        self._p = checks.probability(p, "p")

    def forward(self, x):
        functional.require_tensor(x, "x")
        if not self.training:
            return x
        functional.require_dense(x, "x")
        if self.p == 0:
            self.masks.count()
            return x
        y = self.drop(x)
        return x.copy_(y) if self.inplace else y

    def extra_repr(self):
        return f"p={self.p}, inplace={self.inplace}" + (f", {self.masks}" if self.masks.seed is not None else "")


class Dropout(_Dropout):
    """y = keep ? x / (1 - p) : 0 for a tensor of any rank: its last axis is the mask's column, all others count rows.

    Args:
        p: probability of dropping.
        inplace: x receives y, too; saves no memory, for the mask's name is all that backward needs.
        granularity: "element", or "unit" for one decision per index of the last axis.
        seed, stream: see `MaskName`.
    """

    def __init__(self, p=0.5, inplace=False, *, granularity="element", seed=None, stream=None):
        super().__init__(p, inplace, seed=seed, stream=stream)
        self.granularity = checks.choice(granularity, "granularity", ("element", "unit"))

    def drop(self, x):
        name = self.masks.take(math.prod(x.shape[:-1]))
        if type(x) is not torch.Tensor and functional.is_dtensor(x):
            from fusedrop.torch import parallel

            parallel.check_seed(self.masks)
            return parallel.dropout(x, self.p, name, self.granularity)
        return apply_dropout(x, self.p, *name, self.granularity, "inverted")


class _ChannelDropout(_Dropout):
    ranks: dict[int, int]  # of x: the axis of its channels

    def drop(self, x):
        axis = self.ranks.get(x.dim())
        if axis is None:
            wanted = " or ".join(map(str, self.ranks))
            raise ValueError(f"x must have {wanted} dimensions for {type(self).__name__}; got {list(x.shape)}")
        name = self.masks.take(math.prod(x.shape[:axis]))
        return functional.channel_dropout(x, axis, self.p, *name)


class Dropout1d(_ChannelDropout):
    """Drops whole channels of x [N, C, L], or of one example [C, L]. Tompson et al., 1411.4280."""

    ranks = {2: 0, 3: 1}  # noqa: RUF012


class Dropout2d(_ChannelDropout):
    """Drops whole channels of x [N, C, H, W], or [N, C, L] as torch.nn.Dropout2d. Tompson et al., 1411.4280."""

    ranks = {3: 1, 4: 1}  # noqa: RUF012
