"""Decides which Linears of a model can be fused with what follows them, and gives the reason for the others."""

from __future__ import annotations

from collections import Counter, defaultdict

import torch
from torch import nn

from fusedrop.torch.modules import Linear
from fusedrop.torch.patch.fused_modules import ADDED, FusedLinear, Group, is_plain
from fusedrop.torch.patch.matching import NOTHING_FOLLOWS, TRANSFORMER_LAYERS, has_known_block, match_graph, match_layer
from fusedrop.torch.patch.tracing import has_forward_of, has_own_forward, traces

DTYPES = {"cpu": (torch.float32, torch.float64, torch.bfloat16)}  # dtypes with kernels, by device


class ModelCalls:
    """The calls that a model's forward is known to make: how many of each module, and which Linears begin a group."""

    def __init__(self):
        self.count: Counter[nn.Module] = Counter()
        self.matches: dict[nn.Linear, list[Group | str]] = defaultdict(list)
        self.hidden: dict[nn.Module, str] = {}  # modules whose calls are not known, and the reason
        self.entered: set[nn.Module] = set()  # the nn.Sequentials that a traced forward calls

    def add(self, matches, called):
        self.count.update(called)
        for linear, match in matches:
            self.matches[linear].append(match)

    def hide(self, root, reason):
        self.hidden.update(dict.fromkeys(children_called_by(root), reason))

    def add_layer(self, layer):
        """Adds the calls of a transformer layer, or hides its children if its code is not PyTorch's."""
        if has_known_block(layer):
            self.add(*match_layer(layer))
        else:
            self.hide(layer, f"{type(layer).__name__} has a forward or _ff_block of its own")

    def trace(self, root):
        """Adds the calls of root's forward, or hides its children if torch.fx can't see them."""
        try:
            graphs, entered = traces(root)
        except Exception as error:  # tracing runs the model's own code
            message = str(error).strip().partition("\n")[0] or type(error).__name__
            reason = f"torch.fx can't trace {type(root).__name__}: {message}"
            self.hide(root, reason)
            return
        self.entered |= entered
        for graph in graphs:
            called = [root.get_submodule(node.target) for node in graph.nodes if node.op == "call_module"]
            self.add(match_graph(root, graph), called)


def children_called_by(root):
    """The modules that only root's forward is known to call: its children, and the children of a ModuleList."""
    for child in root.children():
        yield child
        if has_forward_of(child, nn.Module):
            yield from children_called_by(child)


def survey(model):
    """All calls in a model.

    An nn.Sequential is assumed to be called as a whole, unless a traced forward shows how its children are called.
    """
    calls, modules = ModelCalls(), list(model.modules())
    for module in modules:
        if isinstance(module, TRANSFORMER_LAYERS):
            calls.add_layer(module)
        elif has_own_forward(module) and not isinstance(module, torch.jit.ScriptModule):
            calls.trace(module)
    for module in modules:
        if isinstance(module, nn.Sequential) and not has_own_forward(module) and module not in calls.entered:
            calls.trace(module)
    return calls


def find_groups(model):
    """(groups to fuse, {Linear: the reason why it is not fused}), in the order of model.modules()."""
    calls = survey(model)
    candidates, left = {}, {}
    for module in model.modules():
        if isinstance(module, (FusedLinear, Linear)) or not is_linear(module):
            continue
        verdict = refusal_of(module) or agreed(calls, module)
        if isinstance(verdict, Group):
            verdict = refusal_of_members(verdict, calls) or verdict
        (candidates if isinstance(verdict, Group) else left)[module] = verdict
    leave_shared(candidates, left, calls)
    order = {module: i for i, module in enumerate(model.modules())}
    return list(candidates.values()), dict(sorted(left.items(), key=lambda item: order[item[0]]))


def is_linear(module):
    """Whether the report has a line for this module: an nn.Linear, or one of its quantized relatives."""
    quantized = type(module).__module__.startswith("torch.ao.nn") and "Linear" in type(module).__name__
    return isinstance(module, nn.Linear) or (quantized and hasattr(module, "in_features"))


def agreed(calls, linear):
    """The one group that all calls of a Linear begin, or the reason against one."""
    matches = calls.matches.get(linear)
    if linear in calls.hidden or not matches:
        return calls.hidden.get(linear, NOTHING_FOLLOWS)
    reasons = [match for match in matches if isinstance(match, str)]
    if reasons:
        return reasons[0]
    return matches[0] if all(match == matches[0] for match in matches) else "its calls differ in what follows"


def refusal_of(linear):
    """The reason why this Linear can't be fused, whatever follows it. None if it can."""
    if isinstance(linear, nn.modules.lazy.LazyModuleMixin):
        return "its size is not known yet: call the model once before patching"
    if nn.utils.parametrize.is_parametrized(linear):
        return "it is parametrized"
    if type(linear) is not nn.Linear:
        return f"only torch.nn.Linear itself is fused, not {type(linear).__module__}.{type(linear).__qualname__}"
    if not is_plain(linear):
        return "its weight or bias is computed from other parameters (weight_norm, pruning, ...)"
    dtypes = DTYPES.get(linear.weight.device.type, ())
    if linear.weight.dtype not in dtypes:
        return f"no kernels for {linear.weight.dtype} on {linear.weight.device}".replace("torch.", "")
    taken = [attribute for attribute in ADDED if hasattr(linear, attribute)]
    return f"it has an attribute of its own named {taken[0]}" if taken else None


def refusal_of_members(group, calls):
    """The reason why these modules can't become one call: a hook or other code would miss the values between them."""
    last = group.absorbed[-1] if group.absorbed else None
    for module in (group.linear, *group.absorbed):
        if module in calls.hidden:
            return calls.hidden[module]
        if "forward" in module.__dict__:
            return f"forward of its {type(module).__name__} has been replaced"
        inner = [module._backward_hooks, module._backward_pre_hooks]
        inner += [module._forward_hooks] if module is not last else []
        inner += [module._forward_pre_hooks] if module is not group.linear else []
        if any(inner):
            return f"its {type(module).__name__} has hooks, which would see fused values"
    return None


def leave_shared(candidates, left, calls):
    """Moves to `left` each group that absorbs a module which is also called elsewhere, until there is none."""
    while True:
        absorbed = Counter(m for g in candidates.values() for m in g.absorbed * len(calls.matches[g.linear]))
        shared = {
            linear: f"its {type(module).__name__} is also called outside of a fused group"
            for linear, group in candidates.items()
            for module in group.absorbed
            if calls.count[module] != absorbed[module]
        }
        if not shared:
            return
        left.update(shared)
        for linear in shared:
            del candidates[linear]
