"""The operators torch.ops.fusedrop.*: schemas, kernels for the CPU and CUDA, and shapes for fake tensors.

    linear           y = residual + dropout(act(dropout(x) wᵀ + b))
    linear_forward   y, and z if backward needs it (else an empty tensor)
    linear_backward  dx, dw, db of linear; the masks are drawn again
    dropout          keep ? x * scale : 0; it is its own gradient
    next_key         (seed, step) of a module's training call, as a tensor; mask_key.py has its kernel

All but `next_key` are pure functions of their arguments. They take a mask's key as integers, so that eager code,
compiled code and a recomputation make one and the same call. `rules.py` adds autograd, autocast and vmap.
A seed is a u64 in the mask contract and an int64 here: `signed` and `unsigned` convert, bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from fusedrop import _core
from fusedrop.cuda import DevicePhilox

LIBRARY = torch.library.Library("fusedrop", "DEF")

# No defaults: the dispatcher drops trailing arguments that equal their defaults before it calls Python.
# drawn: int64 [2] or None. It replaces seed and step in compiled code, which would be recompiled for other integers.
# On a GPU it is the tensor of a fusedrop.DevicePhilox ([3]: the stream too), which the kernels read when they run.
KEY = "SymInt seed, SymInt stream, SymInt step, SymInt row0, SymInt col0, SymInt repeat, SymInt period, Tensor? drawn"
KEY_LENGTH = KEY.count(",") + 1
OPTIONS = f"str activation, float p, {KEY}, bool dropout_first, float input_p, str granularity"
OPERANDS = "Tensor x, Tensor w, Tensor? b, Tensor? residual"
LIBRARY.define(f"linear({OPERANDS}, {OPTIONS}) -> Tensor")
LIBRARY.define(f"linear_forward({OPERANDS}, {OPTIONS}) -> (Tensor y, Tensor z)")
LIBRARY.define(
    "linear_backward(Tensor dy, Tensor x, Tensor w, Tensor saved, bool need_dx, bool need_dw, bool need_db, "
    f"bool has_residual, {OPTIONS}) -> (Tensor dx, Tensor dw, Tensor db)"
)
LIBRARY.define(f"dropout(Tensor x, float p, {KEY}, str granularity, str scaling) -> Tensor")
LIBRARY.define("next_key(Tensor handle, SymInt? seed) -> Tensor drawn", tags=(torch.Tag.nondeterministic_seeded,))


class LinearOptions(NamedTuple):
    """The arguments of `linear` after its tensors, in the order of OPTIONS."""

    activation: str
    p: float
    seed: int
    stream: int
    step: int
    row0: int
    col0: int
    repeat: int
    period: int
    drawn: Any
    dropout_first: bool
    input_p: float
    granularity: str

    def rng(self):
        """The key of the masks, or None where nothing is dropped."""
        return _philox(self.p + self.input_p, *self[2 : 2 + KEY_LENGTH])


SAVED = _core.saved_for_backward


def saved_for_backward(activation, has_residual):
    """Which [M, N] tensor backward needs: "y", "z" or "nothing" (docs/decisions/kernels/0002-what-forward-saves.md)."""
    saved = SAVED.get(activation, "nothing")  # the kernel refuses an unknown activation
    return "z" if has_residual and saved == "y" else saved


def signed(seed):
    """The int64 with the bits of a u64."""
    return seed - (1 << 64) if seed >= 1 << 63 else seed


def unsigned(seed):
    """The u64 with the bits of an int64."""
    return seed & 0xFFFF_FFFF_FFFF_FFFF


def refuse_capture():
    """Refuses a key given by value while a CUDA graph is captured: every replay would have that key."""
    if torch.version.cuda is not None and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "a captured CUDA graph would repeat one mask at each replay: keep its key in the GPU's memory, with "
            "fusedrop.torch.linear(..., rng=fusedrop.DevicePhilox(...)) or module.mask_key.store_on('cuda')"
        )


def _philox(p, seed, stream, step, row0, col0, repeat, period, drawn):
    if p == 0:
        return None
    if drawn is not None and drawn.is_cuda:
        return DevicePhilox(drawn, stream, row0, col0, repeat, period or None)
    if drawn is not None:
        refuse_capture()
        seed, step = drawn.tolist()
    return _core.Philox(unsigned(seed), stream, step, row0, col0, repeat, period or None)


def _run_linear(x, w, b, residual, options, z=None):
    # This shape means nothing where x and w do not match: the kernel refuses such operands first.
    y = x.new_empty((x.shape[0], w.shape[0] if w.dim() else 0))
    return _core.linear_forward(
        x,
        w,
        b,
        activation=options.activation,
        p=options.p,
        rng=options.rng(),
        dropout_first=options.dropout_first,
        input_p=options.input_p,
        residual=residual,
        granularity=options.granularity,
        out=y,
        z=z,
    )


# These functions serve CUDA too: the kernels run where x is.
def linear_impl(x, w, b, residual, *options):
    return _run_linear(x, w, b, residual, LinearOptions._make(options))


def linear_forward_impl(x, w, b, residual, *given):
    options = LinearOptions._make(given)
    needs_z = saved_for_backward(options.activation, residual is not None) == "z"
    z = x.new_empty((x.shape[0], w.shape[0] if w.dim() else 0) if needs_z else 0)
    return _run_linear(x, w, b, residual, options, z if needs_z else None), z


def gradients(dy, x, w, saved, need_dx, need_dw, need_db, has_residual, *given):
    """dx, dw, db; None for each that is not needed."""
    options = LinearOptions._make(given)
    dx = x.new_empty(x.shape) if need_dx else None
    dw = w.new_empty(w.shape) if need_dw else None
    db = w.new_empty(w.shape[0]) if need_db else None
    _core.linear_gradients(
        dy,
        x,
        w,
        saved_activation=saved,
        has_bias=need_db,
        has_residual=has_residual,
        activation=options.activation,
        p=options.p,
        rng=options.rng(),
        dropout_first=options.dropout_first,
        input_p=options.input_p,
        granularity=options.granularity,
        dx=dx if need_dx else False,
        dw=dw if need_dw else False,
        db=db if need_db else False,
    )
    return dx, dw, db


def linear_backward_impl(dy, x, w, *rest):
    """`gradients` as outputs of an operator, which cannot be None: an empty tensor replaces None."""
    return tuple(x.new_empty(0) if g is None else g for g in gradients(dy, x, w, *rest))


def dropout_impl(x, p, *rest):
    granularity, scaling = rest[KEY_LENGTH:]
    return _core.dropout(x, p=p, rng=_philox(p, *rest[:KEY_LENGTH]), granularity=granularity, scaling=scaling)


def _linear_fake(x, w, b, residual, *options):
    if x.dim() != 2 or w.dim() != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"w must be [N, K] to match x [M, K] = {list(x.shape)}; got {list(w.shape)}")
    if b is not None and (b.dim() != 1 or b.shape[0] != w.shape[0]):
        raise ValueError(f"b must be [N] = {list(w.shape[:1])} to match w {list(w.shape)}; got {list(b.shape)}")
    shape = (x.shape[0], w.shape[0])
    if residual is not None and (residual.dim() != 2 or residual.shape[0] != shape[0] or residual.shape[1] != shape[1]):
        raise ValueError(f"residual must be [M, N] = {list(shape)} to match y; got {list(residual.shape)}")
    return x.new_empty(shape)


def _linear_forward_fake(x, w, b, residual, activation, *options):
    y = _linear_fake(x, w, b, residual, activation, *options)
    return y, y.new_empty(y.shape if saved_for_backward(activation, residual is not None) == "z" else 0)


def _linear_backward_fake(dy, x, w, saved, need_dx, need_dw, need_db, *rest):
    return (
        x.new_empty(x.shape if need_dx else 0),
        w.new_empty(w.shape if need_dw else 0),
        w.new_empty(w.shape[0] if need_db else 0),
    )


def _dropout_fake(x, p, *rest):
    return x.new_empty(x.shape)


def _next_key_fake(handle, seed):
    # A module that is called twice in one graph takes two keys with equal arguments. When PyTorch splits a graph into
    # forward and backward, it merges equal calls. It skips the operators of a list of its own, whatever their tags say.
    from torch._functorch.compile_utils import rand_ops

    if torch.ops.fusedrop.next_key not in rand_ops:
        rand_ops.append(torch.ops.fusedrop.next_key)
    return handle.new_empty(2)


for _name, _kernel, _fake in (
    ("linear", linear_impl, _linear_fake),
    ("linear_forward", linear_forward_impl, _linear_forward_fake),
    ("linear_backward", linear_backward_impl, _linear_backward_fake),
    ("dropout", dropout_impl, _dropout_fake),
):
    LIBRARY.impl(_name, _kernel, "CPU")
    LIBRARY.impl(_name, _kernel, "CUDA")
    torch.library.register_fake(f"fusedrop::{_name}", _fake, lib=LIBRARY)
torch.library.register_fake("fusedrop::next_key", _next_key_fake, lib=LIBRARY)

linear = torch.ops.fusedrop.linear.default
linear_forward = torch.ops.fusedrop.linear_forward.default
linear_backward = torch.ops.fusedrop.linear_backward.default
dropout = torch.ops.fusedrop.dropout.default
next_key = torch.ops.fusedrop.next_key.default
