"""Decides which calls bypass PyTorch's dispatcher, and which calls need a node in autograd's graph.

A call through the dispatcher to a Python kernel costs 10 us in a hot loop. It costs twice that between the kernels of
a training step, whose operands push the dispatcher's code out of the caches.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

PLAIN = {torch.Tensor, torch.nn.Parameter}
with torch.inference_mode():
    _made_for_inference = torch.empty(0, device="cpu")
ORDINARY = {torch._C._dispatch_keys(t).raw_repr() for t in (_made_for_inference, torch.empty(0, device="cpu"))}


def can_bypass_dispatcher(*tensors):
    """Whether only autograd has to see this call: eager code on ordinary CPU tensors (or None).

    Subclasses, batches of vmap and negated views (t.conj().imag) are not ordinary: the dispatcher must see them.
    """
    if torch.compiler.is_compiling():
        return False
    for t in tensors:
        if t is not None and not (type(t) in PLAIN and torch._C._dispatch_keys(t).raw_repr() in ORDINARY):
            return False
    return not (
        torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._are_functorch_transforms_active()
        or torch.is_autocast_enabled("cpu")
        or torch._C._get_tracing_state()
    )


def needs_graph(*tensors):
    """Whether autograd must record the call: a tensor requires a gradient, or a forward-mode level is active.

    A tangent of forward mode shows in no flag of a tensor, so an active level counts.
    """
    if not torch.is_grad_enabled():
        return False
    for t in tensors:
        if t is not None and t.requires_grad:
            return True
    return forward_ad._current_level >= 0
