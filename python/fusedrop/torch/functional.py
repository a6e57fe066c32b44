"""`linear` and `dropout` for tensors: autograd, any leading dimensions, one name for one mask."""

from __future__ import annotations

import math
import sys

import torch

import fusedrop
from fusedrop import checks
from fusedrop.torch import operators
from fusedrop.torch.derivatives import apply_dropout, eager_linear, watched_linear
from fusedrop.torch.eager import unwatched


def linear(
    x,
    w,
    b=None,
    *,
    activation="identity",
    p=0.0,
    rng=None,
    dropout_before_activation=False,
    input_p=0.0,
    residual=None,
    granularity="element",
):
    """y = residual + dropout(act(dropout(x) wᵀ + b)), fused, with autograd.

    Args:
        x: [..., K]; its leading dimensions count the mask's rows in C order. [K] alone is one row.
        w: [N, K], as in torch.nn.functional.linear.
        b: [N] or None.
        rng: a `fusedrop.Philox`, which names the mask; required where p or input_p is above 0. The same name draws the
            same mask in every call, so a recomputation repeats it; `rng.at(row0, col0)` is a shard's part of it. On a
            GPU also a `fusedrop.DevicePhilox`, which a captured CUDA graph reads anew at each replay.
        residual: [..., N], added after the dropout.
        activation, p, dropout_before_activation, input_p, granularity: as in `fusedrop.linear`.

    Returns:
        y [..., N], contiguous. Backward needs x, w and y (z for gelu, gelu_tanh, silu and under a residual), no mask.

    dtypes: float32, float64, bfloat16 on the CPU, float32, bfloat16, float16 on a GPU, all of one; under autocast x, w
    and b are cast like torch's own linear.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
        RuntimeError: from a second derivative; the first is all there is.
    """
    name = name_of(rng, ("p", p), ("input_p", input_p))
    options = (dropout_before_activation, input_p, granularity)
    return linear_over_rows(x, w, b, residual, activation, p, *name, *options)


def linear_over_rows(x, w, b, residual, *options):
    """The operator for x of any rank above 0, in its own terms."""
    eager = unwatched(x, w, b, residual)
    if eager and x.dim() == 2:
        return eager_linear(x, w, b, residual, options)
    check_operands(x, w, b, residual)
    if x.dim() == 2:
        return watched_linear(x, w, b, residual, options)
    rows, lead = as_rows(x, "x"), x.shape[:-1]
    if residual is not None and residual.shape[:-1] != lead:
        raise ValueError(f"residual must be {[*lead, w.shape[0]]} to match y; got {list(residual.shape)}")
    residual = None if residual is None else as_rows(residual, "residual")
    kept = operators.kept_for_backward(options[0], residual is not None)
    y = (eager_linear if eager else watched_linear)(rows, w, b, residual, options)
    if kept == "y":  # a view, so that autograd notices when it is written to before backward
        return y.reshape(*lead, y.shape[-1])
    return torch.ops.aten._unsafe_view(y, (*lead, y.shape[-1]))  # none, as torch's own: FSDP2 warns of views


def check_operands(x, w, b, residual):
    for value, name in ((x, "x"), (w, "w"), (b, "b"), (residual, "residual")):
        if value is not None or name in ("x", "w"):
            require_dense(value, name)
    if w.dim() == 0:
        raise ValueError("w must be [N, K], a tensor of rank 2; got a scalar")


def dropout(x, *, p, rng=None, granularity="element", scaling="inverted"):
    """keep ? x * scale : 0 for a tensor of any rank: the last axis is the mask's column, all others count its rows.

    Args as in `fusedrop.dropout`. Differentiable any number of times: dx = dropout(dy) under the same name.
    """
    require_dense(x, "x")
    return apply_dropout(x, p, *name_of(rng, ("p", p)), granularity, scaling)


def channel_dropout(x, axis, p, *name):
    """One decision for each channel of each example: the mask [examples, channels], whole channels kept or 0.

    The channels are x's axis 0 or 1; an axis before them counts examples.
    """
    mask = apply_dropout(x.new_ones((math.prod(x.shape[:axis]), x.shape[axis])), p, *name, "element", "inverted")
    mask = mask.reshape(*x.shape[: axis + 1], *(1,) * (x.dim() - axis - 1))
    return torch.where(mask != 0, x * mask, torch.zeros_like(mask))  # selected: a dropped NaN is 0


def require_tensor(value, name):
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(value).__name__}")


def require_dense(value, name):
    require_tensor(value, name)
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, torch.strided; got {value.layout}")


def as_rows(x, name):
    """[..., K] as [M, K]; M is spelled out, for -1 says nothing about an empty tensor."""
    if x.dim() == 0:
        raise ValueError(f"{name} must be [..., K], a tensor of rank 1 or more; got a scalar")
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def is_dtensor(x):
    """A DTensor, seen without importing torch.distributed.tensor: where nobody has, there are none."""
    tensor = sys.modules.get("torch.distributed.tensor")
    return tensor is not None and isinstance(x, tensor.DTensor)


NO_NAME = (0, 0, 0, 0, 0, 1, 0, None)


def name_of(rng, *rates):
    """A name as the operators take it: seed, stream, step, row0, col0, repeat, period, and a DevicePhilox's tensor."""
    for argument, rate in rates:
        if type(rate) is not float:  # a float's range is the kernel's to check
            checks.probability(rate, argument)
    if rng is None:
        for argument, rate in rates:
            if rate > 0:
                raise ValueError(f"rng is required where {argument} > 0: pass rng=fusedrop.Philox(seed, ...); got None")
        return NO_NAME
    drawn = None
    if isinstance(rng, fusedrop.DevicePhilox):
        rng, drawn = rng.origin, rng.drawn
    if not isinstance(rng, fusedrop.Philox):
        raise TypeError(f"rng must be a fusedrop.Philox or None; got {type(rng).__name__}")
    seed = operators.signed(rng.seed)
    return seed, rng.stream, rng.step, rng.row0, rng.col0, rng.repeat, rng.period or 0, drawn
