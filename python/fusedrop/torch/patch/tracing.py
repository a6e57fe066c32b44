"""Finds what a module's forward calls, by torch.fx, one level at a time. The model stays unchanged."""

from __future__ import annotations

import contextlib
import inspect
import operator
import warnings

import torch
from torch import fx, nn

_IN_PLACE_NAMES = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor")
IN_PLACE = {name: getattr(operator, name) for name in _IN_PLACE_NAMES}  # h += x and the like


class Proxy(fx.Proxy):
    """A torch.fx Proxy that records h += x as an operation in place; torch.fx's own records h = h + x."""


def _recorded(function):
    return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})


for _name, _function in IN_PLACE.items():
    setattr(Proxy, f"__{_name}__", _recorded(_function))


class Tracer(fx.Tracer):
    """Calls of modules are the graph's leaves. Only a plain nn.Sequential is traced through."""

    proxy_buffer_attributes = True  # otherwise an update of a buffer would run while tracing

    def __init__(self):
        super().__init__()
        self.entered = set()

    def is_leaf_module(self, m, module_qualified_name):
        return not is_transparent(m)

    def call_module(self, m, forward, args, kwargs):
        if is_transparent(m):
            self.entered.add(m)
        return super().call_module(m, forward, args, kwargs)

    def proxy(self, node):
        return Proxy(node, self)


def is_transparent(module):
    """Whether module is an nn.Sequential that only calls its children: it has no hook, which would see its values."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return isinstance(module, nn.Sequential) and has_forward_of(module, nn.Sequential) and not any(hooks)


def forward_of(module):
    """The forward of the module's class. None for a TorchScript module, whose class has none."""
    return getattr(type(module), "forward", None)


def has_forward_of(module, cls):
    """Whether a call of module runs cls.forward itself."""
    return forward_of(module) is cls.forward and "forward" not in module.__dict__


def has_own_forward(module):
    """Whether forward is the model's own code: not torch.nn's, not fusedrop's, not missing as in a ModuleList."""
    origin = getattr(forward_of(module), "__module__", None) or ""
    return "forward" in module.__dict__ or not origin.startswith(("torch.nn.", "fusedrop.torch."))


def traces(root):
    """The graphs of root's forward, and the nn.Sequentials that it calls.

    One graph in training mode and one in eval mode, because code may test `if self.training`. Where arguments default
    to None, two more graphs without these arguments, because code may test `if mask is None`.

    Raises:
        Exception: any that torch.fx raises for a forward that depends on values.
    """
    if "forward" in root.__dict__:
        raise TypeError("its forward has been replaced")  # torch.fx would trace the class's forward
    graphs, entered = [], set()
    absent = {name: None for name, p in inspect.signature(root.forward).parameters.items() if p.default is None}
    for training in (True, False):
        for arguments in ({}, absent) if absent else ({},):
            tracer = Tracer()
            with temporary_mode(root, training):
                graphs.append(tracer.trace(root, dict(arguments)))
            entered |= tracer.entered
    return graphs, entered


@contextlib.contextmanager
def temporary_mode(root, training):
    """Root in this mode inside the context. On exit, attributes and random generators are as they were."""
    saved = {module: dict(module.__dict__) for module in root.modules()}
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in saved:
                module.training = training
            yield
    finally:
        for module, attributes in saved.items():
            module.__dict__.clear()
            module.__dict__.update(attributes)
