"""The classes that `patch` gives to live modules: a Linear that makes its group's one call, the others that do nothing.

Only `__class__` changes. Parameters, hooks, names and state_dict are those of the same objects, before and after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from fusedrop.torch import functional
from fusedrop.torch.naming import MaskName

ADDED = ("fused_group", "masks")  # attributes of a FusedLinear that an nn.Linear has not


@dataclass(frozen=True)
class Group:
    """Linear -> [activation] -> [dropout]: live modules. No nn.Module itself, so that it registers none of them.

    activation is the module that does nothing from now on. It is None where there is none, where the activation is an
    attribute of a transformer `layer`, and where it is relu as a function between modules, which stays: relu of what
    has been through relu changes nothing.
    """

    linear: nn.Linear
    name: str = "identity"  # the activation, as the kernels call it
    activation: nn.Module | None = None
    dropout: nn.Dropout | None = None
    before: bool = False  # dropout comes before the activation
    layer: nn.Module | None = None

    @property
    def absorbed(self):
        """The modules that the Linear's call makes superfluous, in their order."""
        both = (self.dropout, self.activation) if self.before else (self.activation, self.dropout)
        return tuple(module for module in both if module is not None)


class FusedLinear(nn.Linear):
    """y = dropout(activation(x wᵀ + b)): the nn.Linear of a patched group.

    p and training are those of the group's live nn.Dropout, at each call.
    """

    fused_group: Group
    masks: MaskName  # where the group has a dropout

    def forward(self, input):
        group = self.fused_group
        p, name = 0.0, functional.NO_NAME
        if group.dropout is not None and group.dropout.training:
            p = group.dropout.p
            if p > 0:
                name = self.masks.take(math.prod(input.shape[:-1]))
            else:
                self.masks.count()
        options = (group.before, 0.0, "element")
        return functional.linear_over_rows(input, self.weight, self.bias, None, group.name, p, *name, *options)

    def extra_repr(self):
        group, text = self.fused_group, super().extra_repr()
        text += f", activation={group.name!r}" if group.name != "identity" else ""
        if group.dropout is None:
            return text
        text += f", dropout={group.dropout.p}" + (", dropout_before_activation=True" if group.before else "")
        return text + (f", {self.masks}" if self.masks.seed is not None else "")


class Absorbed:
    """A module whose work a FusedLinear does: hands on what it gets."""

    def forward(self, input):
        return input


class AbsorbedReLU(Absorbed, nn.ReLU):
    pass


class AbsorbedGELU(Absorbed, nn.GELU):
    pass


class AbsorbedSiLU(Absorbed, nn.SiLU):
    pass


class AbsorbedTanh(Absorbed, nn.Tanh):
    pass


class AbsorbedSigmoid(Absorbed, nn.Sigmoid):
    pass


class AbsorbedDropout(Absorbed, nn.Dropout):
    pass


ABSORBED = {
    nn.ReLU: AbsorbedReLU,
    nn.GELU: AbsorbedGELU,
    nn.SiLU: AbsorbedSiLU,
    nn.Tanh: AbsorbedTanh,
    nn.Sigmoid: AbsorbedSigmoid,
    nn.Dropout: AbsorbedDropout,
}
RESTORED = {absorbed: original for original, absorbed in ABSORBED.items()}


class AbsorbedFunction:
    """In place of a transformer layer's `activation` function: hands on what it gets, and keeps the function."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return x


def fuse(group):
    """Makes the group one call. A module that several groups share is absorbed once."""
    group.linear.__class__ = FusedLinear
    group.linear.fused_group = group
    if group.dropout is not None:
        group.linear.masks = MaskName()
    for module in group.absorbed:
        module.__class__ = ABSORBED.get(type(module), type(module))
    if group.layer is not None:  # set in __dict__, for PyTorch's copy of a layer may have a module of that name besides
        group.layer.__dict__["activation"] = AbsorbedFunction(group.layer.activation)


def restore(linear):
    """Undoes `fuse` for the group of this FusedLinear."""
    group = linear.fused_group
    linear.__class__ = nn.Linear
    for attribute in ADDED:
        linear.__dict__.pop(attribute, None)
    for module in group.absorbed:
        module.__class__ = RESTORED.get(type(module), type(module))
    if group.layer is not None:
        group.layer.__dict__["activation"] = group.layer.activation.function


def fused_linears(model):
    """{name: module} of a model's FusedLinears."""
    return {name: module for name, module in model.named_modules() if isinstance(module, FusedLinear)}


def is_plain(linear):
    """Whether weight and bias are this nn.Linear's own parameters, which weight_norm and pruning replace."""
    tensors = {"weight", "bias"}
    return linear._parameters.keys() == tensors and isinstance(linear.weight, torch.Tensor)
