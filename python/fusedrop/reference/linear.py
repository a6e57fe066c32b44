"""The generator, the mask, the activations and the fused linear layer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

UNIT_ROW = 0xFFFFFFFF
INPUT_STREAM = 0x80000000


def philox4x32_10(counter, key):
    """Four u32 words (arrays) from four counters (arrays of u64 below 2^32) and two integers. Salmon et al. 2011."""
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = key
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (p1 >> half) ^ c1 ^ np.uint64(k0),
            p1 & low,
            (p0 >> half) ^ c3 ^ np.uint64(k1),
            p0 & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def threshold(p):
    """round_half_even(p * 65536): a 16-bit draw below it drops."""
    return round(float(p) * 65536)


def scale(p):
    """65536 / (65536 - threshold): the inverse of the effective keep rate; 0 where nothing is kept."""
    t = threshold(p)
    return 0.0 if t == 65536 else 65536 / (65536 - t)


def dropout_mask(shape, *, p, rng=None, granularity="element"):
    """bool [*, N]: True where an element is kept."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if rng is None:
        if p > 0:
            raise ValueError("rng is required where p > 0")
        return np.ones(shape, bool)
    n = shape[-1] if shape else 1
    m = math.prod(shape[:-1])
    rows = (rng.row0 + np.arange(m, dtype=np.uint64)) // np.uint64(rng.repeat)
    if rng.period is not None:
        rows %= np.uint64(rng.period)
    if granularity == "unit":
        rows = np.full(m, UNIT_ROW, np.uint64)
    col = rng.col0 + np.arange(n)
    block, c = col // 32, col % 32
    counter = np.broadcast_arrays(4 * block + (c % 8) // 2, rows[:, None], rng.step, rng.stream)
    words = np.stack(philox4x32_10(counter, (rng.seed & 0xFFFFFFFF, rng.seed >> 32)))
    word = np.take_along_axis(words, np.broadcast_to(c // 8, (1, m, n)), axis=0)[0]
    u16 = (word >> (16 * (c % 2)).astype(np.uint64)) & np.uint64(0xFFFF)
    return (u16 >= threshold(p)).reshape(shape)


def dropout(x, *, p, rng=None, granularity="element", scaling="inverted"):
    """keep ? x * scale : 0."""
    keep = dropout_mask(np.shape(x), p=p, rng=rng, granularity=granularity)
    factor = scale(p) if scaling == "inverted" else 1.0
    return select(keep, np.asarray(x, np.float64), factor)


def select(keep, values, factor):
    """Selected, not multiplied: a dropped NaN or Inf is 0."""
    with np.errstate(all="ignore"):
        return np.where(keep, values * factor, 0.0)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _normal_cdf(z):
    return 0.5 * (1 + _erf(z / math.sqrt(2)))


def _sigmoid(z):
    return np.exp(-np.logaddexp(0, -z))


def _gelu_tanh_gate(z):
    return _sigmoid(2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))


def _relu(z):
    return np.where(np.isnan(z), z, np.maximum(z, 0))


def _gelu_derivative(z):
    return _normal_cdf(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _gelu_tanh_derivative(z):
    s = _gelu_tanh_gate(z)
    return s + z * s * (1 - s) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)


def _silu_derivative(z):
    s = _sigmoid(z)
    return s + z * s * (1 - s)


# name: (act(z), g * act'(z)); relu selects, so a dead unit's Inf gradient is 0.
ACTIVATIONS = {
    "identity": (lambda z: z, lambda g, z: g),
    "relu": (_relu, lambda g, z: np.where(z <= 0, 0.0, g)),
    "gelu": (lambda z: z * _normal_cdf(z), lambda g, z: g * _gelu_derivative(z)),
    "gelu_tanh": (lambda z: z * _gelu_tanh_gate(z), lambda g, z: g * _gelu_tanh_derivative(z)),
    "silu": (lambda z: z * _sigmoid(z), lambda g, z: g * _silu_derivative(z)),
    "tanh": (np.tanh, lambda g, z: g * (1 - np.tanh(z) ** 2)),
    "sigmoid": (_sigmoid, lambda g, z: g * _sigmoid(z) * (1 - _sigmoid(z))),
}


class Saved(NamedTuple):
    """Everything `linear_backward` needs, kept whole: this is the specification, not the kernel."""

    x: Any
    w: Any
    z: Any
    keep: Any
    keep_x: Any
    p: float
    input_p: float
    activation: str
    before: bool
    has_bias: bool


def linear_forward(
    x,
    w,
    b=None,
    *,
    activation="identity",
    p=0.0,
    rng=None,
    dropout_before_activation=False,
    input_p=0.0,
    residual=None,
    granularity="element",
    kept_inputs=None,
):
    """y = residual + dropout(act(dropout(x) wᵀ + b)), and what `linear_backward` takes."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    keep = dropout_mask((x.shape[0], w.shape[0]), p=p, rng=rng, granularity=granularity)
    keep_x = dropout_mask(x.shape, p=input_p, rng=input_rng(rng), granularity=granularity)
    keep_x = keep_x if kept_inputs is None else keep_x & kept_inputs
    act, _ = ACTIVATIONS[activation]
    with np.errstate(all="ignore"):
        z = select(keep_x, x, scale(input_p)) @ w.T
        z = z if b is None else z + np.asarray(b, np.float64)
        y = act(select(keep, z, scale(p))) if dropout_before_activation else select(keep, act(z), scale(p))
        y = y if residual is None else np.asarray(residual, np.float64) + y
    saved = Saved(x, w, z, keep, keep_x, p, input_p, activation, dropout_before_activation, b is not None)
    return y, saved


def linear(x, w, b=None, **options):
    """y alone."""
    return linear_forward(x, w, b, **options)[0]


def pre_activation_gradient(dy, saved):
    """dz = keep ? dy * scale * act'(.) : 0."""
    _, chain = ACTIVATIONS[saved.activation]
    factor = scale(saved.p)
    with np.errstate(all="ignore"):
        at = select(saved.keep, saved.z, factor) if saved.before else saved.z
        return select(saved.keep, chain(np.asarray(dy, np.float64), at), factor)


def linear_backward(dy, saved):
    """(dx, dw, db)."""
    dz = pre_activation_gradient(dy, saved)
    factor = scale(saved.input_p)
    with np.errstate(all="ignore"):
        dx = select(saved.keep_x, dz @ saved.w, factor)
        dw = dz.T @ select(saved.keep_x, saved.x, factor)
        return dx, dw, dz.sum(axis=0) if saved.has_bias else None


def input_rng(rng):
    """The name of x's mask: the stream's top bit flipped, columns from 0 (col0 is the origin of y's columns)."""
    if rng is None:
        return None
    stream = rng.stream ^ INPUT_STREAM
    return type(rng)(rng.seed, stream, rng.step, rng.row0, 0, rng.repeat, rng.period)


def activate(x, activation):
    """act(x)."""
    with np.errstate(all="ignore"):
        return ACTIVATIONS[activation][0](np.asarray(x, np.float64))


def activate_backward(dy, x, activation):
    """dy * act'(x)."""
    with np.errstate(all="ignore"):
        return ACTIVATIONS[activation][1](np.asarray(dy, np.float64), np.asarray(x, np.float64))
