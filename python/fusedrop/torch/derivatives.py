"""Derivatives of the operators, and which form of a call has them.

The backward pass draws the masks again: nothing random is saved. `linear` has a first derivative only, and says so;
`dropout` is linear in x, so it has all of them.

An autograd.Function comes in three forms, of which `apply_linear` and `apply_dropout` choose one. The dispatcher's
serves compiled code and does without setup_context, which costs 20 us a call (torch 2.13). torch.func's transforms
(grad, vmap ...) need it, and refuse to meet any autograd.Function inside the dispatcher: they have the Transformed
form. Plain eager calls go around the dispatcher (eager.py).
"""

from __future__ import annotations

import torch

from fusedrop.torch import operators
from fusedrop.torch.eager import unwatched, wants_graph
from fusedrop.torch.operators import kept_for_backward

TENSORS = 4  # of linear's arguments: x, w, b, residual; of linear_backward's: dy, x, w, kept
AUTOCAST = ("cpu", "cuda")


def under_torch_func():
    """Inside torch.func.grad, vmap ...; compiled code goes to the operator itself."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def apply_linear(x, w, b, residual, *options):
    """y, by the rule that fits the place of the call."""
    return (eager_linear if unwatched(x, w, b, residual) else watched_linear)(x, w, b, residual, options)


def watched_linear(x, w, b, residual, options):
    """apply_linear for a call that is known not to be unwatched."""
    if not under_torch_func():
        return operators.linear(x, w, b, residual, *options)
    device = x.device.type
    if device not in AUTOCAST or not torch.is_autocast_enabled(device):
        return TransformedLinear.apply(x, w, b, residual, options)[0]
    with torch.autocast(device, enabled=False):
        return in_lower_precision(apply_linear, device, x, w, b, residual, *options)


def apply_dropout(x, *options):
    """As apply_linear."""
    if unwatched(x):
        return eager_dropout(x, options)
    return TransformedDropout.apply(x, *options) if under_torch_func() else operators.dropout(x, *options)


def cast_by_autocast(tensor):
    """float64 stays, as in torch."""
    return tensor is not None and tensor.is_floating_point() and tensor.dtype is not torch.float64


def in_lower_precision(operator, device, x, w, b, residual, *options):
    """Like torch's own linear under autocast. A residual stream keeps its own precision."""
    dtype = torch.get_autocast_dtype(device)
    x, w, b = (t.to(dtype) if cast_by_autocast(t) else t for t in (x, w, b))
    if residual is None or residual.dtype is x.dtype:
        return operator(x, w, b, residual, *options)
    return residual + operator(x, w, b, None, *options)


def eager_linear(x, w, b, residual, options):
    """apply_linear for a call that is known to be unwatched."""
    if wants_graph(x, w, b, residual):
        return apply_eagerly(EagerLinear, x, w, b, residual, options)
    return operators.linear_cpu(x, w, b, residual, *options)


def eager_dropout(x, options):
    """apply_dropout, likewise."""
    return apply_eagerly(EagerDropout, x, options) if wants_graph(x) else operators.dropout_cpu(x, *options)


def apply_eagerly(function, *inputs):
    """function.apply without torch.autograd.Function's look at torch.func, which an unwatched call is not under."""
    return super(torch.autograd.Function, function).apply(*inputs)


def below_autograd(operator):
    """The operator without its autograd rule."""

    def call(*inputs):
        with torch._C._AutoDispatchBelowAutograd():  # what torch.library.register_autograd uses itself
            return operator(*inputs)

    return call


linear_below, linear_saving_below = below_autograd(operators.linear), below_autograd(operators.linear_saving)
linear_backward_below, dropout_below = below_autograd(operators.linear_backward), below_autograd(operators.dropout)


def linear_gradients(ctx, dy, _dz=None):
    """Of each of linear's arguments; the residual's is dy itself."""
    if dy is None:
        return None, None, None, None, None
    want_dx, want_dw, want_db, want_residual = ctx.needs_input_grad[:TENSORS]
    dx = dw = db = None
    if want_dx or want_dw or want_db:
        x, w, kept = ctx.saved_tensors  # once: a checkpoint recomputes at the first access and refuses a second
        wanted = want_dx, want_dw, want_db
        options = (ctx.has_residual, *ctx.options)
        if not torch.is_grad_enabled() and unwatched(dy, x, w, kept):
            dx, dw, db = operators.gradients_cpu(dy, x, w, kept, *wanted, *options)
        elif under_torch_func():
            dx, dw, db = TransformedLinearBackward.apply(dy, x, w, kept, (*wanted, *options))
        else:
            dx, dw, db = operators.linear_backward(dy, x, w, kept, *wanted, *options)
    return (
        dx if want_dx else None,
        dw if want_dw else None,
        db if want_db else None,
        dy if want_residual else None,
        None,
    )


