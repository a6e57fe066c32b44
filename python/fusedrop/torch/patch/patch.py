"""`patch` makes the Linear, activation and Dropout of a live model one fused call; `unpatch` undoes it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import nn

import fusedrop
from fusedrop.torch.models import assign_mask_keys
from fusedrop.torch.patch.fused_modules import FusedLinear, fuse, fused_linears, restore
from fusedrop.torch.patch.groups import find_groups

REPORT = "fusedrop_patch_report"  # an attribute of a patched model: copied and pickled with it
_log = logging.getLogger("fusedrop.torch")


@dataclass(frozen=True)
class FusedGroup:
    """Modules that became one call: their names in the model, and what they compute."""

    modules: tuple[str, ...]
    text: str

    def __str__(self):
        return f"{', '.join(self.modules)}: {self.text}"


@dataclass(frozen=True)
class LeftAlone:
    """A Linear that is not fused, and the reason."""

    module: str
    text: str
    reason: str

    def __str__(self):
        return f"{self.module or 'the model'}: {self.text}: left alone, {self.reason}"


@dataclass(frozen=True)
class PatchReport:
    """What `patch` did with each Linear of a model. str() has a line for each Linear."""

    fused: tuple[FusedGroup, ...]
    left: tuple[LeftAlone, ...]

    def __str__(self):
        return "\n".join(map(str, (*self.fused, *self.left)))


def patch(model, *, seed=None):
    """Makes each Linear -> activation -> Dropout of a live model one fused call, in place.

    The activation is an nn.ReLU, GELU, SiLU, Tanh or Sigmoid. The activation or the Dropout may be missing, and the
    Dropout may come first. Groups are found in nn.Sequential, in the forward of other modules where torch.fx can trace
    it, and in PyTorch's transformer layers. A group is left alone where fusing it could change any visible value.
    `patch_report` lists these Linears with the reasons, and so does the logger "fusedrop.torch" at level INFO.

    Modules change their class, and nothing else: parameters, optimizers, hooks, names and state_dict stay. p and
    training are read from the live nn.Dropout at each call.

    While a model is patched, a fused Linear returns the value of its group to any caller, and to hooks registered
    later. So call `unpatch` before you change the model's structure, add adapters, or call parts of a group from code
    other than forward. With relu, tanh or sigmoid backward needs the group's value: autograd raises an error if it is
    changed in place. Autograd also raises an error at a second derivative.

    Args:
        model: any nn.Module. torch.fx runs its forward with symbols, in training and eval mode, without lasting effect.
        seed: an integer in [0, 2^64) for the mask keys of `assign_mask_keys(model, seed)`, or None to follow
            torch.manual_seed. The mask contract defines the masks, so they are not those of torch.nn.Dropout.

    Returns:
        The model. A second `patch` changes it only where there are new groups.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """
    check_module(model)
    if seed is not None:
        fusedrop.Philox(seed)
    groups, left = find_groups(model)
    for group in groups:
        fuse(group)
    if seed is not None and groups:
        assign_mask_keys(model, seed)
    names = {module: name for name, module in model.named_modules()}
    report = PatchReport(
        tuple(describe_group(linear.fused_group, names) for linear in fused_linears(model).values()),
        tuple(LeftAlone(names[linear], describe_linear(linear), reason) for linear, reason in left.items()),
    )
    setattr(model, REPORT, report)
    for line in (*report.fused, *report.left):
        _log.info("%s", line)
    return model


def unpatch(model):
    """Undoes `patch`: restores the class and attributes of every module. Does nothing for an unpatched model.

    Pass the model that was passed to `patch`: a part of it may share modules with the rest.

    Returns:
        The model.

    Raises:
        TypeError: model is not an nn.Module.
        ValueError: a fused Linear has changed its class since, for example by a parametrization.
    """
    check_module(model)
    fused = fused_linears(model)
    for name, module in fused.items():
        if type(module) is not FusedLinear:
            raise ValueError(f"model must have its fused Linears as patched; {name} is now a {type(module).__name__}")
    for module in fused.values():
        restore(module)
    for module in model.modules():
        module.__dict__.pop(REPORT, None)
    return model


def patch_report(model):
    """The `PatchReport` of a patched model, of its copy, or of a module that wraps it.

    Raises:
        TypeError: model is not an nn.Module.
        ValueError: the model has not been patched.
    """
    check_module(model)
    for module in model.modules():
        if REPORT in module.__dict__:
            return module.__dict__[REPORT]
    raise ValueError("model must have been patched; got one without a report")


def check_module(model):
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")


def describe_linear(linear):
    return f"Linear({linear.in_features}, {linear.out_features})"


def describe_group(group, names):
    """A group's line in the report. A relu that stays as a function has no module name; the text shows it."""
    activation = group.activation_name if group.activation is None else type(group.activation).__bases__[-1].__name__
    dropout = None if group.dropout is None else f"Dropout({group.dropout.p:g})"
    parts = [None if group.activation_name == "identity" else activation, dropout]
    modules = [names.get(module, "?") for module in (group.linear, *group.absorbed)]
    if group.layer is not None:
        modules.insert(1, f"{names.get(group.layer, '?')}.activation".lstrip("."))
    parts = [part for part in (reversed(parts) if group.dropout_first else parts) if part]
    return FusedGroup(tuple(modules), " + ".join([describe_linear(group.linear), *parts]))
