"""Dropout as a layer."""

from __future__ import annotations

import numpy as np

from fusedrop import checks
from fusedrop.functional import dropout, dropout_mask
from fusedrop.layers.base import Layer, Rate
from fusedrop.layers.mask_key import MaskKey


class Dropout(Layer):
    """Dropout of an array of any rank. Its last axis is the column of the mask, the row counts all other axes.

    "inverted" scaling           train keep ? x / (1 - p) : 0      test x
    "classic", the textbook's    train keep ? x : 0                test x * (1 - p)

    Args:
        p: probability of dropping; `layer.p` may be set between calls.
        scaling: "inverted" or "classic".
        granularity: "element", or "unit" for one decision per index of the last axis and call.
        seed, stream: see `MaskKey`.

    Srivastava et al., JMLR 15 (2014), section 10 for the two scalings.
    """

    p = Rate("Probability of dropping while training.")

    def __init__(self, p=0.5, *, scaling="inverted", granularity="element", seed=None, stream=None):
        super().__init__()
        self.p = p
        self.scaling = checks.choice(scaling, "scaling", ("inverted", "classic"))
        self.granularity = checks.choice(granularity, "granularity", ("element", "unit"))
        self.mask_key = MaskKey(seed, stream)

    def forward(self, x, train=True):
        """An array like x; at test time and with inverted scaling, x itself."""
        checks.floating_array_anywhere(x, "x")
        following = self.mask_key.following(train)
        call = (self.mask_key.rng if train else None, self._p, self.granularity, self.scaling)
        y = _dropped(x, *call)
        self._context = (x.shape, x.dtype, call)
        self.mask_key.rng = following
        return y

    def forward_sparse(self, x, train, active_inputs):
        y = self.forward(x, train)
        if self.overrides(Dropout) or x.ndim != 2:
            return y, None
        if checks.on_gpu(x):  # columns that were 0 stay 0
            return y, active_inputs
        call = self._context[2]
        if self.granularity == "unit" and call[0] is not None and self._p > 0:
            active = dropout_mask((1, x.shape[1]), p=self._p, rng=call[0], granularity="unit")[0]
            active_inputs = active if active_inputs is None else active & active_inputs
        return y, active_inputs

    def backward(self, dy, input_grad=True):
        """dx: dropout is linear, so dy goes through the same mask and scale as x."""
        shape, dtype, call = self._last_forward()
        checks.gradient_like(dy, shape, dtype)
        return _dropped(dy, *call) if input_grad else None

    def __repr__(self):
        return f"Dropout({self.p}" + (", scaling='classic')" if self.scaling == "classic" else ")")


def _dropped(a, rng, p, granularity, scaling):
    """Dropout in training, where rng is the key of the mask; at test time rng is None and nothing is dropped."""
    if rng is not None:
        return dropout(a, p=p, rng=rng, granularity=granularity, scaling=scaling)
    if scaling == "classic" and checks.on_gpu(a):
        return a * (1 - p)
    return a if scaling == "inverted" else np.asarray(np.multiply(a, a.dtype.type(1 - p), order="C"))
