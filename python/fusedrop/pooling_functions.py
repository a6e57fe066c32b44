"""Max and average pooling of images as pure functions.

Letters: B images, C channels, H and W rows and columns; x is [B, C, H, W] (layout "NCHW") or [B, H, W, C] ("NHWC"), y
the same with H' and W'. A size is an integer or a pair (rows, columns). Along each axis, with k = kernel_size, s =
stride and q = padding, and window i at positions i s - q ... i s - q + k - 1 of the image:

    H' = floor((H + 2 q - k) / s) + 1; with ceil_mode ceil instead of floor, but the last window starts before H

which is PyTorch's rule. Padding never exceeds half a window, so every window has an element of the image. Arrays are
float32, float64 or bfloat16 (sums in float32), of any strides; results are C-contiguous, in the library of x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fusedrop import _core, checks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Size = int | tuple[int, int]

_POSITIONS = 2**32  # of a window, for positions are uint32 at most


class Windows(NamedTuple):
    """Checked options of a pooling, as (rows, columns)."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


def windows(kernel_size: Size, stride: Size | None, padding: Size) -> Windows:
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
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    *,
    ceil_mode: bool = False,
    layout: str = "NCHW",
) -> tuple[Array, _core.PoolSaved]:
    """The maximum of each window, and what its gradient needs.

    Of equal elements the first in row-major order wins; a NaN wins over every number, the last of several over the
    others. Padding never wins.

    Args:
        x: [B, C, H, W] or [B, H, W, C], as `layout` says.
        kernel_size: of a window.
        stride: from window to window; None for kernel_size.
        padding: on each side, at most half of kernel_size.
        ceil_mode: also a last window that hangs over, if it starts before the image's end.
        layout: "NCHW" or "NHWC".

    Returns:
        y and `saved` for `max_pool2d_backward`: it holds the winners' positions in their windows (`saved.positions`,
        uint8 up to 256 elements a window), not x.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    The semantics of torch.nn.functional.max_pool2d without dilation.
    """
    options = windows(kernel_size, stride, padding)
    return _core.pool_forward(
        x, True, *options, checks.flag(ceil_mode, "ceil_mode"), False, checks.channels_last(layout)
    )


def max_pool2d_backward(dy: Array, saved: _core.PoolSaved) -> Array:
    """dx: each element of dy is added to its window's winner, in row-major order of the windows.

    Args:
        dy: gradient of the loss by y, shape and dtype of y, any strides.
        saved: what `max_pool2d_forward` returned.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    return _core.pool_backward(dy, True, saved)


def avg_pool2d_forward(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str = "NCHW",
) -> tuple[Array, _core.PoolSaved]:
    """The mean of each window: its sum over a divisor.

    Args:
        x, kernel_size, stride, padding, ceil_mode, layout: as in `max_pool2d_forward`.
        count_include_pad: the divisor counts the window's elements in the image and in the padding; False: in the
            image alone. What a ceil_mode window reaches over beyond the padding never counts.

    Returns:
        y and `saved` for `avg_pool2d_backward`: sizes, no array.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    The semantics of torch.nn.functional.avg_pool2d; rows are summed first, so the last bits may differ.
    """
    options = windows(kernel_size, stride, padding)
    flags = checks.flag(ceil_mode, "ceil_mode"), checks.flag(count_include_pad, "count_include_pad")
    return _core.pool_forward(x, False, *options, *flags, checks.channels_last(layout))


def avg_pool2d_backward(dy: Array, saved: _core.PoolSaved) -> Array:
    """dx: each element of dy over its divisor, added to all elements of its window.

    Args:
        dy: gradient of the loss by y, shape and dtype of y, any strides.
        saved: what `avg_pool2d_forward` returned.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    return _core.pool_backward(dy, False, saved)
