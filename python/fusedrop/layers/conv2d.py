"""Conv2d: the fused convolution as a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusedrop import checks
from fusedrop._types import Pair
from fusedrop.functional import conv2d, conv2d_backward, conv2d_forward
from fusedrop.layers.base import FusedLayer


class Conv2d(FusedLayer):
    """y = dropout(activation(conv(x, w) + b)), fused.

    Args:
        in_channels, out_channels: C and N.
        kernel_size: KH and KW, an integer or a pair.
        stride, padding: an integer or a pair (height, width); zeros are padded.
        granularity: "element", or "channel" for one decision per image and channel.
        layout: "NCHW" for x [B, C, H, W], "NHWC" for x [B, H, W, C]; the weight is [N, C, KH, KW] in both.
        bias, activation, p, dropout_first, input_p, dtype, init, seed, stream: as in `Linear`; the fan-in is C*KH*KW.

    For a layer that works on images b0, b0 + 1, ... of a larger batch, set
    `mask_key.rng = mask_key.rng.at(row0=b0 * OH * OW)`: its masks are then that part of the batch's masks.

    params: "weight" [N, C, KH, KW], "bias" [N]. grads: the same keys.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        *,
        stride: Pair = 1,
        padding: Pair = 0,
        bias: bool = True,
        activation: str = "identity",
        p: float = 0.0,
        dropout_first: bool = False,
        input_p: float = 0.0,
        granularity: str = "element",
        layout: str = "NCHW",
        dtype: Any = "float32",
        init: str | float | None = None,
        seed: int | None = None,
        stream: int | None = None,
    ):
        self.in_channels = checks.size(in_channels, "in_channels")
        self.out_channels = checks.size(out_channels, "out_channels")
        self.kernel_size = checks.pair(kernel_size, "kernel_size", 1)
        self.stride, self.padding = checks.pair(stride, "stride", 1), checks.pair(padding, "padding", 0)
        super().__init__(
            (self.out_channels, self.in_channels, *self.kernel_size),
            self.out_channels * self.kernel_size[0] * self.kernel_size[1],
            bias=bias,
            activation=activation,
            p=p,
            input_p=input_p,
            dtype=dtype,
            init=init,
            seed=seed,
            stream=stream,
        )
        self.layout, self.granularity = layout, granularity
        self.dropout_first = dropout_first
        self._check()

    def _check(self):
        """Raise for wrong options now, not at the first batch: `conv2d` checks them with images without channels."""
        empty = np.empty((0, 0, 1, 1) if self.layout == "NCHW" else (0, 1, 1, 0), self.dtype)
        conv2d(empty, np.empty((0, 0, 1, 1), self.dtype), **self._fixed())

    def _fixed(self):
        return {
            "stride": self.stride,
            "padding": self.padding,
            "layout": self.layout,
            "activation": self.activation,
            "dropout_first": self.dropout_first,
            "granularity": self.granularity,
        }

    def forward(self, x, train=True):
        """y [B, N, OH, OW] of x [B, C, H, W], or [B, OH, OW, N] of [B, H, W, C]; train=False: no masks, no scale."""
        following = self.mask_key.following(train)
        y, self._context = conv2d_forward(
            x,
            self.params["weight"],
            self.params.get("bias"),
            p=self._p if train else 0.0,
            input_p=self._input_p if train else 0.0,
            rng=self.mask_key.rng,
            **self._fixed(),
        )
        self.mask_key.rng = following
        return y

    def backward(self, dy, input_grad=True):
        """dx like x (None where input_grad is False) for dy like y; fills `grads`."""
        saved, grads = self._last_forward(), self.grads
        dx, dw, db = checks.flag(input_grad, "input_grad"), grads["weight"], grads.get("bias", False)
        return conv2d_backward(dy, saved, dx=dx, dw=dw, db=db)[0]

    def __repr__(self):
        sizes = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}"
        sizes += f", stride={self.stride}" if self.stride != (1, 1) else ""
        sizes += f", padding={self.padding}" if self.padding != (0, 0) else ""
        options = self._options()
        options += f", granularity={self.granularity!r}" if self.granularity != "element" else ""
        options += f", layout={self.layout!r}" if self.layout != "NCHW" else ""
        return f"Conv2d({sizes}{options})"