def keep_for_backward(ctx, x, w, kept, has_residual, options):
    ctx.save_for_backward(x, w, kept)
    ctx.has_residual, ctx.options = has_residual, options
    ctx.set_materialize_grads(False)


def refuse_forward_mode(ctx, *_):
    raise RuntimeError(
        "fusedrop's linear has no forward-mode derivative (jvp, jacfwd, hessian): use backward (vjp, jacrev), or "
        "torch.nn.functional.linear and fusedrop.torch.dropout, which have one."
    )


def linear_and_keep(ctx, linear, linear_saving, x, w, b, residual, options):
    """y, by one of two functions; ctx has what backward needs."""
    needed = kept_for_backward(options[0], residual is not None)
    if needed == "z":
        y, kept = linear_saving(x, w, b, residual, *options)
    else:
        y = linear(x, w, b, residual, *options)
        kept = y if needed == "y" else x  # x: saved anyway, and not looked at; y may then be freed, or changed
    keep_for_backward(ctx, x, w, kept, residual is not None, options)
    return y


class Linear(torch.autograd.Function):
    """The rule of `linear`: y alone is its output."""

    @staticmethod
    def forward(ctx, *inputs):
        return linear_and_keep(ctx, linear_below, linear_saving_below, *inputs)

    backward = staticmethod(linear_gradients)
    jvp = staticmethod(refuse_forward_mode)


class EagerLinear(torch.autograd.Function):
    """The same around the dispatcher, for unwatched calls."""

    @staticmethod
    def forward(ctx, *inputs):
        return linear_and_keep(ctx, operators.linear_cpu, operators.linear_saving_cpu, *inputs)

    backward = staticmethod(linear_gradients)
    jvp = staticmethod(refuse_forward_mode)


class TransformedLinear(torch.autograd.Function):
    """The rule of `linear_saving`, and of `linear` under torch.func, where all that is saved must be an output."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, w, b, residual, options):
        return operators.linear_saving(x, w, b, residual, *options)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, w, _, residual, options = inputs
        y, z = output
        kept = y if kept_for_backward(options[0], residual is not None) == "y" else z
        keep_for_backward(ctx, x, w, kept, residual is not None, options)
        ctx.mark_non_differentiable(z)

    backward = staticmethod(linear_gradients)
    jvp = staticmethod(refuse_forward_mode)


def refuse_second_derivative(ctx, *_):
    raise RuntimeError(
        "fusedrop's linear has no second derivative: its backward pass can't be differentiated. "
        "Use torch.nn.functional.linear and fusedrop.torch.dropout, which have one."
    )


class LinearBackward(torch.autograd.Function):
    """linear_backward where someone may want to differentiate again: the refusal comes when they do."""

    @staticmethod
    def forward(ctx, dy, x, w, kept, options):
        return linear_backward_below(dy, x, w, kept, *options)

    backward = staticmethod(refuse_second_derivative)


class TransformedLinearBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(dy, x, w, kept, options):
        return operators.linear_backward(dy, x, w, kept, *options)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    backward = staticmethod(refuse_second_derivative)


def dropout_tangent(ctx, dx, *_):
    return apply_dropout(dx, *ctx.options)


class EagerDropout(torch.autograd.Function):
    """dx = dropout(dy) under the same name; differentiable in turn."""

    @staticmethod
    def forward(ctx, x, options):
        ctx.options = options
        return operators.dropout_cpu(x, *options)

    @staticmethod
    def backward(ctx, dy):
        return apply_dropout(dy, *ctx.options), None

    jvp = staticmethod(dropout_tangent)


class Dropout(EagerDropout):
    """The rule of `dropout`."""

    @staticmethod
    def forward(ctx, x, options):
        ctx.options = options
        return dropout_below(x, *options)


class TransformedDropout(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, *options):  # not one tuple: vmap over jvp would take it for several
        return operators.dropout(x, *options)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.options = inputs[1:]

    @staticmethod
    def backward(ctx, dy):
        return apply_dropout(dy, *ctx.options), *[None] * len(ctx.options)

    jvp = staticmethod(dropout_tangent)
