"""Max and average pooling, window by window."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from fusedrop.reference.operator import output_only


def _pair(size):
    return (size, size) if isinstance(size, int) else tuple(size)


def _axis_windows(size, kernel, stride, padding, ceil_mode):
    """[(top, begin, end)] of each window: its start, and the positions [begin, end) of its part inside the image."""
    room = size + 2 * padding - kernel
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    tops = [i * stride - padding for i in range(count)]
    if ceil_mode and tops[-1] >= size:
        tops.pop()
    return [(top, max(top, 0), min(top + kernel, size)) for top in tops]


def _windows(shape, kernel_size, stride, padding, ceil_mode):
    """(windows along the rows, windows along the columns) of an image [.., H, W]."""
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
    """The flat index of the first maximum, or of the last NaN."""
    nan = np.flatnonzero(np.isnan(window))
    return nan[-1] if nan.size else np.argmax(window)


class PoolContext(NamedTuple):
    """What the backward pass takes: the shape of x [B, C, H, W], the windows, and the winners or the divisors."""

    shape: tuple[int, ...]
    rows: list
    cols: list
    layout: str
    positions: Any = None  # max: [B, C, H', W'] of the winner in its window, kernel row * kernel width + kernel column
    kernel_width: int = 0
    divisors: Any = None  # average: [H', W']


def max_pool2d_forward(x, kernel_size, stride=None, padding=0, *, ceil_mode=False, layout="NCHW"):
    """(y, context): the maximum of each window, and what `max_pool2d_backward` takes."""
    x = _channels_first(x, layout)
    rows, cols = _windows(x.shape[2:], kernel_size, stride, padding, ceil_mode)
    width = _pair(kernel_size)[1]
    y, positions = np.zeros((*x.shape[:2], len(rows), len(cols))), np.zeros((*x.shape[:2], len(rows), len(cols)), int)
    for b, c, i, j in np.ndindex(y.shape):
        (top, h0, h1), (left, w0, w1) = rows[i], cols[j]
        window = x[b, c, h0:h1, w0:w1]
        h, w = np.unravel_index(_winner(window), window.shape)
        y[b, c, i, j] = window[h, w]
        positions[b, c, i, j] = (h0 - top + h) * width + w0 - left + w
    return _as_given(y, layout), PoolContext(x.shape, rows, cols, layout, positions, width)


max_pool2d = output_only(max_pool2d_forward)


def max_pool2d_backward(dy, saved):
    """dx: each element of dy is added to its window's winner."""
    dy, dx = _channels_first(dy, saved.layout), np.zeros(saved.shape)
    for b, c, i, j in np.ndindex(dy.shape):
        h, w = divmod(saved.positions[b, c, i, j], saved.kernel_width)
        dx[b, c, saved.rows[i][0] + h, saved.cols[j][0] + w] += dy[b, c, i, j]
    return _as_given(dx, saved.layout)


def avg_pool2d_forward(
    x, kernel_size, stride=None, padding=0, *, ceil_mode=False, count_include_pad=True, layout="NCHW"
):
    """(y, context): the mean of each window, and what `avg_pool2d_backward` takes."""
    x = _channels_first(x, layout)
    rows, cols = _windows(x.shape[2:], kernel_size, stride, padding, ceil_mode)
    (kernel_h, kernel_w), (pad_h, pad_w) = _pair(kernel_size), _pair(padding)
    y, divisors = np.zeros((*x.shape[:2], len(rows), len(cols))), np.zeros((len(rows), len(cols)))
    for (i, (top, h0, h1)), (j, (left, w0, w1)) in itertools.product(enumerate(rows), enumerate(cols)):
        divisors[i, j] = (h1 - h0) * (w1 - w0)
        if count_include_pad:
            height = min(top + kernel_h, x.shape[2] + pad_h) - top
            divisors[i, j] = height * (min(left + kernel_w, x.shape[3] + pad_w) - left)
        y[:, :, i, j] = x[:, :, h0:h1, w0:w1].sum(axis=(2, 3)) / divisors[i, j]
    return _as_given(y, layout), PoolContext(x.shape, rows, cols, layout, divisors=divisors)


avg_pool2d = output_only(avg_pool2d_forward)


def avg_pool2d_backward(dy, saved):
    """dx: each element of dy over its divisor, added to all elements of its window."""
    dy, dx = _channels_first(dy, saved.layout), np.zeros(saved.shape)
    for (i, (_, h0, h1)), (j, (_, w0, w1)) in itertools.product(enumerate(saved.rows), enumerate(saved.cols)):
        dx[:, :, h0:h1, w0:w1] += dy[:, :, i, j, None, None] / saved.divisors[i, j]
    return _as_given(dx, saved.layout)
