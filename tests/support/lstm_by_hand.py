"""The LSTM as a loop over time, as in a textbook, with the key of every mask written out: values and error bounds.

It shares only dropout_mask with the package. The keys are those in the docstring of `fusedrop/functional/lstm.py`.
"""

from typing import NamedTuple

import fusedrop as fd
import numpy as np
from fusedrop.reference import scale
from running_error import Off, computing_in, concatenate, off, stack

GATES = 4
NAMES = ("y", "h", "c", "dx", "dw_ih", "dw_hh", "db", "dh0", "dc0")


class Case(NamedTuple):
    """All arguments of one call forward and one back; masks are lists of four bool [B, T, N]."""

    x: np.ndarray
    w_ih: np.ndarray
    w_hh: np.ndarray
    b: np.ndarray
    h0: np.ndarray
    c0: np.ndarray
    dy: np.ndarray
    dh: np.ndarray
    dc: np.ndarray


def random_case(B, T, K, H, dtype, seed=0):
    normal = np.random.default_rng([seed, B, T, K, H]).standard_normal
    shapes = [(B, T, K), (4 * H, K), (4 * H, H), (4 * H,), (B, H), (B, H), (B, T, H), (B, H), (B, H)]
    factors = [1, 1 / max(K, 1) ** 0.5, 1 / max(H, 1) ** 0.5, 1, 1, 1, 1, 1, 1]
    return Case(*((normal(shape) * factor).astype(dtype) for shape, factor in zip(shapes, factors, strict=True)))


def masks(shape, p, seed, stream, step, first=0, constant=True, by_gate=True):
    """The masks of sequences `first`, `first` + 1, ...: one bool [B, T, N] per gate."""
    B, T, N = shape
    keep = []
    for gate in range(GATES):
        key = fd.Philox(seed, stream, step, row0=first * T, col0=gate * N * by_gate, repeat=T if constant and T else 1)
        keep.append(fd.dropout_mask(shape, p=p, rng=key))
    assert keep[0].shape == (B, T, N)
    return keep


def run(case, keep_x, keep_h, input_p=0.0, recurrent_p=0.0):
    """The nine results under NAMES, each an `Off`, for the dtype of case.x."""
    computing_in(case.x.dtype)
    T = case.x.shape[1]
    w_ih, w_hh, b = (np.split(np.float64(w), GATES) for w in (case.w_ih, case.w_hh, case.b))
    h, c = off(case.h0), off(case.c0)
    steps, outputs = [], []
    for t in range(T):
        x_t = [off(case.x[:, t]).where(keep[:, t], scale(input_p)) for keep in keep_x]
        h_t = [h.where(keep[:, t], scale(recurrent_p)) for keep in keep_h]
        z = [x_t[g] @ w_ih[g].T + b[g] + h_t[g] @ w_hh[g].T for g in range(GATES)]
        i, f, g, o = z[0].sigmoid(), z[1].sigmoid(), z[2].tanh(), z[3].sigmoid()
        c_prev, c = c, f * c + i * g
        h = o * c.tanh()
        steps.append((x_t, h_t, (i, f, g, o), c_prev, c))
        outputs.append(h)
    last = h, c
    dh, dc = off(case.dh), off(case.dc)
    dx, dz_of = [], []
    for t in reversed(range(T)):
        x_t, h_t, (i, f, g, o), c_prev, c = steps[t]
        dh = dh + case.dy[:, t]
        a = c.tanh()
        dc = dc + dh * o * (1.0 - a * a)
        dz = [dc * g * i * (1.0 - i), dc * c_prev * f * (1.0 - f), dc * i * (1.0 - g * g), dh * a * o * (1.0 - o)]
        dc = dc * f
        dx.insert(0, sum((dz[k] @ w_ih[k]).where(keep_x[k][:, t], scale(input_p)) for k in range(GATES)))
        dh = sum((dz[k] @ w_hh[k]).where(keep_h[k][:, t], scale(recurrent_p)) for k in range(GATES))
        dz_of.insert(0, dz)

    def over_rows(gate, which):
        left = concatenate([dz_of[t][gate] for t in range(T)], 0)
        return left.T @ concatenate([steps[t][which][gate] for t in range(T)], 0)

    dw = [concatenate([over_rows(gate, which) for gate in range(GATES)], 0) for which in (0, 1)]
    db = concatenate([concatenate([dz_of[t][k] for t in range(T)], 0).sum(0) for k in range(GATES)], 0)
    return dict(zip(NAMES, (stack(outputs, 1), *last, stack(dx, 1), *dw, db, dh, dc), strict=True))


def call(case, *, sequences=True, without=(), **options):
    """The same nine results from the package; y and dy are those of the last time step where `sequences` is False."""
    states = {"h0": case.h0, "c0": case.c0}
    y, (h, c), saved = fd.lstm_forward(
        case.x, case.w_ih, case.w_hh, case.b, **states, return_sequences=sequences, **options
    )
    dy = case.dy if sequences else case.dy[:, -1]
    gradients = fd.lstm_backward(dy, saved, dh=case.dh, dc=case.dc, **dict.fromkeys(without, False))
    return dict(zip(NAMES, (y, h, c, *gradients), strict=True))


def assert_within(got, want):
    """Each result within its bound; skipped gradients are None."""
    for name, a in got.items():
        assert a.shape == want[name].value.shape, f"{name}: shape {a.shape}, wanted {want[name].value.shape}"
        assert not np.isnan(a).any(), f"{name}: NaN"
        excess = np.abs(np.float64(a) - want[name].value) - want[name].error
        if excess.size and excess.max() > 0:
            at = np.unravel_index(excess.argmax(), excess.shape)
            bound = want[name].error[at]
            raise AssertionError(f"{name}{list(at)}: got {a[at]}, wanted {want[name].value[at]}, bound {bound}")


__all__ = ["NAMES", "Case", "Off", "assert_within", "call", "masks", "random_case", "run"]
