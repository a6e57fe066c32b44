"""Derivatives of the operators, and the choice of the form that has them.

The backward pass draws the masks again: nothing random is saved. `linear` has a first derivative only, and a second one
raises an error. `dropout` is linear in x, so it has all derivatives.

Each torch.autograd.Function has three forms. `apply_linear` and `apply_dropout` choose one:

    Linear, Dropout                          for the dispatcher. Compiled code calls it. It has no setup_context, which
                                             would cost 20 us a call (torch 2.13).
    LinearForward, TransformedDropout ...    for torch.func's transforms (grad, vmap ...). They need setup_context, and
                                             refuse any autograd.Function inside the dispatcher.
    EagerLinear, EagerDropout                for plain eager calls, which bypass the dispatcher (routing.py).
"""

from __future__ import annotations

import torch

from fusedrop.torch import operators
from fusedrop.torch.operators import saved_for_backward
from fusedrop.torch.routing import can_bypass_dispatcher, needs_graph

TENSORS = 4  # tensor arguments of linear (x, w, b, residual) and of linear_backward (dy, x, w, saved)
AUTOCAST_DEVICES = ("cpu", "cuda")


def under_torch_func():
    """Whether the call is inside torch.func.grad, vmap ... False while compiling, where the operator is called."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def apply_linear(x, w, b, residual, *options):
    """y, by the form that fits the place of the call."""
    return (eager_linear if can_bypass_dispatcher(x, w, b, residual) else dispatched_linear)(x, w, b, residual, options)


def dispatched_linear(x, w, b, residual, options):
    """apply_linear for a call that cannot bypass the dispatcher."""
    if not under_torch_func():
        return operators.linear(x, w, b, residual, *options)
    device = x.device.type
    if device not in AUTOCAST_DEVICES or not torch.is_autocast_enabled(device):
        return LinearForward.apply(x, w, b, residual, options)[0]
    with torch.autocast(device, enabled=False):
        return in_lower_precision(apply_linear, device, x, w, b, residual, *options)


def apply_dropout(x, *options):
    """y, by the form that fits the place of the call."""
    if can_bypass_dispatcher(x):
        return eager_dropout(x, options)
    return TransformedDropout.apply(x, *options) if under_torch_func() else operators.dropout(x, *options)


def cast_by_autocast(tensor):
    """Whether autocast converts this tensor. float64 stays, as in torch."""
    return tensor is not None and tensor.is_floating_point() and tensor.dtype is not torch.float64


def in_lower_precision(operator, device, x, w, b, residual, *options):
    """The call under autocast, cast like torch's own linear. A residual stream keeps its own precision."""
    dtype = torch.get_autocast_dtype(device)
    x, w, b = (t.to(dtype) if cast_by_autocast(t) else t for t in (x, w, b))
    if residual is None or residual.dtype is x.dtype:
        return operator(x, w, b, residual, *options)
    return residual + operator(x, w, b, None, *options)


def eager_linear(x, w, b, residual, options):
    """apply_linear for a call that can bypass the dispatcher."""
    if needs_graph(x, w, b, residual):
        return apply_eagerly(EagerLinear, x, w, b, residual, options)
    return operators.linear_impl(x, w, b, residual, *options)


def eager_dropout(x, options):
    """apply_dropout for a call that can bypass the dispatcher."""
    return apply_eagerly(EagerDropout, x, options) if needs_graph(x) else operators.dropout_impl(x, *options)


def apply_eagerly(function, *inputs):
    """function.apply without the check for torch.func, which is known to be inactive here."""
    return super(torch.autograd.Function, function).apply(*inputs)


def without_autograd(operator):
    """The operator without its autograd rule."""

    def call(*inputs):
        with torch._C._AutoDispatchBelowAutograd():  # what torch.library.register_autograd uses itself
            return operator(*inputs)

    return call


_linear, _linear_forward = without_autograd(operators.linear), without_autograd(operators.linear_forward)
_linear_backward, _dropout = without_autograd(operators.linear_backward), without_autograd(operators.dropout)


def linear_gradients(ctx, dy, _dz=None):
    """A gradient for each of linear's arguments. The residual's is dy itself."""
    if dy is None:
        return None, None, None, None, None
    need_dx, need_dw, need_db, need_residual = ctx.needs_input_grad[:TENSORS]
    dx = dw = db = None
    if need_dx or need_dw or need_db:
        x, w, saved = ctx.saved_tensors  # once: a checkpoint recomputes at the first access and refuses a second
        needed = need_dx, need_dw, need_db
        options = (ctx.has_residual, *ctx.options)
        if not torch.is_grad_enabled() and can_bypass_dispatcher(dy, x, w, saved):
            dx, dw, db = operators.gradients(dy, x, w, saved, *needed, *options)
        elif under_torch_func():
            dx, dw, db = TransformedLinearBackward.apply(dy, x, w, saved, (*needed, *options))
        else:
            dx, dw, db = operators.linear_backward(dy, x, w, saved, *needed, *options)
    return (
        dx if need_dx else None,
        dw if need_dw else None,
        db if need_db else None,
        dy if need_residual else None,
        None,
    )


