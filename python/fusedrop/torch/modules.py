"""nn.Modules: Linear with everything inside, Dropout, Dropout1d, Dropout2d."""

from __future__ import annotations

import math

import torch

from fusedrop import checks
from fusedrop.torch import functional, operators
from fusedrop.torch.autograd import apply_dropout
from fusedrop.torch.mask_key import MaskKey


class Linear(torch.nn.Linear):
    """y = residual + dropout(activation(x wᵀ + b)) in one fused call. All but forward is torch.nn.Linear's.

    Args:
        in_features, out_features, bias, device, dtype: as torch.nn.Linear, as are initial weights and state_dict.
        activation: identity, relu, gelu, gelu_tanh, silu, tanh or sigmoid.
        p: probability of dropping an output while training. It may be set between any two calls.
        dropout_first: y = activation(dropout(x wᵀ + b)).
        input_p: probability of dropping an input while training, inside the matmul.
        granularity: "element", or "unit" for one decision per output and call. The work of a dropped unit is skipped.
        seed, stream: see `MaskKey`.

    forward(x, *, residual=None): x [..., K], residual and y [..., N]. Eval mode draws nothing and scales nothing.
    mask_key: the layer's `MaskKey`, with seed, stream and step. `mask_key.rng` is the key of the last call's mask.

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
        p=0.0,
        dropout_first=False,
        input_p=0.0,
        granularity="element",
        seed=None,
        stream=None,
    ):
        super().__init__(in_features, out_features, bias, device, dtype)
        self.activation = checks.choice(activation, "activation", tuple(operators.SAVED))
        self.p, self.input_p = p, input_p
        self.dropout_first = checks.flag(dropout_first, "dropout_first")
        self.granularity = checks.choice(granularity, "granularity", ("element", "unit"))
        self.mask_key = MaskKey(seed, stream)

    @property
    def p(self):
        """Probability of dropping an output while training."""
        return self._p

    @p.setter
    def p(self, p):
        self._p = checks.probability(p, "p")

    @property
    def input_p(self):
        """Probability of dropping an input while training."""
        return self._input_p

    @input_p.setter
    def input_p(self, p):
        self._input_p = checks.probability(p, "input_p")

    def forward(self, x, *, residual=None):
        functional.require_dense(x, "x")
        p, input_p = (self._p, self._input_p) if self.training else (0.0, 0.0)
        key = functional.NO_KEY
        if p > 0 or input_p > 0:
            key = self.mask_key.next_key(math.prod(x.shape[:-1]))
        elif self.training:
            self.mask_key.count()
        w = self.weight
        if type(w) is not torch.nn.Parameter and functional.is_dtensor(w):
            from fusedrop.torch import parallel

            return parallel.linear(self, x, residual, p, input_p, key)
        options = (self.dropout_first, input_p, self.granularity)
        return functional.linear_over_rows(x, w, self.bias, residual, self.activation, p, *key, *options)

    def extra_repr(self):
        text = super().extra_repr()
        text += f", activation={self.activation!r}" if self.activation != "identity" else ""
        text += f", p={self.p}" if self.p else ""
        text += ", dropout_first=True" if self.dropout_first else ""
        text += f", input_p={self.input_p}" if self.input_p else ""
        text += f", granularity={self.granularity!r}" if self.granularity != "element" else ""
        return text + (f", {self.mask_key}" if self.mask_key.seed is not None else "")


class _Dropout(torch.nn.Module):
    """What the three classes share: p, inplace, a mask key, and eval mode."""

    def __init__(self, p=0.5, inplace=False, *, seed=None, stream=None):
        super().__init__()
        self.p = p
        self.inplace = checks.flag(inplace, "inplace")
        self.mask_key = MaskKey(seed, stream)

    @property
    def p(self):
        """Probability of dropping while training. It may be set between any two calls."""
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
            self.mask_key.count()
            return x
        y = self.drop(x)
        return x.copy_(y) if self.inplace else y

    def extra_repr(self):
        key = f", {self.mask_key}" if self.mask_key.seed is not None else ""
        return f"p={self.p}, inplace={self.inplace}{key}"


class Dropout(_Dropout):
    """y = keep ? x / (1 - p) : 0 for a tensor of any rank: its last axis is the mask's column, all others count rows.

    Args:
        p: probability of dropping.
        inplace: y is also written to x. This saves no memory, because backward needs only the key of the mask.
        granularity: "element", or "unit" for one decision per index of the last axis.
        seed, stream: see `MaskKey`.
    """

    def __init__(self, p=0.5, inplace=False, *, granularity="element", seed=None, stream=None):
        super().__init__(p, inplace, seed=seed, stream=stream)
        self.granularity = checks.choice(granularity, "granularity", ("element", "unit"))

    def drop(self, x):
        key = self.mask_key.next_key(math.prod(x.shape[:-1]))
        if type(x) is not torch.Tensor and functional.is_dtensor(x):
            from fusedrop.torch import parallel

            parallel.check_seed(self.mask_key)
            return parallel.dropout(x, self.p, key, self.granularity)
        return apply_dropout(x, self.p, *key, self.granularity, "inverted")


class _ChannelDropout(_Dropout):
    ranks: dict[int, int]  # rank of x: the axis of its channels

    def drop(self, x):
        axis = self.ranks.get(x.dim())
        if axis is None:
            wanted = " or ".join(map(str, self.ranks))
            raise ValueError(f"x must have {wanted} dimensions for {type(self).__name__}; got {list(x.shape)}")
        key = self.mask_key.next_key(math.prod(x.shape[:axis]))
        return functional.channel_dropout(x, axis, self.p, *key)


class Dropout1d(_ChannelDropout):
    """Drops whole channels of x [N, C, L], or of one example [C, L]. Tompson et al., 1411.4280."""

    ranks = {2: 0, 3: 1}  # noqa: RUF012


class Dropout2d(_ChannelDropout):
    """Drops whole channels of x [N, C, H, W], or [N, C, L] as torch.nn.Dropout2d. Tompson et al., 1411.4280."""

    ranks = {3: 1, 4: 1}  # noqa: RUF012
