"""Linear and Dropout on DTensors: PyTorch's tensor parallelism, with the masks that one process would draw.

Each rank computes on its parts, with its own origin (row0, col0) in the one mask. DTensor moves the data, in backward
too. `layout` says how each tensor is placed. This module is imported at the first call with a DTensor, because
importing torch.distributed.tensor takes half as long as importing torch.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import torch
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from fusedrop.reference import INPUT_STREAM
from fusedrop.torch import functional
from fusedrop.torch.autograd import apply_dropout

ACTIVATIONS = {
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": functools.partial(torch.nn.functional.gelu, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Layout(NamedTuple):
    """Placements of a call's tensors along one dimension of the mesh, and of the gradients that each rank computes."""

    x: Placement
    y: Placement
    b: Placement
    dx: Placement
    dw: Placement
    db: Placement


def layout(x, w, last):
    """The layout for these placements of x [..., K], whose last axis is `last`, and of w [N, K]."""
    if w.is_shard(0):  # column-parallel: some columns of y from all of x
        return Layout(Replicate(), Shard(last), Shard(0), dx=Partial(), dw=w, db=Shard(0))
    if w.is_shard(1):  # row-parallel: y is a sum over the ranks; one rank adds the bias
        return Layout(Shard(last), Partial(), Replicate(), dx=Shard(last), dw=w, db=Partial())
    if isinstance(x, Shard) and x.dim < last:  # data-parallel: some rows of y
        return Layout(x, x, Replicate(), dx=x, dw=Partial(), db=Partial())
    return Layout(*[Replicate()] * 6)


def linear(layer, x, residual, p, input_p, key):
    """y = residual + dropout(act(dropout(x) wᵀ + b)) of a `fusedrop.torch.Linear` whose weight is a DTensor.

    One fused call, except where a sum over the ranks must come before the activation: there the fused call computes
    the product only.

    Args:
        x: a DTensor [..., K] on the weight's mesh. It is redistributed to the placements that the weight needs.
        residual: None; a DTensor [..., N], whose placements y will have; or this rank's part of y as a plain tensor.
        p, input_p, key: of this call. The key's row0 is that of the whole x.

    Returns:
        A DTensor, placed as torch.nn.Linear's would be: Shard(-1) if column-parallel, Partial() if row-parallel and
        linear, Replicate() if row-parallel with an activation.
    """
    w, b, activation = layer.weight, layer.bias, layer.activation
    dropout_first, granularity = layer.dropout_first, layer.granularity
    check_operands(x, w)
    if p > 0 or input_p > 0:
        check_seed(layer.mask_key)
    along_mesh = [layout(*both, x.dim() - 1) for both in zip(x.placements, w.placements, strict=True)]
    places = Layout(*zip(*along_mesh, strict=True))
    x = redistributed(x, places.x, places.dx)
    summed = any(place.is_partial() for place in places.y)
    if summed and input_p > 0:  # x is a part of K: the fused call would draw the mask's first columns for it
        seed, stream, *rest = key
        x, input_p = dropout(x, input_p, (seed, stream ^ INPUT_STREAM, *rest), granularity), 0.0
    if summed and activation != "identity":
        z = local_linear(x, w, None, places, "identity", 0.0, key, False, input_p, granularity)
        y = after_sum(z, b, activation, p, key, dropout_first, granularity)
    else:
        y = local_linear(x, w, b, places, activation, p, key, dropout_first, input_p, granularity)
    return y if residual is None else add(y, residual)


def check_operands(x, w):
    if not isinstance(x, DTensor):
        raise TypeError(
            "x must be a DTensor where the weight is one, as ColwiseParallel, RowwiseParallel and PrepareModuleInput "
            f"of torch.distributed.tensor.parallel make it; got {type(x).__name__}"
        )
    if x.device_mesh != w.device_mesh:
        raise ValueError(f"x must lie on the weight's mesh {w.device_mesh}; got {x.device_mesh}")
    if not all(place.is_replicate() or place in (Shard(0), Shard(1)) for place in w.placements):
        raise ValueError(f"weight must be placed by Shard(0), Shard(1) or Replicate(); got {w.placements}")
    if x.shape[-1:] != w.shape[1:]:
        raise ValueError(
            f"x must be [..., K] to match w [N, K] = {list(w.shape)}; got {list(x.shape)}. Uneven parts lose "
            "their sizes where they pass as plain tensors: ColwiseParallel(use_local_output=False) keeps them"
        )


def check_seed(key):
    """Refuses a mask key without a seed: ranks share elements, and the ranks' generators would give different masks."""
    if key.seed is None:
        raise ValueError(
            "seed must be given to drop elements of DTensors: fusedrop.torch.assign_mask_keys(model, seed)"
        )


def redistributed(x, placements, gradient):
    """x in these placements. The redistribution sums a gradient that is Partial, even where x itself stays."""
    return x if x.placements == placements == gradient else x.redistribute(placements=placements)