def fill_context(ctx, x, w, saved, has_residual, options):
    """Puts what linear_gradients needs into ctx."""
    ctx.save_for_backward(x, w, saved)
    ctx.has_residual, ctx.options = has_residual, options
    ctx.set_materialize_grads(False)


def refuse_forward_mode(ctx, *_):
    raise RuntimeError(
        "fusedrop's linear has no forward-mode derivative (jvp, jacfwd, hessian): use backward (vjp, jacrev), or "
        "torch.nn.functional.linear and fusedrop.torch.dropout, which have one."
    )


def forward_and_save(ctx, linear, linear_forward, x, w, b, residual, options):
    """y, by one of the two functions. ctx then has what backward needs."""
    needed = saved_for_backward(options[0], residual is not None)
    if needed == "z":
        y, saved = linear_forward(x, w, b, residual, *options)
    else:
        y = linear(x, w, b, residual, *options)
        # x is saved anyway, and backward does not read this copy of it: y may be freed or changed.
        saved = y if needed == "y" else x
    fill_context(ctx, x, w, saved, residual is not None, options)
    return y


class Linear(torch.autograd.Function):
    """The rule of `linear`, whose only output is y."""

    @staticmethod
    def forward(ctx, *inputs):
        return forward_and_save(ctx, _linear, _linear_forward, *inputs)

    backward = staticmethod(linear_gradients)
    jvp = staticmethod(refuse_forward_mode)


class EagerLinear(torch.autograd.Function):
    """The rule of `linear` for calls that bypass the dispatcher."""

    @staticmethod
    def forward(ctx, *inputs):
        return forward_and_save(ctx, operators.linear_impl, operators.linear_forward_impl, *inputs)

    backward = staticmethod(linear_gradients)
    jvp = staticmethod(refuse_forward_mode)


class LinearForward(torch.autograd.Function):
    """The rule of `linear_forward`, and of `linear` under torch.func, where all that is saved must be an output."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, w, b, residual, options):
        return operators.linear_forward(x, w, b, residual, *options)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, w, _, residual, options = inputs
        y, z = output
        saved = y if saved_for_backward(options[0], residual is not None) == "y" else z
        fill_context(ctx, x, w, saved, residual is not None, options)
        ctx.mark_non_differentiable(z)

    backward = staticmethod(linear_gradients)
    jvp = staticmethod(refuse_forward_mode)


def refuse_second_derivative(ctx, *_):
    raise RuntimeError(
        "fusedrop's linear has no second derivative: its backward pass can't be differentiated. "
        "Use torch.nn.functional.linear and fusedrop.torch.dropout, which have one."
    )


class LinearBackward(torch.autograd.Function):
    """The rule of `linear_backward`: a graph of gradients can be built, and differentiating it raises an error."""

    @staticmethod
    def forward(ctx, dy, x, w, saved, options):
        return _linear_backward(dy, x, w, saved, *options)

    backward = staticmethod(refuse_second_derivative)


class TransformedLinearBackward(torch.autograd.Function):
    """`linear_backward` under torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def forward(dy, x, w, saved, options):
        return operators.linear_backward(dy, x, w, saved, *options)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    backward = staticmethod(refuse_second_derivative)


def dropout_tangent(ctx, dx, *_):
    return apply_dropout(dx, *ctx.options)


class EagerDropout(torch.autograd.Function):
    """dx = dropout(dy) under the same key. The backward pass is differentiable in turn."""

    @staticmethod
    def forward(ctx, x, options):
        ctx.options = options
        return operators.dropout_impl(x, *options)

    @staticmethod
    def backward(ctx, dy):
        return apply_dropout(dy, *ctx.options), None

    jvp = staticmethod(dropout_tangent)


class Dropout(EagerDropout):
    """The rule of `dropout`."""

    @staticmethod
    def forward(ctx, x, options):
        ctx.options = options
        return _dropout(x, *options)


class TransformedDropout(torch.autograd.Function):
    """`dropout` under torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, *options):  # not one tuple: vmap over jvp would take it for several tensors
        return operators.dropout(x, *options)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.options = inputs[1:]

    @staticmethod
    def backward(ctx, dy):
        return apply_dropout(dy, *ctx.options), *[None] * len(ctx.options)

    jvp = staticmethod(dropout_tangent)
