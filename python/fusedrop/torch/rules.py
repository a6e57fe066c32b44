"""What PyTorch's dispatcher must know of the operators: autograd, autocast, vmap. Importing this module tells it."""

from __future__ import annotations

import torch

from fusedrop.torch import derivatives, operators
from fusedrop.torch.eager import unwatched, wants_graph
from fusedrop.torch.operators import LIBRARY


def autograd(function, below, tensors, eager=None):
    """An operator's Autograd kernel: a node of the graph where one is wanted. `eager` takes unwatched calls."""

    def rule(*inputs):
        operands, options = inputs[:tensors], inputs[tensors:]
        if eager is not None and unwatched(*operands):
            return eager(*operands, options)
        return function.apply(*operands, options) if wants_graph(*operands) else below(*inputs)

    return rule


def linear_autocast(operator, device):
    key = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device.upper()}"))

    def rule(*inputs):
        with torch._C._ExcludeDispatchKeyGuard(key):
            return derivatives.in_lower_precision(operator, device, *inputs)

    return rule


def select(x, dimension, i):
    """Example i, or zeros for the shapes of an empty batch."""
    if x.shape[dimension] == 0:
        return x.new_zeros((*x.shape[:dimension], *x.shape[dimension + 1 :]))
    return x.select(dimension, i)


def one_by_one(operator):
    """vmap of a pure function: one call an example, all with the same name, so all with the same mask."""

    def rule(info, in_dims, *inputs):
        def example(i):
            return [x if d is None else select(x, d, i) for x, d in zip(inputs, in_dims, strict=True)]

        results = [operator(*example(i)) for i in range(max(info.batch_size, 1))]
        if isinstance(results[0], torch.Tensor):
            return torch.stack(results)[: info.batch_size], 0
        stacked = map(torch.stack, zip(*results, strict=True))
        return tuple(t[: info.batch_size] for t in stacked), (0,) * len(results[0])

    return rule


for _name, _rule in (
    ("linear", autograd(derivatives.Linear, derivatives.linear_below, derivatives.TENSORS, derivatives.eager_linear)),
    ("linear_saving", autograd(derivatives.TransformedLinear, derivatives.linear_saving_below, derivatives.TENSORS)),
    ("linear_backward", autograd(derivatives.LinearBackward, derivatives.linear_backward_below, derivatives.TENSORS)),
    ("dropout", autograd(derivatives.Dropout, derivatives.dropout_below, 1, derivatives.eager_dropout)),
):
    LIBRARY.impl(_name, _rule, "Autograd")
    torch.library.register_vmap(getattr(operators, _name), one_by_one(getattr(operators, _name)), lib=LIBRARY)
for _device in derivatives.AUTOCAST:
    LIBRARY.impl("linear", linear_autocast(operators.linear, _device), f"Autocast{_device.upper()}")
