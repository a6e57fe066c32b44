"""Error bounds of the kernels, derived from the reference's own numbers; no tolerance is chosen by hand.

u is the format's epsilon (two roundings: the scalar build has no fma). A sum of K products carries at most
(K + 2) u Σ|x||w|: Higham, "Accuracy and Stability of Numerical Algorithms", 3.1. Activations have |act'| <= 1.13 and
|act''| <= 1, and their own evaluation costs at most ULPS units of their result.
"""

import numpy as np

from fusedrop.reference.dropout import scale
from fusedrop.reference.linear import linear_backward, pre_activation_gradient

LIPSCHITZ = 1.13  # the largest |act'|: gelu near z = 1.4
ULPS = 8


def product(a, b, terms, eps):
    """Bound of a computed a @ b with `terms` products an element: (terms + 2) u |a| |b|."""
    return (terms + 2) * eps * (np.abs(a) @ np.abs(b))


class LinearBounds:
    """Bounds of y, dx, dw and db for one call, from the reference's `saved`."""

    def __init__(self, saved, b, eps):
        self.saved, self.eps = saved, eps
        self.factor = scale(saved.p)
        self.x = np.where(saved.keep_x, saved.x * scale(saved.input_p), 0.0)
        k = self.x.shape[1]
        self.dz_of_z = product(self.x, saved.w.T, k + 2, eps) + (0 if b is None else 2 * eps * np.abs(b))

    def y(self, y, residual=None):
        slope = LIPSCHITZ * self.factor
        added = 0 if residual is None else 2 * self.eps * (np.abs(residual) + np.abs(y))
        return slope * (self.dz_of_z + 2 * self.eps * np.abs(self.saved.z)) + ULPS * self.eps * np.abs(y) + added

    def gradients(self, dy):
        """(dx, dw, db): rounding of the products, plus what the error of dz itself does to them."""
        s, eps = self.saved, self.eps
        dz = pre_activation_gradient(dy, s)
        off = self._dz(dy)
        m, n = dz.shape
        size, total = np.abs(dz) + off, np.abs(dz)
        dx = product(total, s.w, n, eps) + size @ np.abs(s.w) * eps + off @ np.abs(s.w)
        dx *= scale(s.input_p)
        dw = product(total.T, self.x, m, eps) + size.T @ np.abs(self.x) * eps + off.T @ np.abs(self.x)
        return dx, dw, (m + 2) * eps * total.sum(0) + off.sum(0)

    def _dz(self, dy):
        """|error of dz| <= |dy| scale (ULPS u + |act''| |error of z|); relu jumps where the sign of z is in doubt."""
        s = self.saved
        z_scale = self.factor if s.dropout_first else 1.0
        off_z = z_scale * (self.dz_of_z + 2 * self.eps * np.abs(s.z)) + 2 * self.eps
        slope = np.abs(dy) * self.factor * s.keep
        if s.activation == "relu":
            return slope * (ULPS * self.eps + (np.abs(s.z) * z_scale <= off_z))
        curved = 0.0 if s.activation == "identity" else 1.0
        return slope * (ULPS * self.eps + curved * off_z)


class RoundedBounds(LinearBounds):
    """Sums in float32 of arrays in a shorter type: float32's bounds, and `half` for each rounding.

    Rounded are dropped x, the z or y kept for backward (whose error act' passes on at most twice), dz, and the result.
    half: the relative error of rounding to the type: 2^-8 for bfloat16, 2^-11 for float16, 0 for float32 itself.
    least: the error of rounding what is below the type's normal numbers.
    factors: that of rounding both factors of a product (TF32).
    """

    def __init__(self, saved, b, half, least=0.0, factors=0.0):
        super().__init__(saved, b, np.finfo(np.float32).eps)
        self.half, self.least, self.factors = half, least, factors
        off_x = (half if saved.input_p else 0.0) + factors
        self.dz_of_z = self.dz_of_z + off_x * (np.abs(self.x) @ np.abs(saved.w).T)

    def _rounded(self, value, bound):
        return bound + self.half * (np.abs(value) + bound) + self.least

    def y(self, y, residual=None):
        return self._rounded(y, super().y(y, residual))

    def _dz(self, dy):
        s = self.saved
        off = super()._dz(dy)
        if s.activation not in ("identity", "relu"):
            z = np.abs(s.z) * (self.factor if s.dropout_first else 1.0)
            kept = self.half * (2 + z) + self.least * self.factor
            off = off + np.abs(dy) * self.factor * s.keep * kept
        return self._rounded(pre_activation_gradient(dy, s), off)

    def gradients(self, dy):
        dx, dw, db = super().gradients(dy)
        dz = np.abs(pre_activation_gradient(dy, self.saved))
        off_x = (self.half if self.saved.input_p else 0.0) + self.factors
        dw = dw + off_x * (dz.T @ np.abs(self.x))
        dx = dx + self.factors * scale(self.saved.input_p) * (dz @ np.abs(self.saved.w))
        wanted = linear_backward(dy, self.saved)
        return tuple(
            None if want is None else self._rounded(want, bound)
            for bound, want in zip((dx, dw, db), wanted, strict=True)
        )


def activation_bounds(x, dy, y, activation, eps):
    """Bounds of y = act(x) and of dx = dy act'(x), computed alone; both are exact for identity and relu.

    y is a bounded function or x gate(x), and the absolute error of either function is at most ULPS u. The derivative
    of x gate(x) is gate + x gate', where gate' is gate (1 - gate) times the slope of the gate's argument.
    """
    if activation in ("identity", "relu"):
        return np.zeros(np.shape(x)), np.zeros(np.shape(x))
    size = np.abs(x)
    slope = {"gelu": 1.0, "silu": 1.0, "gelu_tanh": 1.6 + 0.22 * size**2}.get(activation)
    terms = 2.0 if slope is None else 1 + size * slope
    return ULPS * eps * (size + np.abs(y)), ULPS * eps * np.abs(dy) * terms
