"""Arithmetic with an error bound for each value: the largest error of a kernel with the same formula.

Values are float64, operations those of a kernel in a format of epsilon `eps` (two roundings an operation: the scalar
build has no fma). Each rule is the textbook's: Higham, "Accuracy and Stability of Numerical Algorithms", 2.2 and 3.1.
"""

import numpy as np

ULPS = 8  # of a kernel's exp, sigmoid or tanh, and of the products around it


class Off:
    """A value and the bound of its error."""

    eps = 0.0  # the format's; set by `computing_in`

    def __init__(self, value, error=0.0):
        self.value = np.asarray(value, np.float64)
        self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)

    @property
    def size(self):
        return np.abs(self.value) + self.error

    def __add__(self, other):
        other = off(other)
        value = self.value + other.value
        return Off(value, self.error + other.error + Off.eps * (self.size + other.size))

    def __mul__(self, other):
        other = off(other)
        error = self.error * other.size + other.error * np.abs(self.value)
        return Off(self.value * other.value, error + 2 * Off.eps * self.size * other.size)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other):
        return off(other) + self * -1.0

    def __matmul__(self, other):
        other, terms = off(other), self.value.shape[-1]
        error = self.error @ other.size + np.abs(self.value) @ other.error
        return Off(self.value @ other.value, error + (terms + 4) * Off.eps * (self.size @ other.size))

    @property
    def T(self):
        return Off(self.value.T, self.error.T)

    def __getitem__(self, index):
        return Off(self.value[index], self.error[index])

    def sum(self, axis):
        terms = self.value.shape[axis]
        return Off(self.value.sum(axis), self.error.sum(axis) + (terms + 2) * Off.eps * self.size.sum(axis))

    def where(self, keep, factor):
        """keep ? self * factor : 0."""
        scaled = self * factor
        return Off(np.where(keep, scaled.value, 0.0), np.where(keep, scaled.error, 0.0))

    def sigmoid(self):
        """Its slope is at most 1/4."""
        value = np.exp(-np.logaddexp(0, -self.value))
        return Off(value, self.error / 4 + ULPS * Off.eps * value)

    def tanh(self):
        """Its slope is at most 1."""
        value = np.tanh(self.value)
        return Off(value, self.error + ULPS * Off.eps * np.abs(value))


def off(a):
    return a if isinstance(a, Off) else Off(a)


def computing_in(dtype):
    """Set the format of the roundings that the bounds count."""
    Off.eps = float(np.finfo(dtype).eps)


def concatenate(parts, axis):
    """numpy.concatenate."""
    return Off(np.concatenate([p.value for p in parts], axis), np.concatenate([p.error for p in parts], axis))


def stack(parts, axis):
    """numpy.stack."""
    return Off(np.stack([p.value for p in parts], axis), np.stack([p.error for p in parts], axis))


def assert_within(got, want, bound, what):
    """|got - want| <= bound, elementwise; names the worst element."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, reference {want.shape}"
    assert not np.isnan(got).any(), f"{what}: {np.isnan(got).sum()} NaN"
    excess = np.abs(got.astype(np.float64) - want) - bound
    if excess.size and excess.max() > 0:
        at = np.unravel_index(excess.argmax(), excess.shape)
        raise AssertionError(
            f"{what}{list(at)}: got {got[at]}, reference {want[at]}, bound {np.broadcast_to(bound, want.shape)[at]}"
        )
