"""The classes that `patch` gives to live modules: FusedLinear makes the one call of its group, the others do nothing.

Only `__class__` changes. The objects stay the same, with their parameters, hooks, names and state_dict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from fusedrop.torch import functional
from fusedrop.torch.mask_key import MaskKey

ADDED = ("fused_group", "mask_key")  # attributes of a FusedLinear that an nn.Linear does not have


@dataclass(frozen=True)
class Group:
    """Linear -> [activation] -> [dropout]: live modules. A Group is no nn.Module, so it registers none of them.

    activation is the module that does nothing while the model is patched. It is None where there is no activation, and
    where the activation is an attribute of a transformer `layer`. It is also None where the activation is relu as a
    function between modules. That function stays: a second relu changes nothing.
    """

    linear: nn.Linear
    activation_name: str = "identity"  # as the kernels call it
    activation: nn.Module | None = None
    dropout: nn.Dropout | None = None
    dropout_first: bool = False
    layer: nn.Module | None = None

    @property
    def absorbed(self):
        """The modules whose work the Linear's call does, in their order."""
        both = (self.dropout, self.activation) if self.dropout_first else (self.activation, self.dropout)
        return tuple(module for module in both if module is not None)


class FusedLinear(nn.Linear):
    """y = dropout(activation(x wᵀ + b)): the nn.Linear of a patched group.

    p and training are those of the group's live nn.Dropout, at each call.
    """

    fused_group: Group
    mask_key: MaskKey  # where the group has a dropout

    def forward(self, input):
        group = self.fused_group
        p, key = 0.0, functional.NO_KEY
        if group.dropout is not None and group.dropout.training:
            p = group.dropout.p
            if p > 0:
                key = self.mask_key.next_key(math.prod(input.shape[:-1]))
            else:
                self.mask_key.count()
        options = (group.dropout_first, 0.0, "element")
        return functional.linear_over_rows(
            input, self.weight, self.bias, None, group.activation_name, p, *key, *options
        )

    def extra_repr(self):
        group, text = self.fused_group, super().extra_repr()
        text += f", activation={group.activation_name!r}" if group.activation_name != "identity" else ""
        if group.dropout is None:
            return text
        text += f", p={group.dropout.p}" + (", dropout_first=True" if group.dropout_first else "")
        return text + (f", {self.mask_key}" if self.mask_key.seed is not None else "")


class Absorbed:
    """A module whose work a FusedLinear does: returns its input."""

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
    """Replaces a transformer layer's `activation` function: returns its input, and holds the original function."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return x


def fuse(group):
    """Makes the group one call. A module that several groups share changes its class once."""
    group.linear.__class__ = FusedLinear
    group.linear.fused_group = group
    if group.dropout is not None:
        group.linear.mask_key = MaskKey()
    for module in group.absorbed:
        module.__class__ = ABSORBED.get(type(module), type(module))
    if group.layer is not None:  # in __dict__: PyTorch's copy of a layer may also have a submodule of that name
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
    """Whether weight and bias are parameters of this nn.Linear itself. weight_norm and pruning replace them."""
    tensors = {"weight", "bias"}
    return linear._parameters.keys() == tensors and isinstance(linear.weight, torch.Tensor)
