"""`patch` and `unpatch`: the Linear, activation and Dropout of a live model as one fused call, and back."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import nn

import fusedrop
from fusedrop.torch.fused_modules import FusedLinear, fuse, fused_linears, restore
from fusedrop.torch.groups import find_groups
from fusedrop.torch.models import name_masks

REPORT = "fusedrop_patch_report"  # the attribute of a patched model: copied and pickled with it
_log = logging.getLogger("fusedrop.torch")


@dataclass(frozen=True)
class FusedGroup:
    """Modules that are one call now: their names in the model, and what they compute."""

    modules: tuple[str, ...]
    text: str

    def __str__(self):
        return f"{', '.join(self.modules)}: {self.text}"


@dataclass(frozen=True)
class LeftAlone:
    """A Linear that stays as it is, and why."""

    module: str
    text: str
    reason: str

    def __str__(self):
        return f"{self.module or 'the model'}: {self.text}: left alone, {self.reason}"


@dataclass(frozen=True)
class PatchReport:
    """What `patch` did with each Linear of a model. str() has a line for each."""

    fused: tuple[FusedGroup, ...]
    left: tuple[LeftAlone, ...]

    def __str__(self):
        return "\n".join(map(str, (*self.fused, *self.left)))


def patch(model, *, seed=None):
    """Makes each Linear -> activation -> Dropout of a live model one fused call, in place.

    The activation is an nn.ReLU, GELU, SiLU, Tanh or Sigmoid; it or the Dropout may be missing, or the Dropout come
    first. Groups are found in nn.Sequential, in what torch.fx can trace of other modules' forward, and in PyTorch's
    transformer layers. A group is left alone where fusing it could be seen in any value; `patch_report` says which
    and why, and so does the logger "fusedrop.torch" at level INFO.

    Modules change their class, and nothing else: parameters, optimisers, hooks, names and state_dict stay. p and
    training are read from the live nn.Dropout at each call.

    While a model is patched, a fused Linear returns its group's value to whoever calls it, and to hooks registered
    since. So `unpatch` before changing the model's structure, adding adapters, or calling parts of a group from other
    code than forward. Autograd raises where a group's value with relu, tanh or sigmoid, which backward needs, is
    changed in place, and at a second derivative.

    Args:
        model: any nn.Module. torch.fx runs its forward with symbols, in training and eval mode; nothing of that stays.
        seed: an integer in [0, 2^64), for masks named by `name_masks(model, seed)`; None to follow torch.manual_seed.
            Masks are drawn by mask contract, so they are not those that torch.nn.Dropout would have drawn.

    Returns:
        The model. Patched again, it changes only where there are new groups.

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
        name_masks(model, seed)
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
    """Undoes `patch`: every module has its class and attributes again. Does nothing for an unpatched model.

    Takes the model that `patch` got, for a part of it may share modules with the rest.

    Returns:
        The model.

    Raises:
        TypeError: model is not an nn.Module.
        ValueError: a fused Linear was given yet another class since, by a parametrization for example.
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
    """The `PatchReport` of a patched model, of a copy, or of what wraps one.

    Raises:
        TypeError: model is not an nn.Module.
        ValueError: it has not been patched.
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
    """A group's line in the report. A relu that stays as a function has no name, only its place in the text."""
    activation = group.name if group.activation is None else type(group.activation).__bases__[-1].__name__
    dropout = None if group.dropout is None else f"Dropout({group.dropout.p:g})"
    parts = [None if group.name == "identity" else activation, dropout]
    modules = [names.get(module, "?") for module in (group.linear, *group.absorbed)]
    if group.layer is not None:
        modules.insert(1, f"{names.get(group.layer, '?')}.activation".lstrip("."))
    parts = [part for part in (reversed(parts) if group.before else parts) if part]
    return FusedGroup(tuple(modules), " + ".join([describe_linear(group.linear), *parts]))
