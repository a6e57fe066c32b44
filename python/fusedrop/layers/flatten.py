"""Flatten: from images to rows."""

from __future__ import annotations

import math

from fusedrop import checks
from fusedrop.layers.base import Layer


class Flatten(Layer):
    """y [M, K] of x [M, ...], where K is the product of the other sizes."""

    def forward(self, x, train=True):
        checks.floating_array_anywhere(x, "x")
        if x.ndim == 0:
            raise ValueError("x must be [M, ...], an array of rank 1 or more; got []")
        y = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        self._context = (x.shape, y.shape, y.dtype)
        return y

    def backward(self, dy, input_grad=True):
        x_shape, y_shape, dtype = self._last_forward()
        return checks.gradient_like(dy, y_shape, dtype).reshape(x_shape) if input_grad else None

    def __repr__(self):
        return "Flatten()"
