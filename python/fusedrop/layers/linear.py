"""Linear: the fused linear layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusedrop import checks
from fusedrop.functional import linear, linear_backward, linear_forward
from fusedrop.layers.base import FusedLayer

# Largest share of active inputs for which gathering them is faster (bench/kernels/bench_unit.py, the chain).
WORTH_GATHERING = 0.92


class Linear(FusedLayer):
    """y = dropout(activation(x wᵀ + b)), fused.

    Args:
        in_features, out_features: K and N.
        bias: False for a layer without b.
        activation: identity, relu, gelu, gelu_tanh, silu, tanh or sigmoid.
        p: probability of dropping an output while training; `layer.p = 0.3` sets it on the live layer.
        dropout_first: y = activation(dropout(x wᵀ + b)).
        input_p: probability of dropping an input while training, inside the matmul.
        granularity: "element", or "unit" for one decision per output and call.
        dtype: float32, float64 or bfloat16 (its gradients are bfloat16 too).
        init: "he" (std sqrt(2 / K)), "xavier" (std sqrt(2 / (K + N))), a number (the std itself), or None: "he"
            for relu, gelu, gelu_tanh and silu, std 1 / sqrt(K) for the others. Weights are normal, biases 0.
        seed, stream: of the masks and of the initial weights; see `MaskKey`.

    params: "weight" [N, K], "bias" [N]. grads: the same keys. Changing params in place, or replacing an array by
    one of its shape, takes effect at the next call: the layer saves nothing derived from them.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        activation: str = "identity",
        p: float = 0.0,
        dropout_first: bool = False,
        input_p: float = 0.0,
        granularity: str = "element",
        dtype: Any = "float32",
        init: str | float | None = None,
        seed: int | None = None,
        stream: int | None = None,
    ):
        self.in_features = checks.size(in_features, "in_features")
        self.out_features = checks.size(out_features, "out_features")
        super().__init__(
            (self.out_features, self.in_features),
            self.out_features,
            bias=bias,
            activation=activation,
            p=p,
            input_p=input_p,
            dtype=dtype,
            init=init,
            seed=seed,
            stream=stream,
        )
        self.granularity = granularity
        self.dropout_first = dropout_first
        self._check()

    def _check(self):
        """Raise for wrong options now, not at the first batch: `linear` checks them with an empty batch."""
        empty = np.empty((0, 0), self.dtype)
        linear(
            empty,
            empty,
            activation=self.activation,
            dropout_first=self.dropout_first,
            granularity=self.granularity,
        )

    def forward(self, x, train=True, *, residual=None, active_inputs=None):
        """y [M, N] of x [M, K], plus `residual` [M, N] if given; train=False: no masks, no scale.

        active_inputs: bool [K], False for columns of x that are known to be 0: they cost no work. See `linear_forward`.
        """
        following = self.mask_key.following(train)
        y, self._context = linear_forward(
            x,
            self.params["weight"],
            self.params.get("bias"),
            activation=self.activation,
            p=self._p if train else 0.0,
            rng=self.mask_key.rng,
            dropout_first=self.dropout_first,
            input_p=self._input_p if train else 0.0,
            residual=residual,
            granularity=self.granularity,
            active_inputs=active_inputs,
        )
        self.mask_key.rng = following
        return y

    def forward_sparse(self, x, train, active_inputs):
        if self.overrides(Linear):
            return super().forward_sparse(x, train, active_inputs)
        if train and self.input_p and self.granularity == "element":
            active_inputs = None  # linear_forward refuses both together
        elif isinstance(active_inputs, np.ndarray) and _too_many(active_inputs):
            active_inputs = None
        y = self.forward(x, train, active_inputs=active_inputs)
        return y, self._context.active_outputs

    def backward(self, dy, input_grad=True):
        """dx [M, K] (None where input_grad is False) for dy [M, N]; fills `grads`. A residual's gradient is dy."""
        saved, grads = self._last_forward(), self.grads
        dx, dw, db = checks.flag(input_grad, "input_grad"), grads["weight"], grads.get("bias", False)
        return linear_backward(dy, saved, dx=dx, dw=dw, db=db)[0]

    def __repr__(self):
        return f"Linear({self.in_features}, {self.out_features}{self._options()})"


def _too_many(active: np.ndarray) -> bool:
    return bool(np.count_nonzero(active) > WORTH_GATHERING * len(active))
