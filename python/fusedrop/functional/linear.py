"""The fused linear layer as pure functions.

Notation: M rows (the batch), K inputs, N outputs; x [M, K], w [N, K], b [N], z = x wᵀ + b, y [M, N].
"""

from __future__ import annotations

from fusedrop import _core
from fusedrop._core import LinearContext
from fusedrop._types import Array, Gradients, Rng
from fusedrop.functional.operator import SAVE, output_only


def linear_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    activation: str = "identity",
    p: float = 0.0,
    rng: Rng | None = None,
    dropout_first: bool = False,
    input_p: float = 0.0,
    residual: Array | None = None,
    granularity: str = "element",
    active_inputs: Array | None = None,
    out: Array | None = None,
) -> tuple[Array, LinearContext]:
    """A fused linear layer, and the context of its backward pass.

    y = residual + dropout(act(dropout(x) wᵀ + b)), in one kernel, which draws the masks; no mask is stored.

    Args:
        x: inputs [M, K]; float32, float64 or bfloat16 (float16 on a GPU), as all arrays of the call, any strides.
        w: weight [N, K], as in torch.nn.Linear; a textbook's W [K, N] is passed as W.T, without a copy.
        b: bias [N], or None.
        activation: identity, relu, gelu, gelu_tanh, silu, tanh or sigmoid.
        p: probability of dropping an element of y, in steps of 1/65536; kept ones are scaled by 1 / (1 - p), exactly
            65536 / (65536 - round(65536 p)).
        rng: key of the masks; required where p or input_p is above 0.
        dropout_first: y = act(dropout(z)) instead of dropout(act(z)).
        input_p: probability of dropping an element of x; the stream of this mask is rng's with the top bit flipped.
        residual: added after the dropout, [M, N].
        granularity: "element", or "unit" for one decision per column and call: dropped columns then cost no work, here
            and in the backward pass.
        active_inputs: bool [K], False for columns of x that are known to be 0, such as `saved.active_outputs` of the
            previous layer: they are not read, and their dx is 0. Not allowed where input_p drops elements.
        out: receives y: C-contiguous [M, N], sharing no memory with the inputs.

    Returns:
        (y [M, N], context): `linear_backward` takes the context. It refers to x, w and y: change none of them before
        the backward pass. gelu, gelu_tanh and silu (any activation where there is a residual) also save z [M, N].

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, rank, shape or range, or memory shared with `out`;
            the message names the argument and both sides.

    Dropout: Srivastava et al., JMLR 15 (2014). A dropped element is 0 even where z is NaN or Inf.
    """
    return _core.linear_forward(
        x,
        w,
        b,
        activation=activation,
        p=p,
        rng=rng,
        dropout_first=dropout_first,
        input_p=input_p,
        residual=residual,
        granularity=granularity,
        active_inputs=active_inputs,
        out=out,
        save=SAVE,
    )


linear = output_only(
    linear_forward, "Array", "A fused linear layer: y [M, N] = residual + dropout(act(dropout(x) wᵀ + b))."
)


def linear_backward(
    dy: Array,
    saved: LinearContext,
    *,
    dx: bool | Array = True,
    dw: bool | Array = True,
    db: bool | Array = True,
) -> Gradients:
    """The gradients of a fused linear layer.

    dz = dy ⊙ mask * scale ⊙ act', dx = dz w, dw = dzᵀ x, db = Σ rows of dz; with input dropout, x and dx go through
    the mask and the scale of x.

    Args:
        dy: gradient of the loss by y, [M, N], any strides. It is also the gradient by the residual.
        saved: what `linear_forward` returned.
        dx, dw, db: each True for a new array, False to skip it, or a C-contiguous array [M, K], [N, K], [N] that
            receives it and is overwritten.

    Returns:
        (dx, dw, db); None for what was skipped, and for db of a layer without bias.

    Raises:
        TypeError, ValueError: as `linear_forward`.
    """
    return _core.linear_backward(dy, saved, dx=dx, dw=dw, db=db)
