"""Registers the operators' rules for autograd, autocast and vmap with PyTorch's dispatcher, when it is imported."""

from __future__ import annotations

import torch

from fusedrop.torch import autograd, operators
from fusedrop.torch.operators import LIBRARY
from fusedrop.torch.routing import can_bypass_dispatcher, needs_graph


def autograd_rule(function, below, tensors, eager=None):
    """An operator's Autograd kernel: it adds a node to the graph where one is needed.

    Args:
        function: the torch.autograd.Function that adds the node.
        below: the operator without its autograd rule.
        tensors: number of leading tensor arguments.
        eager: takes the calls that can bypass the dispatcher, if given.
    """

    def rule(*inputs):
        operands, options = inputs[:tensors], inputs[tensors:]
        if eager is not None and can_bypass_dispatcher(*operands):
            return eager(*operands, options)
        return function.apply(*operands, options) if needs_graph(*operands) else below(*inputs)

    return rule


def autocast_rule(operator, device):
    """linear's Autocast kernel: it casts the operands, with autocast itself excluded from the inner call."""
    key = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device.upper()}"))

    def rule(*inputs):
        with torch._C._ExcludeDispatchKeyGuard(key):
            return autograd.in_lower_precision(operator, device, *inputs)

    return rule


def select(x, dimension, i):
    """Example i. For an empty batch, zeros of an example's shape."""
    if x.shape[dimension] == 0:
        return x.new_zeros((*x.shape[:dimension], *x.shape[dimension + 1 :]))
    return x.select(dimension, i)


def vmap_rule(operator):
    """vmap of a pure function: one call for each example. All calls have the same key, so all have the same mask."""

    def rule(info, in_dims, *inputs):
        def example(i):
            return [x if d is None else select(x, d, i) for x, d in zip(inputs, in_dims, strict=True)]

        results = [operator(*example(i)) for i in range(max(info.batch_size, 1))]
        if isinstance(results[0], torch.Tensor):
            return torch.stack(results)[: info.batch_size], 0
        stacked = map(torch.stack, zip(*results, strict=True))
        return tuple(t[: info.batch_size] for t in stacked), (0,) * len(results[0])

    return rule


_below = autograd.without_autograd
for _name, _rule in (
    ("linear", autograd_rule(autograd.Linear, _below(operators.linear), autograd.TENSORS, autograd.eager_linear)),
    ("linear_forward", autograd_rule(autograd.LinearForward, _below(operators.linear_forward), autograd.TENSORS)),
    ("linear_backward", autograd_rule(autograd.LinearBackward, _below(operators.linear_backward), autograd.TENSORS)),
    ("dropout", autograd_rule(autograd.Dropout, _below(operators.dropout), 1, autograd.eager_dropout)),
):
    LIBRARY.impl(_name, _rule, "Autograd")
    torch.library.register_vmap(getattr(operators, _name), vmap_rule(getattr(operators, _name)), lib=LIBRARY)
for _device in autograd.AUTOCAST_DEVICES:
    LIBRARY.impl("linear", autocast_rule(operators.linear, _device), f"Autocast{_device.upper()}")
