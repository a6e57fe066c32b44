"""Max and average pooling of images as pure functions.

Notation: B images, C channels, H rows and W columns of pixels; x is [B, C, H, W] (layout "NCHW") or [B, H, W, C]
("NHWC"), y the same with H' and W'. A size is an integer or a pair (rows, columns). Along each axis, with
k = kernel_size, s = stride and q = padding, window i covers positions i s - q ... i s - q + k - 1 of the image, and

    H' = floor((H + 2 q - k) / s) + 1; with ceil_mode ceil instead of floor, but the last window starts before H

This is PyTorch's rule. Padding is at most half a window, so that every window has an element of the image. Arrays are
float32, float64 or bfloat16 (sums in float32), of any strides; results are C-contiguous arrays of the library of x.
"""

from __future__ import annotations

from typing import NamedTuple

from fusedrop import _core, checks
from fusedrop._core import PoolContext
from fusedrop._types import Array, Pair
from fusedrop.functional.operator import SAVE, output_only

_POSITIONS = 2**32  # a window has fewer elements: a position is a uint32 at most


class Windows(NamedTuple):
    """Checked options of a pooling operator, as (rows, columns)."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


def windows(kernel_size: Pair, stride: Pair | None, padding: Pair) -> Windows:
    """The options as pairs; stride None is kernel_size."""
    kernel = checks.pair(kernel_size, "kernel_size", 1)
    if kernel[0] * kernel[1] >= _POSITIONS:
        raise ValueError(f"kernel_size must be windows of fewer than 2^32 elements; got {kernel_size!r}")
    steps = kernel if stride is None else checks.pair(stride, "stride", 1)
    margins = checks.pair(padding, "padding", 0)
    if any(2 * q > k for q, k in zip(margins, kernel, strict=True)):
        raise ValueError(f"padding must be at most half of kernel_size {kernel_size!r}; got {padding!r}")
    return Windows(kernel, steps, margins)


def max_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    ceil_mode: bool = False,
    layout: str = "NCHW",
) -> tuple[Array, PoolContext]:
    """The maximum of each window of an image, and the context of its backward pass.

    The winner of a window is its maximum. Of equal elements the first in row-major order wins; a NaN wins over every
    number, and the last of several NaN over the others. Padding never wins.

    Args:
        x: images [B, C, H, W] or [B, H, W, C], see `layout`; float32, float64 or bfloat16, any strides.
        kernel_size: the size of a window.
        stride: the distance between windows; None for kernel_size.
        padding: on each side, at most half of kernel_size.
        ceil_mode: True adds a last window that reaches beyond the image, if it starts inside.
        layout: order of the axes of x and y, "NCHW" or "NHWC".

    Returns:
        (y, context): `max_pool2d_backward` takes the context, which saves the winner's position in each window
        (`context.positions`, uint8 for windows of up to 256 elements), not x.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    The semantics of torch.nn.functional.max_pool2d without dilation.
    """
    kernel_sizes, strides, paddings = windows(kernel_size, stride, padding)
    return _core.pool_forward(
        x,
        maximum=True,
        kernel_size=kernel_sizes,
        stride=strides,
        padding=paddings,
        ceil_mode=checks.flag(ceil_mode, "ceil_mode"),
        channels_last=checks.channels_last(layout),
        save=SAVE,
    )


max_pool2d = output_only(max_pool2d_forward, "Array", "The maximum of each window of an image.")


def max_pool2d_backward(dy: Array, saved: PoolContext) -> Array:
    """The gradient by x: each element of dy is added to its window's winner, in row-major order of the windows.

    Args:
        dy: gradient of the loss by y, shape and dtype of y, any strides.
        saved: what `max_pool2d_forward` returned.

    Returns:
        dx, the shape and layout of x.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    return _core.pool_backward(dy, saved=saved, maximum=True)


def avg_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str = "NCHW",
) -> tuple[Array, PoolContext]:
    """The mean of each window of an image, its sum over a divisor, and the context of its backward pass.

    Args:
        x, kernel_size, stride, padding, ceil_mode, layout: as in `max_pool2d_forward`.
        count_include_pad: True: the divisor counts the window's elements in the image and in the padding; False: in
            the image alone. Elements beyond the padding, in a ceil_mode window, never count.

    Returns:
        (y, context): `avg_pool2d_backward` takes the context, which saves sizes and no array.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    The semantics of torch.nn.functional.avg_pool2d; rows are summed first, so the last bits may differ.
    """
    kernel_sizes, strides, paddings = windows(kernel_size, stride, padding)
    return _core.pool_forward(
        x,
        maximum=False,
        kernel_size=kernel_sizes,
        stride=strides,
        padding=paddings,
        ceil_mode=checks.flag(ceil_mode, "ceil_mode"),
        count_include_pad=checks.flag(count_include_pad, "count_include_pad"),
        channels_last=checks.channels_last(layout),
        save=SAVE,
    )


avg_pool2d = output_only(avg_pool2d_forward, "Array", "The mean of each window of an image.")


def avg_pool2d_backward(dy: Array, saved: PoolContext) -> Array:
    """The gradient by x: each element of dy, over its divisor, is added to all elements of its window.

    Args:
        dy: gradient of the loss by y, shape and dtype of y, any strides.
        saved: what `avg_pool2d_forward` returned.

    Returns:
        dx, the shape and layout of x.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    return _core.pool_backward(dy, saved=saved, maximum=False)
