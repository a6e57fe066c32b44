"""The operators torch.ops.fusedrop.*: schemas, kernels for the CPU and CUDA, and shapes for fake tensors.

    linear           y = residual + dropout(act(dropout(x) wᵀ + b))
    linear_saving    y, and z if backward needs it (else an empty tensor)
    linear_backward  dx, dw, db of it, the masks drawn again
    dropout          keep ? x * scale : 0, its own gradient
    draw             (seed, step) of a module's training call, as a tensor: naming.py has its kernel

They are pure functions of their arguments (`draw` excepted) and take a mask's name as integers, so that eager code,
compiled code and a recomputation call one and the same thing. `rules.py` teaches them autograd, autocast and vmap.
A seed is a u64 in the mask contract and an int64 here: `signed` and `unsigned` convert, bit for bit.
"""

from __future__ import annotations

import torch

from fusedrop import _core
from fusedrop.cuda import DevicePhilox

LIBRARY = torch.library.Library("fusedrop", "DEF")

# No defaults: the dispatcher drops trailing arguments that equal theirs before it calls Python.
# drawn: int64 [2], or None. It stands for seed and step in compiled code, which would compile again for other integers,
# and on a GPU for those of a fusedrop.DevicePhilox ([3]: the stream too), which kernels read when they run.
NAME = "SymInt seed, SymInt stream, SymInt step, SymInt row0, SymInt col0, SymInt repeat, SymInt period, Tensor? drawn"
NAMED = NAME.count(",") + 1
OPTIONS = f"str activation, float p, {NAME}, bool dropout_before_activation, float input_p, str granularity"
OPERANDS = "Tensor x, Tensor w, Tensor? b, Tensor? residual"
LIBRARY.define(f"linear({OPERANDS}, {OPTIONS}) -> Tensor")
LIBRARY.define(f"linear_saving({OPERANDS}, {OPTIONS}) -> (Tensor y, Tensor z)")
LIBRARY.define(
    "linear_backward(Tensor dy, Tensor x, Tensor w, Tensor kept, bool want_dx, bool want_dw, bool want_db, "
    f"bool has_residual, {OPTIONS}) -> (Tensor dx, Tensor dw, Tensor db)"
)
LIBRARY.define(f"dropout(Tensor x, float p, {NAME}, str granularity, str scaling) -> Tensor")
LIBRARY.define("draw(Tensor handle, SymInt? seed) -> Tensor drawn", tags=(torch.Tag.nondeterministic_seeded,))

KEPT = {"identity": "nothing", "relu": "y", "tanh": "y", "sigmoid": "y", "gelu": "z", "gelu_tanh": "z", "silu": "z"}


def kept_for_backward(activation, has_residual):
    """Which [M, N] tensor backward needs: "y", "z" or "nothing" (docs/decisions/0002)."""
    kept = KEPT.get(activation, "nothing")  # an unknown name is the kernel's to refuse
    return "z" if has_residual and kept == "y" else kept


def signed(seed):
    """The int64 of a u64's bits."""
    return seed - (1 << 64) if seed >= 1 << 63 else seed


def unsigned(seed):
    """The u64 of an int64's bits."""
    return seed & 0xFFFF_FFFF_FFFF_FFFF


def refuse_capture():
    """A name given by value while a CUDA graph is captured would be that of every replay."""
    if torch.version.cuda is not None and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "a captured CUDA graph would repeat one mask at each replay: name it in the GPU's memory, with "
            "fusedrop.torch.linear(..., rng=fusedrop.DevicePhilox(...)) or module.masks.draw_on('cuda')"
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


def _linear_forward(save, x, w, b, residual, activation, p, *rest):
    before, input_p, granularity = rest[NAMED:]
    # Of no shape in particular where x and w do not match: the kernel refuses those first.
    y = x.new_empty((x.shape[0], w.shape[0] if w.dim() else 0))
    rng = _philox(p + input_p, *rest[:NAMED])
    return _core.linear_forward(x, w, b, activation, p, rng, before, input_p, residual, granularity, None, y, save)


