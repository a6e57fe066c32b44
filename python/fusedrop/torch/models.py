"""The mask keys of a whole model: assign them, shard them, save and load them."""

from __future__ import annotations

import torch

import fusedrop
from fusedrop import checks
from fusedrop.torch.mask_key import MaskKey


def masked_modules(model):
    """{name: module} of every module that draws masks, in the order of model.named_modules()."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    return {name: m for name, m in model.named_modules() if draws_masks(m)}


def draws_masks(module):
    """Whether the module itself has a mask key. torch.compile's wrapper shows attributes of its module."""
    return isinstance(vars(module).get("mask_key"), MaskKey)


def assign_mask_keys(model, seed, step=0):
    """Gives every fusedrop module of a model this seed, its position as stream, and the step to count from.

    Two models of one structure then draw the same masks, in any process and order of construction.

    Args:
        seed: an integer in [0, 2^64), or None: every call follows torch's generator again.

    Returns:
        The model.
    """
    for stream, module in enumerate(masked_modules(model).values()):
        module.mask_key.place(seed, 0 if seed is None else stream, step)
    return model


def shard_rows(model, index, count):
    """Declares that this process has part `index` of `count` equal parts of the batch, and of the global mask's rows.

    For data parallelism: after `shard_rows(model, rank, world_size)`, with one seed on all ranks, the ranks together
    draw the masks that one process draws for the whole batch. A module's rows are all leading dimensions of its input,
    in C order.

    Modules without a seed follow each rank's own generator. They draw parts of one mask only where all ranks were
    seeded alike and have made the same calls since: `assign_mask_keys` is the safe way. See docs/parallel.md.

    Returns:
        The model.
    """
    count = checks.size(count, "count")
    if not checks.size(index, "index") < count:
        raise ValueError(f"index must be below count = {count}; got {index}")
    for module in masked_modules(model).values():
        module.mask_key.shard = index
    return model


def mask_state(model):
    """{module name: {seed, stream, step}}. Save it beside state_dict(), which has none of it, to resume exactly.

    Modules without a seed follow torch's generator: save torch.get_rng_state() too, as for torch.nn.Dropout.
    """
    keys = {name: m.mask_key for name, m in masked_modules(model).items()}
    return {name: {"seed": key.seed, "stream": key.stream, "step": key.step} for name, key in keys.items()}


def load_mask_state(model, state):
    """Restores what `mask_state` returned. The state must have every fusedrop module of the model, and no other.

    Raises:
        ValueError: listing the modules that one side has and the other lacks.
    """
    modules = masked_modules(model)
    if not isinstance(state, dict) or modules.keys() != state.keys():
        names = state.keys() if isinstance(state, dict) else ()
        missing, unknown = sorted(modules.keys() - names), sorted(names - modules.keys())
        raise ValueError(f"state must name the model's fusedrop modules; it lacks {missing} and has besides {unknown}")
    for name, entry in state.items():  # checks all entries before anything changes
        check_entry(name, entry)
    for name, module in modules.items():
        module.mask_key.place(**state[name])


def check_entry(name, entry):
    if not isinstance(entry, dict) or entry.keys() != {"seed", "stream", "step"}:
        raise ValueError(f"state[{name!r}] must have seed, stream and step; got {entry!r}")
    fusedrop.Philox(0 if entry["seed"] is None else entry["seed"], entry["stream"], entry["step"])
