"""The fused linear layer."""

from typing import Any, NamedTuple

import numpy as np

from fusedrop.reference.activation import ACTIVATIONS
from fusedrop.reference.dropout import dropout_mask, input_rng, scale, select
from fusedrop.reference.operator import output_only


class LinearContext(NamedTuple):
    """Everything that `linear_backward` needs, without recomputation. The kernels save less."""

    x: Any
    w: Any
    z: Any
    keep: Any
    keep_x: Any
    p: float
    input_p: float
    activation: str
    dropout_first: bool
    has_bias: bool


def linear_forward(
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
    active_inputs=None,
):
    """(y, context): y = residual + dropout(act(dropout(x) wᵀ + b)), and what `linear_backward` takes."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    keep = dropout_mask((x.shape[0], w.shape[0]), p=p, rng=rng, granularity=granularity)
    keep_x = dropout_mask(x.shape, p=input_p, rng=input_rng(rng), granularity=granularity)
    keep_x = keep_x if active_inputs is None else keep_x & active_inputs
    act, _ = ACTIVATIONS[activation]
    with np.errstate(all="ignore"):
        z = select(keep_x, x, scale(input_p)) @ w.T
        z = z if b is None else z + np.asarray(b, np.float64)
        y = act(select(keep, z, scale(p))) if dropout_first else select(keep, act(z), scale(p))
        y = y if residual is None else np.asarray(residual, np.float64) + y
    saved = LinearContext(x, w, z, keep, keep_x, p, input_p, activation, dropout_first, b is not None)
    return y, saved


linear = output_only(linear_forward)


def pre_activation_gradient(dy, saved):
    """dz = keep ? dy * scale * act'(.) : 0."""
    _, chain = ACTIVATIONS[saved.activation]
    factor = scale(saved.p)
    with np.errstate(all="ignore"):
        at = select(saved.keep, saved.z, factor) if saved.dropout_first else saved.z
        return select(saved.keep, chain(np.asarray(dy, np.float64), at), factor)


def linear_backward(dy, saved):
    """(dx, dw, db)."""
    dz = pre_activation_gradient(dy, saved)
    factor = scale(saved.input_p)
    with np.errstate(all="ignore"):
        dx = select(saved.keep_x, dz @ saved.w, factor)
        dw = dz.T @ select(saved.keep_x, saved.x, factor)
        return dx, dw, dz.sum(axis=0) if saved.has_bias else None
