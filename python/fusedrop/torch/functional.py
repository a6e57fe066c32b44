"""`linear` and `dropout` for tensors: autograd, any leading dimensions, one key for one mask."""

from __future__ import annotations

import math
import sys

import torch

import fusedrop
from fusedrop import checks
from fusedrop.torch import operators
from fusedrop.torch.autograd import apply_dropout, dispatched_linear, eager_linear
from fusedrop.torch.routing import can_bypass_dispatcher


def linear(
    x,
    w,
    b=None,
    *,
    activation="identity",
    p=0.0,
    rng=None,
    dropout_first=False,
    input_p=0.0,
    residual=None,
    granularity="element",
):
    """y = residual + dropout(act(dropout(x) wᵀ + b)), fused, with autograd.

    Args:
        x: [..., K]. Its leading dimensions count the mask's rows in C order. [K] alone is one row.
        w: [N, K], as in torch.nn.functional.linear.
        b: [N] or None.
        rng: a `fusedrop.Philox`, the key of the mask; required where p or input_p is above 0. The same key draws the
            same mask in every call, so a recomputation repeats it. `rng.at(row0, col0)` is a shard's part of it. On a
            GPU also a `fusedrop.DevicePhilox`, which a captured CUDA graph reads again at each replay.
        residual: [..., N], added after the dropout.
        activation, p, dropout_first, input_p, granularity: as in `fusedrop.linear`.

    Returns:
        y [..., N], contiguous. Backward needs x, w and y (z for gelu, gelu_tanh, silu and under a residual), no mask.

    dtypes: float32, float64, bfloat16 on the CPU, float32, bfloat16, float16 on a GPU; one dtype for all operands.
    Under autocast x, w and b are cast like torch's own linear.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
        RuntimeError: from a second derivative, which does not exist.
    """
    key = key_of(rng, ("p", p), ("input_p", input_p))
    options = operators.LinearOptions(activation, p, *key, dropout_first, input_p, granularity)
    return linear_over_rows(x, w, b, residual, *options)


def linear_over_rows(x, w, b, residual, *options):
    """The operator for x of any rank above 0, with the operator's own arguments."""
    eager = can_bypass_dispatcher(x, w, b, residual)
    if eager and x.dim() == 2:
        return eager_linear(x, w, b, residual, options)
    check_operands(x, w, b, residual)
    if x.dim() == 2:
        return dispatched_linear(x, w, b, residual, options)
    rows, lead = as_rows(x, "x"), x.shape[:-1]
    if residual is not None and residual.shape[:-1] != lead:
        raise ValueError(f"residual must be {[*lead, w.shape[0]]} to match y; got {list(residual.shape)}")
    residual = None if residual is None else as_rows(residual, "residual")
    saved = operators.saved_for_backward(options[0], residual is not None)
    y = (eager_linear if eager else dispatched_linear)(rows, w, b, residual, options)
    if saved == "y":  # a view, so that autograd detects a write to it before backward
        return y.reshape(*lead, y.shape[-1])
    return torch.ops.aten._unsafe_view(y, (*lead, y.shape[-1]))  # no view, as torch's own: FSDP2 warns of views


def check_operands(x, w, b, residual):
    for value, name in ((x, "x"), (w, "w"), (b, "b"), (residual, "residual")):
        if value is not None or name in ("x", "w"):
            require_dense(value, name)
    if w.dim() == 0:
        raise ValueError("w must be [N, K], a tensor of rank 2; got a scalar")


def dropout(x, *, p, rng=None, granularity="element", scaling="inverted"):
    """keep ? x * scale : 0 for a tensor of any rank: the last axis is the mask's column, all others count its rows.

    Args as in `fusedrop.dropout`. Differentiable any number of times: dx = dropout(dy) with the same key.
    """
    require_dense(x, "x")
    return apply_dropout(x, p, *key_of(rng, ("p", p)), granularity, scaling)


def channel_dropout(x, axis, p, *key):
    """One decision for each channel of each example. The mask is [examples, channels]; a dropped channel is all 0.

    The channels are x's axis 0 or 1. An axis before them counts examples.
    """
    mask = apply_dropout(x.new_ones((math.prod(x.shape[:axis]), x.shape[axis])), p, *key, "element", "inverted")
    mask = mask.reshape(*x.shape[: axis + 1], *(1,) * (x.dim() - axis - 1))
    return torch.where(mask != 0, x * mask, torch.zeros_like(mask))  # a selection, not a product: a dropped NaN is 0


def require_tensor(value, name):
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(value).__name__}")


def require_dense(value, name):
    require_tensor(value, name)
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, torch.strided; got {value.layout}")


def as_rows(x, name):
    """[..., K] as [M, K]. M is computed: -1 is ambiguous for an empty tensor."""
    if x.dim() == 0:
        raise ValueError(f"{name} must be [..., K], a tensor of rank 1 or more; got a scalar")
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def is_dtensor(x):
    """Whether x is a DTensor. Does not import torch.distributed.tensor: before its first import no DTensor exists."""
    tensor = sys.modules.get("torch.distributed.tensor")
    return tensor is not None and isinstance(x, tensor.DTensor)


NO_KEY = (0, 0, 0, 0, 0, 1, 0, None)


def key_of(rng, *rates):
    """The operators' key arguments: seed, stream, step, row0, col0, repeat, period, and a DevicePhilox's tensor."""
    for argument, rate in rates:
        if type(rate) is not float:  # the kernel checks the range of a float
            checks.probability(rate, argument)
    if rng is None:
        for argument, rate in rates:
            if rate > 0:
                raise ValueError(f"rng is required where {argument} > 0: pass rng=fusedrop.Philox(seed, ...); got None")
        return NO_KEY
    drawn = None
    if isinstance(rng, fusedrop.DevicePhilox):
        rng, drawn = rng.origin, rng.drawn
    if not isinstance(rng, fusedrop.Philox):
        raise TypeError(f"rng must be a fusedrop.Philox or None; got {type(rng).__name__}")
    seed = operators.signed(rng.seed)
    return seed, rng.stream, rng.step, rng.row0, rng.col0, rng.repeat, rng.period or 0, drawn
