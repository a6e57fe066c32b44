"""The convolution: a linear layer of the matrix of patches, which is stored here."""

from typing import Any, NamedTuple

import numpy as np

from fusedrop.reference.dropout import dropout_mask, input_rng, scale, select
from fusedrop.reference.linear import LinearContext, linear_backward, linear_forward
from fusedrop.reference.operator import output_only


class Conv2dContext(NamedTuple):
    """The context of the linear layer, and what reshapes its arrays to images."""

    linear: LinearContext
    keep_x: Any  # [B, H, W, C]
    input_p: float
    w_shape: tuple[int, ...]
    stride: tuple[int, int]
    padding: tuple[int, int]
    y_shape: tuple[int, ...]  # [B, OH, OW, N]
    layout: str


def patches(x, kernel, stride, padding):
    """[B, OH, OW, C*KH*KW] of x [B, H, W, C]: the inputs of each pixel of the result."""
    h, w = padding
    padded = np.pad(x, ((0, 0), (h, h), (w, w), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    windows = windows[:, :: stride[0], :: stride[1]]  # [B, OH, OW, C, KH, KW]
    return windows.reshape(*windows.shape[:3], -1)


def fold(columns, x_shape, kernel, stride, padding):
    """The adjoint of `patches`: every element of [B, OH, OW, C*KH*KW] is added where `patches` read it."""
    b, h, w, c = x_shape
    x = np.zeros((b, h + 2 * padding[0], w + 2 * padding[1], c), columns.dtype)
    oh, ow = columns.shape[1:3]
    windows = columns.reshape(b, oh, ow, c, *kernel)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i, i + (oh - 1) * stride[0] + 1, stride[0])
            x[:, rows, j : j + (ow - 1) * stride[1] + 1 : stride[1]] += windows[..., i, j]
    return x[:, padding[0] : padding[0] + h, padding[1] : padding[1] + w]


def conv2d_forward(
    x,
    w,
    b=None,
    *,
    stride=1,
    padding=0,
    layout="NCHW",
    activation="identity",
    p=0.0,
    rng=None,
    dropout_first=False,
    input_p=0.0,
    granularity="element",
):
    """(y, context): y = dropout(act(conv(dropout(x), w) + b)), and what `conv2d_backward` takes."""
    x, w = _channels_last(np.asarray(x, np.float64), layout), np.asarray(w, np.float64)
    stride, padding = _pair(stride), _pair(padding)
    keep_x = _keep(x.shape, input_p, _input_rng(rng, x.shape, w.shape, stride, padding), granularity)
    windows = patches(select(keep_x, x, scale(input_p)), w.shape[2:], stride, padding)
    pixels = windows.shape[1] * windows.shape[2]
    tied = rng.tied(repeat=pixels) if granularity == "channel" and rng is not None else rng
    rows, weight = windows.reshape(-1, windows.shape[3]), w.reshape(w.shape[0], -1)
    y, saved = linear_forward(rows, weight, b, activation=activation, p=p, rng=tied, dropout_first=dropout_first)
    y_shape = (*windows.shape[:3], w.shape[0])
    return _in_layout(y.reshape(y_shape), layout), Conv2dContext(
        saved, keep_x, input_p, w.shape, stride, padding, y_shape, layout
    )


conv2d = output_only(conv2d_forward)


def conv2d_backward(dy, saved):
    """(dx, dw, db)."""
    rows = _channels_last(np.asarray(dy, np.float64), saved.layout).reshape(-1, saved.y_shape[3])
    columns, dw, db = linear_backward(rows, saved.linear)
    columns = columns.reshape(*saved.y_shape[:3], columns.shape[1])
    dx = fold(columns, saved.keep_x.shape, saved.w_shape[2:], saved.stride, saved.padding)
    dx = select(saved.keep_x, dx, scale(saved.input_p))
    return _in_layout(dx, saved.layout), dw.reshape(saved.w_shape), db


def _keep(shape, p, rng, granularity):
    """The mask over images [B, H, W, C]: one decision per element, or one per image and channel."""
    if granularity == "channel" and rng is not None:
        rng = rng.tied(repeat=shape[1] * shape[2])
    return dropout_mask(shape, p=p, rng=rng)


def _input_rng(rng, x_shape, w_shape, stride, padding):
    """The key of the mask of x. row0 is the first pixel of an image, in y and in x."""
    if rng is None:
        return None
    h, w = x_shape[1:3]
    oh, ow = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip((h, w), w_shape[2:], stride, padding, strict=True))
    return input_rng(rng).at(row0=rng.row0 // (oh * ow) * h * w)


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def _channels_last(a, layout):
    return a if layout == "NHWC" else a.transpose(0, 2, 3, 1)


def _in_layout(a, layout):
    return a if layout == "NHWC" else a.transpose(0, 3, 1, 2)