def local_linear(x, w, b, places, activation, p, key, dropout_first, input_p, granularity):
    """The fused call on this rank's parts of x, w and b."""
    local_w = redistributed(w, w.placements, places.dw).to_local(grad_placements=places.dw)
    local_b = None if b is None else local_bias(b, places)
    col0 = part(w)[1][0]

    def call(rows, row0):
        options = (*shifted(key, row0, col0), dropout_first, input_p, granularity)
        return functional.linear_over_rows(rows, local_w, local_b, None, activation, p, *options)

    local_x = x.to_local(grad_placements=places.dx)
    y = call_by_runs(call, x, local_x) if p > 0 or input_p > 0 else call(local_x, 0)
    return from_parts(y, x.device_mesh, places.y, (*x.shape[:-1], w.shape[0]))


def local_bias(b, places):
    """This rank's part of the bias. Where y will be summed, it is zeros on all ranks but the first.

    Those zeros depend on the bias too, because every rank must take part in the collective that sums its gradient.
    """
    mesh = b.device_mesh
    local_b = redistributed(b, places.b, places.db).to_local(grad_placements=places.db)
    adds = all(mesh.get_local_rank(dim) == 0 for dim, place in enumerate(places.y) if place.is_partial())
    return local_b if adds else local_b.masked_fill(torch.ones((), dtype=torch.bool, device=local_b.device), 0)


def after_sum(z, b, activation, p, key, dropout_first, granularity):
    """dropout(act(z + b)) on the sum of the ranks' products."""
    z = without_partial(z)
    z = z if b is None else z + b.to(z.dtype)
    if p > 0 and dropout_first:
        z = dropout(z, p, key, granularity)
    y = ACTIVATIONS[activation](z)
    return dropout(y, p, key, granularity) if p > 0 and not dropout_first else y


def add(y, residual):
    """residual + y, in the placements of the residual."""
    if isinstance(residual, DTensor):
        if residual.shape != y.shape:
            raise ValueError(f"residual must be {list(y.shape)} to match y; got {list(residual.shape)}")
        return residual + y.redistribute(placements=residual.placements)
    y = without_partial(y)
    shape, _ = part(y)
    if residual.shape != shape:
        raise ValueError(f"residual must be {list(shape)} to match this rank's part of y; got {list(residual.shape)}")
    return from_parts(residual, y.device_mesh, y.placements, y.shape) + y


def dropout(x, p, key, granularity):
    """keep ? x * scale : 0 for a DTensor in any placement. The key's row0 is that of the whole x."""
    if not all(isinstance(place, (Shard, Replicate, Partial)) for place in x.placements):
        raise ValueError(f"x must be placed by Shard, Replicate or Partial; got {x.placements}")
    x = without_partial(x)
    col0 = (0, *part(x)[1])[-1]

    def call(rows, row0):
        return apply_dropout(rows, p, *shifted(key, row0, col0), granularity, "inverted")

    return from_parts(call_by_runs(call, x, x.to_local()), x.device_mesh, x.placements, x.shape)


def without_partial(x):
    """x with Partial placements summed."""
    return x.redistribute(placements=[Replicate() if place.is_partial() else place for place in x.placements])


def part(x):
    """Shape and offset of this rank's part of x."""
    return compute_local_shape_and_global_offset(x.shape, x.device_mesh, x.placements)


def shifted(key, row, col):
    """The key for an array that begins at (row, col) of the array of `key`."""
    seed, stream, step, row0, col0, *ties = key
    return seed, stream, step, row0 + row, col0 + col, *ties


def from_parts(local, mesh, placements, shape):
    """The DTensor of all ranks' parts. The given global shape tells DTensor how uneven parts fit together."""
    shape = torch.Size(shape)
    stride = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=shape, stride=stride)


def call_by_runs(call, x, local):
    """call(rows, row0) for each run of rows that are adjacent both in x and in this rank's part of x."""
    rows = first_rows(*part(x), x.shape)
    if len(rows) == 1 or local.numel() == 0:
        return call(local, rows[0] if rows else 0)
    runs = local.reshape(len(rows), -1, local.shape[-1])
    y = torch.stack([call(run, row) for run, row in zip(runs, rows, strict=True)])
    return y.reshape(*local.shape[:-1], y.shape[-1])


def first_rows(shape, offset, of):
    """The first row of each run, for a part of an array of shape `of`. All axes but the last count rows, in C order.

    x [B, T, K] sharded along B is one run on each rank; sharded along T it is B runs.
    """
    cuts = [axis for axis in range(len(of) - 1) if shape[axis] != of[axis]]
    if not cuts:
        return [0]
    cut = cuts[-1]
    strides = [math.prod(of[axis + 1 : -1]) for axis in range(cut + 1)]
    outer = (range(o, o + s) for o, s in zip(offset[:cut], shape[:cut], strict=True))
    starts = itertools.product(*outer, [offset[cut]])
    return [sum(i * stride for i, stride in zip(start, strides, strict=True)) for start in starts]
