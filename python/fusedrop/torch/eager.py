"""Which calls may go around PyTorch's dispatcher, and which need a node in autograd's graph.

The way through the dispatcher to a Python kernel costs 10 us in a hot loop, and twice that between the kernels of a
training step, whose operands push the dispatcher's code out of the caches.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

PLAIN = {torch.Tensor, torch.nn.Parameter}
with torch.inference_mode():
    _made_for_inference = torch.empty(0, device="cpu")
ORDINARY = {torch._C._dispatch_keys(t).raw_repr() for t in (_made_for_inference, torch.empty(0, device="cpu"))}


def unwatched(*tensors):
    """Nobody but autograd wants to know of this call: eager code on ordinary CPU tensors (or None).

    Not ordinary are subclasses, batches of vmap and negated views (t.conj().imag), which the dispatcher must see.
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


def wants_graph(*tensors):
    """Whether autograd has to know: a gradient may be asked for, or a tangent be there, which shows in no flag."""
    if not torch.is_grad_enabled():
        return False
    for t in tensors:
        if t is not None and t.requires_grad:
            return True
    return forward_ad._current_level >= 0
