"""The generator, the mask, and dropout."""

import math
from typing import Any, NamedTuple

import numpy as np

from fusedrop.reference.operator import output_only

UNIT_ROW = 0xFFFFFFFF
INPUT_STREAM = 0x80000000


def philox4x32_10(counter, key):
    """Four u32 words (arrays) from four counters (arrays of u64 below 2^32) and a key of two integers.

    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
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


class DropoutContext(NamedTuple):
    """The mask and the factor of kept elements. The kernels store neither."""

    keep: Any
    factor: float


def dropout_forward(x, *, p, rng=None, granularity="element", scaling="inverted"):
    """(y, context): y = keep ? x * scale : 0, and what `dropout_backward` takes."""
    keep = dropout_mask(np.shape(x), p=p, rng=rng, granularity=granularity)
    saved = DropoutContext(keep, scale(p) if scaling == "inverted" else 1.0)
    return select(saved.keep, np.asarray(x, np.float64), saved.factor), saved


dropout = output_only(dropout_forward)


def dropout_backward(dy, saved):
    """dx = keep ? dy * scale : 0."""
    return select(saved.keep, np.asarray(dy, np.float64), saved.factor)


def select(keep, values, factor):
    """keep ? values * factor : 0. It selects: a dropped NaN or Inf is 0."""
    with np.errstate(all="ignore"):
        return np.where(keep, values * factor, 0.0)


def input_rng(rng):
    """The key of the mask of x: the stream's top bit flipped, and columns from 0, for col0 counts columns of y."""
    if rng is None:
        return None
    stream = rng.stream ^ INPUT_STREAM
    return type(rng)(rng.seed, stream, rng.step, rng.row0, 0, rng.repeat, rng.period)
