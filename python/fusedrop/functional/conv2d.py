"""The fused convolution as pure functions.

Notation: B images, C input and N output channels, x of H x W pixels, y of OH x OW, a kernel of KH x KW.
OH = (H + 2 padding - KH) // stride + 1, OW likewise.
"""

from __future__ import annotations

from fusedrop import _core, checks
from fusedrop._core import Conv2dContext, Philox
from fusedrop._types import Array, Gradients, Pair
from fusedrop.functional.operator import SAVE, output_only


def _pairs(stride: Pair, padding: Pair) -> tuple[tuple[int, int], tuple[int, int]]:
    return checks.pair(stride, "stride", 1), checks.pair(padding, "padding", 0)


def conv2d_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    layout: str = "NCHW",
    activation: str = "identity",
    p: float = 0.0,
    rng: Philox | None = None,
    dropout_first: bool = False,
    input_p: float = 0.0,
    granularity: str = "element",
) -> tuple[Array, Conv2dContext]:
    """A fused convolution, and the context of its backward pass.

    y = dropout(act(conv(dropout(x), w) + b)). conv(x, w)[b, n, i, j] is the sum over c, h, k of
    x[b, c, i*stride + h - padding, j*stride + k - padding] w[n, c, h, k], with zeros outside the image: the
    cross-correlation that neural networks call convolution. It runs as one matrix product; the matrix of patches is
    never stored.

    Args:
        x: images [B, C, H, W], or [B, H, W, C] for layout="NHWC"; float32, float64 or bfloat16, any strides.
        w: weight [N, C, KH, KW] in both layouts, as in torch.nn.Conv2d.
        b: bias [N], or None.
        stride, padding: an integer, or a pair (height, width).
        layout: order of the axes of x and y, "NCHW" or "NHWC". Values and masks are the same bits in both.
        activation, p, dropout_first, input_p: as in `linear_forward`.
        rng: key of the masks; required where p or input_p is above 0. Element (b, n, i, j) of y has row
            (b*OH + i)*OW + j and column n of its mask; the mask of x counts rows over H and W in the same way, on the
            stream with the top bit flipped. A shard whose first image is image b0 of the batch passes
            row0 = b0*OH*OW.
        granularity: "element", or "channel" for one decision per image and channel (Dropout2d), that of mask row b.

    Returns:
        (y [B, N, OH, OW] or [B, OH, OW, N], C-contiguous; context): `conv2d_backward` takes the context. It refers to
        x, w and y: change none of them before the backward pass. gelu, gelu_tanh and silu also save z.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    Channel dropout: Tompson et al., 1411.4280.
    """
    strides, paddings = _pairs(stride, padding)
    return _core.conv2d_forward(
        x,
        w,
        b,
        stride=strides,
        padding=paddings,
        channels_last=checks.channels_last(layout),
        activation=activation,
        p=p,
        rng=rng,
        dropout_first=dropout_first,
        input_p=input_p,
        granularity=granularity,
        save=SAVE,
    )


conv2d = output_only(conv2d_forward, "Array", "A fused convolution: y = dropout(act(conv(dropout(x), w) + b)).")


def conv2d_backward(
    dy: Array,
    saved: Conv2dContext,
    *,
    dx: bool | Array = True,
    dw: bool | Array = True,
    db: bool | Array = True,
) -> Gradients:
    """The gradients of a fused convolution.

    dz = dy ⊙ mask * scale ⊙ act'; dx is the convolution of dz with w rotated by 180 degrees, dw the correlation of dz
    with x, db the sum of dz over images and pixels; with input dropout, x and dx go through the mask and scale of x.

    Args:
        dy: gradient of the loss by y, y's shape and layout, any strides.
        saved: what `conv2d_forward` returned.
        dx, dw, db: each True for a new array, False to skip it, or a C-contiguous array of the shape of x, w or b
            that receives it.

    Returns:
        (dx, dw, db); None for what was skipped, and for db of a layer without bias.

    Raises:
        TypeError, ValueError: as `conv2d_forward`.
    """
    return _core.conv2d_backward(dy, saved, dx=dx, dw=dw, db=db)
