"""Dropout without a layer, and the mask, as pure functions."""

from typing import Any, NamedTuple

from fusedrop import _core, checks
from fusedrop._types import Array, Rng
from fusedrop.functional.operator import SAVE, output_only


class DropoutContext(NamedTuple):
    """What `dropout_backward` takes: the options and the key of the mask, no array."""

    shape: tuple[int, ...]
    dtype: object
    p: float
    rng: Rng | None
    granularity: str
    scaling: str


def dropout_forward(
    x: Array,
    *,
    p: float,
    rng: Rng | None = None,
    granularity: str = "element",
    scaling: str = "inverted",
) -> tuple[Array, DropoutContext]:
    """y = keep ? x * scale : 0, elementwise, and the context of its backward pass.

    The last axis of x is the column of the mask; the row counts all other axes in C order.

    Args:
        x: float32, float64 or bfloat16 (float16 on a GPU), any shape and strides.
        p: probability of dropping.
        rng: key of the mask; required where p > 0.
        granularity: "element", or "unit" for one decision per index of the last axis.
        scaling: "inverted" (kept elements times 1 / (1 - p)) or "classic" (kept elements as they are).

    Returns:
        (y, context): `dropout_backward` takes the context, which saves no array.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    Srivastava et al., JMLR 15 (2014), section 10 for the two scalings.
    """
    y = _core.dropout(x, p=p, rng=rng, granularity=granularity, scaling=scaling)
    if not SAVE:
        return y  # type: ignore[return-value]
    return y, DropoutContext(tuple(x.shape), x.dtype, p, rng, granularity, scaling)


dropout = output_only(
    dropout_forward, "Array", "y = keep ? x * scale : 0, elementwise, with a mask over an array of any rank."
)


def dropout_backward(dy: Array, saved: DropoutContext) -> Array:
    """The gradient by x: dx = keep ? dy * scale : 0. Dropout is linear: dy goes through the same mask and scale as x.

    Args:
        dy: gradient of the loss by y, shape and dtype of y, any strides.
        saved: what `dropout_forward` returned.

    Returns:
        dx, the shape and dtype of x.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    if not isinstance(saved, DropoutContext):
        raise TypeError(f"saved must be what dropout_forward returned; got {type(saved).__name__}")
    _check_gradient(dy, saved.shape, saved.dtype)
    return _core.dropout_backward(dy, p=saved.p, rng=saved.rng, granularity=saved.granularity, scaling=saved.scaling)


def _check_gradient(dy: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """dy of any library fits an output of this shape and dtype; the kernels compare it with nothing."""
    if not hasattr(dy, "__dlpack_device__"):
        checks.floating_array(dy, "dy")
    got, wanted = (str(d).rpartition(".")[2] for d in (dy.dtype, dtype))  # PyTorch says torch.float32
    if got != wanted:
        raise TypeError(f"dy must be {wanted} to match the output; got {got}")
    if tuple(dy.shape) != shape:
        raise ValueError(f"dy must be {list(shape)} to match the output; got {list(dy.shape)}")


def dropout_mask(
    shape: int | tuple[int, ...],
    *,
    p: float,
    rng: Rng | None = None,
    granularity: str = "element",
    out: Array | None = None,
) -> Array:
    """The mask itself, True where an element is kept: the bits that the kernels draw.

    Args:
        shape: of the array; its last axis is the column of the mask, the row counts all other axes in C order.
        p, rng, granularity: as in `dropout`.
        out: receives the mask; a C-contiguous bool array of this shape. Its device draws the mask; without `out`, the
            CPU does.

    Returns:
        `out`, or a NumPy array of bool; element (row, col) depends on (seed, stream, step, row0 + row, col0 + col) and
        p alone.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    return _core.dropout_mask(shape, p=p, rng=rng, granularity=granularity, out=out)
