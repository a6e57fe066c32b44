"""Pooling layers: MaxPool2d and AvgPool2d. They have no parameters and are the same in training and at test time."""

from __future__ import annotations

from fusedrop import checks
from fusedrop.functional import avg_pool2d_backward, avg_pool2d_forward, max_pool2d_backward, max_pool2d_forward
from fusedrop.functional.pooling import windows
from fusedrop.layers.base import Layer


class _Pool2d(Layer):
    """The options that both layers have, checked."""

    def __init__(self, kernel_size, stride, padding, ceil_mode, layout):
        super().__init__()
        self.kernel_size, self.stride, self.padding = windows(kernel_size, stride, padding)
        self.ceil_mode = checks.flag(ceil_mode, "ceil_mode")
        checks.channels_last(layout)
        self.layout = layout

    def __repr__(self):
        options = f", padding={self.padding}" if any(self.padding) else ""
        options += ", ceil_mode=True" if self.ceil_mode else ""
        options += f", layout={self.layout!r}" if self.layout != "NCHW" else ""
        return f"{type(self).__name__}({self.kernel_size}, {self.stride}{options})"


class MaxPool2d(_Pool2d):
    """The maximum of each window of an image; see `max_pool2d_forward` for sizes, ties and NaN.

    Args:
        kernel_size, stride, padding: integers or pairs (rows, columns); stride None is kernel_size.
        ceil_mode: True adds a last window that reaches beyond the image.
        layout: of x and y, "NCHW" or "NHWC".

    Saves one byte per output for backward (windows of up to 256 elements), not x.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(self, kernel_size, stride=None, padding=0, *, ceil_mode=False, layout="NCHW"):
        super().__init__(kernel_size, stride, padding, ceil_mode, layout)

    def forward(self, x, train=True):
        """y [B, C, H', W'] of x [B, C, H, W], or [B, H', W', C] of [B, H, W, C]."""
        sizes = self.kernel_size, self.stride, self.padding
        y, self._context = max_pool2d_forward(x, *sizes, ceil_mode=self.ceil_mode, layout=self.layout)
        return y

    def backward(self, dy, input_grad=True):
        """dx, the shape of x (None where input_grad is False): dy at the winners, 0 elsewhere."""
        input_grad = checks.flag(input_grad, "input_grad")
        dx = max_pool2d_backward(dy, self._last_forward())
        return dx if input_grad else None


class AvgPool2d(_Pool2d):
    """The mean of each window of an image; see `avg_pool2d_forward`.

    Args:
        kernel_size, stride, padding, ceil_mode, layout: as in `MaxPool2d`.
        count_include_pad: True: the divisor counts padding too; False: only elements of the image.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(self, kernel_size, stride=None, padding=0, *, ceil_mode=False, count_include_pad=True, layout="NCHW"):
        super().__init__(kernel_size, stride, padding, ceil_mode, layout)
        self.count_include_pad = checks.flag(count_include_pad, "count_include_pad")

    def forward(self, x, train=True):
        """y [B, C, H', W'] of x [B, C, H, W], or [B, H', W', C] of [B, H, W, C]."""
        y, self._context = avg_pool2d_forward(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
            layout=self.layout,
        )
        return y

    def backward(self, dy, input_grad=True):
        """dx, the shape of x (None where input_grad is False): the share of dy that each element of x gets."""
        input_grad = checks.flag(input_grad, "input_grad")
        dx = avg_pool2d_backward(dy, self._last_forward())
        return dx if input_grad else None
