"""Linear -> activation -> dropout in one torch.fx graph, or in a transformer layer's feed-forward block."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from fusedrop.torch.operators import SAVED
from fusedrop.torch.patch.fused_modules import Group
from fusedrop.torch.patch.tracing import IN_PLACE, has_forward_of

MODULES = {nn.ReLU: "relu", nn.SiLU: "silu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}
APPROXIMATIONS = {"none": "gelu", "tanh": "gelu_tanh"}  # nn.GELU's
FUNCTIONS = {
    F.relu: "relu",
    torch.relu: "relu",
    F.gelu: "gelu",
    F.silu: "silu",
    F.tanh: "tanh",
    torch.tanh: "tanh",
    F.sigmoid: "sigmoid",
    torch.sigmoid: "sigmoid",
}
RELUS = (F.relu, torch.relu, "relu")  # "relu" is the method
TRANSFORMER_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
KNOWN_FUNCTIONS = ("relu", "gelu", "silu", "tanh", "sigmoid", "dropout")
ACTIVATIONS_AND_DROPOUTS = (nn.ReLU.__module__, nn.Dropout.__module__)  # the modules where torch.nn defines all of them
NOTHING_FOLLOWS = "no activation or dropout follows"


def activation_of(module):
    """The kernels' name of an activation module. None for any other type, subclasses included."""
    if type(module) is nn.GELU:
        return APPROXIMATIONS.get(module.approximate)
    return MODULES.get(type(module))


def match_graph(root, graph):
    """(Linear, Group or the reason against one) for each call of an nn.Linear in a graph of root's forward."""
    modules = {node: root.get_submodule(node.target) for node in graph.nodes if node.op == "call_module"}
    return [(m, match_call(node, modules)) for node, m in modules.items() if isinstance(m, nn.Linear)]


def match_call(node, modules):
    """The longest group that begins with this call of a Linear, or the reason against one."""
    group, last = Group(modules[node]), node
    for user in only_users(node):
        module = modules.get(user)
        name = activation_of(module)
        if name and group.activation_name == "identity":
            dropout_first = group.dropout is not None
            group = replace(group, activation_name=name, activation=module, dropout_first=dropout_first)
            last = user
        elif type(module) is nn.Dropout and group.dropout is None:
            group, last = replace(group, dropout=module), user
        elif is_relu(user) and group == Group(group.linear):
            group = replace(group, activation_name="relu")  # useful only if a dropout follows
        else:
            break
    if last is node:
        return why_no_group(node, modules)
    changes = [user for user in last.users if changes_in_place(user, last, modules)]
    if SAVED[group.activation_name] == "y" and changes:
        return f"its output, which backward needs, is changed in place by {callee_of(changes[0], modules)}"
    return group


def only_users(node):
    """The chain of only users: the node's only user, then the only user of that node, and so on.

    The chain ends before a user that takes other arguments than the output of the node before it, or works in place.
    """
    while len(node.users) == 1:
        user = next(iter(node.users))
        if user.args != (node,) or user.kwargs.get("inplace"):
            return
        yield user
        node = user


def is_relu(node):
    return node.op in ("call_function", "call_method") and node.target in RELUS


def callee_of(node, modules):
    """The name of what this node calls."""
    if node in modules:
        return type(modules[node]).__name__
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def changes_in_place(user, node, modules):
    """Whether this user of a node writes to it."""
    if not user.args or user.args[0] is not node:
        return user.kwargs.get("out") is node
    name = callee_of(user, modules)
    written = name.endswith("_") and not name.endswith("__")
    return written or user.target in IN_PLACE.values() or bool(is_inplace(user, modules))


def is_inplace(node, modules):
    return node.kwargs.get("inplace") or getattr(modules.get(node), "inplace", False)


def why_no_group(node, modules):
    """The reason why no group begins with this call."""
    if len(node.users) != 1:
        return f"its output is used {len(node.users)} times"
    user = next(iter(node.users))
    module, name = modules.get(user), callee_of(user, modules)
    if isinstance(module, (*MODULES, nn.GELU, nn.Dropout)) or type(module).__module__ in ACTIVATIONS_AND_DROPOUTS:
        return f"{name} follows, which has no fused form"
    if user.op in ("call_function", "call_method") and name.rstrip("_") in KNOWN_FUNCTIONS:
        return describe_function(name)
    return NOTHING_FOLLOWS


def describe_function(name):
    return f"{name} follows as a function; only a module tells p and training, or can be replaced"


def has_known_block(layer):
    """Whether a transformer layer calls PyTorch's _ff_block: dropout(linear2(dropout(activation(linear1(x)))))."""
    cls = next(cls for cls in TRANSFORMER_LAYERS if isinstance(layer, cls))
    own = type(layer)._ff_block is not cls._ff_block or "_ff_block" in layer.__dict__
    return has_forward_of(layer, cls) and not own


def match_layer(layer):
    """Like match_graph, for the feed-forward block of a transformer layer; and all calls of its modules."""
    dropouts = [layer.dropout1, layer.dropout2]
    dropouts += [layer.dropout3] if isinstance(layer, nn.TransformerDecoderLayer) else []
    last = dropouts[-1]
    second = Group(layer.linear2, dropout=last) if type(last) is nn.Dropout else NOTHING_FOLLOWS
    calls = [layer.linear1, layer.activation, layer.dropout, layer.linear2, *dropouts]
    return [(layer.linear1, _first_group(layer)), (layer.linear2, second)], calls


def _first_group(layer):
    function = layer.activation
    if isinstance(function, nn.Module):
        group = Group(layer.linear1, activation_of(function), activation=function)
    else:
        name = next((name for known, name in FUNCTIONS.items() if known is function), None)
        group = Group(layer.linear1, name, layer=layer)
    if group.activation_name is None:
        return f"the layer's activation {getattr(function, '__name__', function)} has no fused form"
    return replace(group, dropout=layer.dropout) if type(layer.dropout) is nn.Dropout else group
