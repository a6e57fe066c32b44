"""The pure functions: everything they need is an argument, everything they make is a result.

Letters: M rows (batch), K inputs, N outputs; x [M, K], w [N, K], b [N], z = x wᵀ + b, y [M, N].
p is the probability of dropping. Arrays are NumPy arrays, or CPU arrays of any library that speaks DLPack (PyTorch,
JAX), of float32, float64 or bfloat16 (NumPy's is ml_dtypes'; sums are float32), all of one dtype, with any strides.
Results are C-contiguous, and in the library of x.

Arrays on a GPU take float32, float16 or bfloat16, all of them on one device; calls run on the current stream of x's
library and wait for nothing. rng may be a `fusedrop.DevicePhilox` there. What the GPU would have to copy first
(activate of another order than C's, dropout of axes that cannot be seen as rows) is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusedrop import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fusedrop.cuda import DevicePhilox

    Array = NDArray[Any]
    Name = _core.Philox | DevicePhilox
    Gradients = tuple[Array | None, Array | None, Array | None]


def linear_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    activation: str = "identity",
    p: float = 0.0,
    rng: Name | None = None,
    dropout_before_activation: bool = False,
    input_p: float = 0.0,
    residual: Array | None = None,
    granularity: str = "element",
    kept_inputs: Array | None = None,
    out: Array | None = None,
) -> tuple[Array, _core.Saved]:
    """A fused linear layer that also returns what its backward pass needs.

    y = residual + dropout(act(dropout(x) wᵀ + b)), in one kernel; the masks are drawn inside it and never stored.

    Args:
        x: inputs [M, K].
        w: weight [N, K], as in torch.nn.Linear; a textbook's W [K, N] is passed as W.T, without a copy.
        b: bias [N], or None.
        activation: identity, relu, gelu, gelu_tanh, silu, tanh or sigmoid.
        p: probability of dropping an element of y, in steps of 1/65536; kept ones are scaled by 1 / (1 - p), exactly
            65536 / (65536 - round(65536 p)).
        rng: names the mask; required where p or input_p is above 0.
        dropout_before_activation: y = act(dropout(z)) instead of dropout(act(z)).
        input_p: probability of dropping an element of x; its mask lies on rng's stream with the top bit flipped.
        residual: added after the dropout, [M, N].
        granularity: "element", or "unit" for one decision per column and call: dropped columns then take no work, here
            and in the backward pass.
        kept_inputs: bool [K], False for columns of x that are known to be 0, such as `saved.kept_outputs` of the layer
            before: they are not read, and their dx is 0. Not beside an input_p that drops single elements.
        out: receives y: C-contiguous [M, N], sharing no memory with the inputs.

    Returns:
        y [M, N] and the object that `linear_backward` takes. It refers to x, w and y: change none of them before the
        backward pass. gelu, gelu_tanh and silu (any activation under a residual) also keep z [M, N].

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, rank, shape or range, or memory shared with `out`;
            the message names the argument and both sides.

    Dropout: Srivastava et al., JMLR 15 (2014). A dropped element is 0 even where z is NaN or Inf.
    """
    return _core.linear_forward(
        x, w, b, activation, p, rng, dropout_before_activation, input_p, residual, granularity, kept_inputs, out, True
    )


def linear(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    activation: str = "identity",
    p: float = 0.0,
    rng: Name | None = None,
    dropout_before_activation: bool = False,
    input_p: float = 0.0,
    residual: Array | None = None,
    granularity: str = "element",
    kept_inputs: Array | None = None,
    out: Array | None = None,
) -> Array:
    """y [M, N] alone: `linear_forward` without what backward needs. Same arguments, same errors."""
    return _core.linear_forward(
        x, w, b, activation, p, rng, dropout_before_activation, input_p, residual, granularity, kept_inputs, out, False
    )


def linear_backward(
    dy: Array,
    saved: _core.Saved,
    *,
    dx: bool | Array = True,
    dw: bool | Array = True,
    db: bool | Array = True,
) -> Gradients:
    """The gradients of a fused linear layer.

    dz = dy ⊙ mask * scale ⊙ act', dx = dz w, dw = dzᵀ x, db = Σ rows of dz; with input dropout, x and dx are
    masked likewise.

    Args:
        dy: gradient of the loss by y, [M, N], any strides. It is also the gradient by the residual.
        saved: what `linear_forward` returned.
        dx, dw, db: each True for a new array, False to leave it out, or a C-contiguous array [M, K], [N, K], [N] that
            receives it (what it held is overwritten).

    Returns:
        (dx, dw, db); None for what was left out, and for db of a layer without bias.

    Raises:
        TypeError, ValueError: as `linear_forward`.
    """
    return _core.linear_backward(dy, saved, dx, dw, db)


def dropout(
    x: Array,
    *,
    p: float,
    rng: Name | None = None,
    granularity: str = "element",
    scaling: str = "inverted",
) -> Array:
    """Dropout alone: keep ? x * scale : 0, for an array of any rank.

    The mask's column is the last axis, its row counts all other axes in C order. The operation is its own gradient:
    dx = dropout(dy, p=p, rng=rng).

    Args:
        x: float32, float64 or bfloat16, any shape and strides.
        p: probability of dropping.
        rng: names the mask; required where p > 0.
        granularity: "element", or "unit" for one decision per index of the last axis.
        scaling: "inverted" (kept elements times 1 / (1 - p)) or "classic" (kept elements as they are).

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    return _core.dropout(x, p, rng, granularity, scaling)


def dropout_mask(
    shape: int | tuple[int, ...],
    *,
    p: float,
    rng: Name | None = None,
    granularity: str = "element",
    out: Array | None = None,
) -> Array:
    """The mask itself, True where an element is kept: what the kernels draw, to inspect and to test.

    Args:
        shape: of the array; the mask's column is its last axis, its row counts all others in C order.
        p, rng, granularity: as in `dropout`.
        out: receives the mask; a C-contiguous bool array of this shape. Its library and device decide where the mask is
            drawn; without it, on the CPU.

    Returns:
        `out`, or a NumPy array of bool; element (row, col) depends on (seed, stream, step, row0 + row, col0 + col) and
        p alone.
    """
    return _core.dropout_mask(shape, p, rng, granularity, out)


def activate(x: Array, activation: str) -> Array:
    """act(x), elementwise, for an array of any shape: the same bits as inside the fused layer."""
    return _core.activate(x, activation)


def activate_backward(dy: Array, x: Array, activation: str) -> Array:
    """dy * act'(x) for the pre-activation x; shapes and dtypes alike."""
    return _core.activate_backward(dy, x, activation)
