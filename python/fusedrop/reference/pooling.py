"""Pooling, window by window."""

from __future__ import annotations

import itertools

import numpy as np


def _pair(size):
    return (size, size) if isinstance(size, int) else tuple(size)


def _axis_windows(size, kernel, stride, padding, ceil_mode):
    """[(top, begin, end)] of each window: where it starts, and which part of it lies in the image."""
    room = size + 2 * padding - kernel
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    tops = [i * stride - padding for i in range(count)]
    if ceil_mode and tops[-1] >= size:
        tops.pop()
    return [(top, max(top, 0), min(top + kernel, size)) for top in tops]


def _windows(shape, kernel_size, stride, padding, ceil_mode):
    """(rows, columns) of windows for an image [.., H, W]."""
    kernel, padding = _pair(kernel_size), _pair(padding)
    stride = kernel if stride is None else _pair(stride)
    return [
        _axis_windows(size, k, s, q, ceil_mode) for size, k, s, q in zip(shape, kernel, stride, padding, strict=True)
    ]


def _channels_first(a, layout):
    a = np.asarray(a, np.float64)
    return a if layout == "NCHW" else a.transpose(0, 3, 1, 2)


def _as_given(a, layout):
    return a if layout == "NCHW" else a.transpose(0, 2, 3, 1)


def _winner(window):
    """Flat index of the first maximum, or of the last NaN."""
    nan = np.flatnonzero(np.isnan(window))
    return nan[-1] if nan.size else np.argmax(window)


def max_pool2d(x, kernel_size, stride=None, padding=0, *, ceil_mode=False, layout="NCHW", dy=None):
    """(y, positions), or dx where dy is given: it is added to each window's winner.

    positions: of the winner in its window, kernel row * kernel width + kernel column.
    """
    x = _channels_first(x, layout)
    rows, cols = _windows(x.shape[2:], kernel_size, stride, padding, ceil_mode)
    y, positions = np.zeros((*x.shape[:2], len(rows), len(cols))), np.zeros((*x.shape[:2], len(rows), len(cols)), int)
    dx, dy = np.zeros_like(x), None if dy is None else _channels_first(dy, layout)
    for b, c, i, j in np.ndindex(y.shape):
        (top, h0, h1), (left, w0, w1) = rows[i], cols[j]
        window = x[b, c, h0:h1, w0:w1]
        h, w = np.unravel_index(_winner(window), window.shape)
        y[b, c, i, j] = window[h, w]
        positions[b, c, i, j] = (h0 - top + h) * _pair(kernel_size)[1] + w0 - left + w
        if dy is not None:
            dx[b, c, h0 + h, w0 + w] += dy[b, c, i, j]
    if dy is not None:
        return _as_given(dx, layout)
    return _as_given(y, layout), _as_given(positions, layout)


def avg_pool2d(
    x, kernel_size, stride=None, padding=0, *, ceil_mode=False, count_include_pad=True, layout="NCHW", dy=None
):
    """y, or dx where dy is given: each window's share of it, added to all of its elements."""
    x = _channels_first(x, layout)
    rows, cols = _windows(x.shape[2:], kernel_size, stride, padding, ceil_mode)
    (kernel_h, kernel_w), (pad_h, pad_w) = _pair(kernel_size), _pair(padding)
    y, dx = np.zeros((*x.shape[:2], len(rows), len(cols))), np.zeros_like(x)
    dy = None if dy is None else _channels_first(dy, layout)
    for (i, (top, h0, h1)), (j, (left, w0, w1)) in itertools.product(enumerate(rows), enumerate(cols)):
        divisor = (h1 - h0) * (w1 - w0)
        if count_include_pad:
            height = min(top + kernel_h, x.shape[2] + pad_h) - top
            divisor = height * (min(left + kernel_w, x.shape[3] + pad_w) - left)
        y[:, :, i, j] = x[:, :, h0:h1, w0:w1].sum(axis=(2, 3)) / divisor
        if dy is not None:
            dx[:, :, h0:h1, w0:w1] += dy[:, :, i, j, None, None] / divisor
    return _as_given(y if dy is None else dx, layout)
