"""The fused convolution as pure functions.

Letters: B images, C input and N output channels, x of H x W pixels, y of OH x OW, a kernel of KH x KW.
OH = (H + 2 padding - KH) // stride + 1, OW likewise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusedrop import _core, checks

if TYPE_CHECKING:
    from fusedrop.functions import Array, Gradients

Pair = int | tuple[int, int]


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
    rng: _core.Philox | None = None,
    dropout_before_activation: bool = False,
    input_p: float = 0.0,
    granularity: str = "element",
) -> tuple[Array, _core.Conv2dSaved]:
    """A fused convolution that also returns what its backward pass needs.

    y = dropout(act(conv(dropout(x), w) + b)), with z[b, n, i, j] the sum over c, h, k of
    x[b, c, i*stride + h - padding, j*stride + k - padding] w[n, c, h, k], zeros outside the image: the
    cross-correlation that neural networks call convolution. One matmul with a matrix of patches that is never stored.

    Args:
        x: images [B, C, H, W], or [B, H, W, C] for layout="NHWC"; float32, float64 or bfloat16, any strides.
        w: weight [N, C, KH, KW] in both layouts, as in torch.nn.Conv2d.
        b: bias [N], or None.
        stride, padding: an integer, or a pair (height, width).
        layout: order of the axes of x and y. It changes neither values nor masks, nor a single bit of either.
        activation, p, dropout_before_activation, input_p: as in `linear_forward`.
        rng: names the masks. Row (b*OH + i)*OW + j and column n of the mask of y; the mask of x likewise over H and
            W, on the stream with the top bit flipped. A shard of images that begins with image b0 passes
            row0 = b0*OH*OW.
        granularity: "element", or "channel" for one decision per image and channel (Dropout2d): the mask of row b.

    Returns:
        y [B, N, OH, OW] or [B, OH, OW, N], C-contiguous, and the object that `conv2d_backward` takes. It refers to x, w
        and y: change none of them before the backward pass. gelu, gelu_tanh and silu also keep z.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    Channel dropout: Tompson et al., 1411.4280.
    """
    return _core.conv2d_forward(
        x,
        w,
        b,
        *_pairs(stride, padding),
        checks.channels_last(layout),
        activation,
        p,
        rng,
        dropout_before_activation,
        input_p,
        granularity,
        True,
    )


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    layout: str = "NCHW",
    activation: str = "identity",
    p: float = 0.0,
    rng: _core.Philox | None = None,
    dropout_before_activation: bool = False,
    input_p: float = 0.0,
    granularity: str = "element",
) -> Array:
    """y alone: `conv2d_forward` without what backward needs. Same arguments, same errors."""
    return _core.conv2d_forward(
        x,
        w,
        b,
        *_pairs(stride, padding),
        checks.channels_last(layout),
        activation,
        p,
        rng,
        dropout_before_activation,
        input_p,
        granularity,
        False,
    )


def conv2d_backward(
    dy: Array,
    saved: _core.Conv2dSaved,
    *,
    dx: bool | Array = True,
    dw: bool | Array = True,
    db: bool | Array = True,
) -> Gradients:
    """The gradients of a fused convolution.

    dz = dy ⊙ mask * scale ⊙ act'; dx is dz convolved with w turned around, dw the correlation of dz with x, db the sum
    of dz over images and pixels; with input dropout, x and dx are masked likewise.

    Args:
        dy: gradient of the loss by y, y's shape and layout, any strides.
        saved: what `conv2d_forward` returned.
        dx, dw, db: each True for a new array, False to leave it out, or a C-contiguous array of the shape of x, w or b
            that receives it.

    Returns:
        (dx, dw, db); None for what was left out, and for db of a layer without bias.

    Raises:
        TypeError, ValueError: as `conv2d_forward`.
    """
    return _core.conv2d_backward(dy, saved, dx, dw, db)


def _pairs(stride: Pair, padding: Pair) -> tuple[tuple[int, int], tuple[int, int]]:
    return checks.pair(stride, "stride", 1), checks.pair(padding, "padding", 0)