# The kernels serve CUDA too: fusedrop._core hands over what lies on a GPU.
def linear_cpu(*inputs):
    return _linear_forward(False, *inputs)


def linear_saving_cpu(*inputs):
    y, saved = _linear_forward(True, *inputs)
    return y, saved.kept if saved.kind == "z" else y.new_empty(0)


def gradients_cpu(dy, x, w, kept, want_dx, want_dw, want_db, has_residual, activation, p, *rest):
    """dx, dw, db; None for what nobody wants."""
    before, input_p, granularity = rest[NAMED:]
    rng = _philox(p + input_p, *rest[:NAMED])
    saved = _core.restore_saved(x, w, kept, want_db, activation, p, rng, before, input_p, has_residual, granularity)
    dx = x.new_empty(x.shape) if want_dx else None
    dw = w.new_empty(w.shape) if want_dw else None
    db = w.new_empty(w.shape[0]) if want_db else None
    _core.linear_backward(dy, saved, *(False if g is None else g for g in (dx, dw, db)))
    return dx, dw, db


def linear_backward_cpu(dy, x, w, *rest):
    """gradients_cpu as an operator's outputs, which cannot be None."""
    return tuple(x.new_empty(0) if g is None else g for g in gradients_cpu(dy, x, w, *rest))


def dropout_cpu(x, p, *rest):
    return _core.dropout(x, p, _philox(p, *rest[:NAMED]), *rest[NAMED:])


def _linear_fake(x, w, b, residual, *options):
    if x.dim() != 2 or w.dim() != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"w must be [N, K] to match x [M, K] = {list(x.shape)}; got {list(w.shape)}")
    if b is not None and (b.dim() != 1 or b.shape[0] != w.shape[0]):
        raise ValueError(f"b must be [N] = {list(w.shape[:1])} to match w {list(w.shape)}; got {list(b.shape)}")
    shape = (x.shape[0], w.shape[0])
    if residual is not None and (residual.dim() != 2 or residual.shape[0] != shape[0] or residual.shape[1] != shape[1]):
        raise ValueError(f"residual must be [M, N] = {list(shape)} to match y; got {list(residual.shape)}")
    return x.new_empty(shape)


def _linear_saving_fake(x, w, b, residual, activation, *options):
    y = _linear_fake(x, w, b, residual, activation, *options)
    return y, y.new_empty(y.shape if kept_for_backward(activation, residual is not None) == "z" else 0)


def _linear_backward_fake(dy, x, w, kept, want_dx, want_dw, want_db, *rest):
    return (
        x.new_empty(x.shape if want_dx else 0),
        w.new_empty(w.shape if want_dw else 0),
        w.new_empty(w.shape[0] if want_db else 0),
    )


def _dropout_fake(x, p, *rest):
    return x.new_empty(x.shape)


def _draw_fake(handle, seed):
    # A module called twice in one graph draws twice with equal arguments. What merges equal calls when a graph is split
    # into forward and backward spares random operators by a list of torch's own, whatever their tags say.
    from torch._functorch.compile_utils import rand_ops

    if torch.ops.fusedrop.draw not in rand_ops:
        rand_ops.append(torch.ops.fusedrop.draw)
    return handle.new_empty(2)


for _name, _kernel, _fake in (
    ("linear", linear_cpu, _linear_fake),
    ("linear_saving", linear_saving_cpu, _linear_saving_fake),
    ("linear_backward", linear_backward_cpu, _linear_backward_fake),
    ("dropout", dropout_cpu, _dropout_fake),
):
    LIBRARY.impl(_name, _kernel, "CPU")
    LIBRARY.impl(_name, _kernel, "CUDA")
    torch.library.register_fake(f"fusedrop::{_name}", _fake, lib=LIBRARY)
torch.library.register_fake("fusedrop::draw", _draw_fake, lib=LIBRARY)

linear = torch.ops.fusedrop.linear.default
linear_saving = torch.ops.fusedrop.linear_saving.default
linear_backward = torch.ops.fusedrop.linear_backward.default
dropout = torch.ops.fusedrop.dropout.default
draw = torch.ops.fusedrop.draw.default
