"""A whole model's masks: their names, this process's part of the batch, and where a run goes on."""

from __future__ import annotations

import torch

import fusedrop
from fusedrop import checks
from fusedrop.torch.naming import MaskName


def masked_modules(model):
    """{name: module} of every module that draws masks, in the order of model.named_modules()."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    return {name: m for name, m in model.named_modules() if draws_masks(m)}


def draws_masks(module):
    """Whether the module itself names its masks; torch.compile's wrapper has the attributes of what is inside it."""
    return isinstance(vars(module).get("masks"), MaskName)


def name_masks(model, seed, step=0):
    """Gives every fusedrop module of a model this seed, its position as stream, and the step to count from.

    Two models of one structure then draw the same masks, in any process and order of construction.

    Args:
        seed: an integer in [0, 2^64), or None: every call follows torch's generator again.

    Returns:
        The model.
    """
    for stream, module in enumerate(masked_modules(model).values()):
        module.masks.place(seed, 0 if seed is None else stream, step)
    return model


def shard_rows(model, index, count):
    """This process has part `index` of `count` equal parts of the batch, and of the global mask's rows.

    For data parallelism: `shard_rows(model, rank, world_size)` and one seed on all ranks make them draw, together, what
    one process draws for the whole batch. A module's rows are all leading dimensions of its input, in C order.

    Modules without a seed follow each rank's own generator, and draw parts of one mask only where all ranks were seeded
    alike and have drawn alike since: `name_masks` is the safe way. How to use both: docs/parallel.md.

    Returns:
        The model.
    """
    count = checks.size(count, "count")
    if not checks.size(index, "index") < count:
        raise ValueError(f"index must be below count = {count}; got {index}")
    for module in masked_modules(model).values():
        module.masks.shard = index
    return model


def mask_state(model):
    """{module name: {seed, stream, step}}: save it beside state_dict(), which has none of it, to go on exactly.

    Modules without a seed follow torch's generator: save torch.get_rng_state() too, as for torch.nn.Dropout.
    """
    modules = masked_modules(model).items()
    return {name: {"seed": m.masks.seed, "stream": m.masks.stream, "step": m.masks.step} for name, m in modules}


def load_mask_state(model, state):
    """Puts back what `mask_state` returned; every module must be there, and no other.

    Raises:
        ValueError: naming the modules that one side has and the other lacks.
    """
    modules = masked_modules(model)
    if not isinstance(state, dict) or modules.keys() != state.keys():
        names = state.keys() if isinstance(state, dict) else ()
        missing, unknown = sorted(modules.keys() - names), sorted(names - modules.keys())
        raise ValueError(f"state must name the model's fusedrop modules; it lacks {missing} and has besides {unknown}")
    for name, entry in state.items():  # all of them, before anything changes
        check_entry(name, entry)
    for name, module in modules.items():
        module.masks.place(**state[name])


def check_entry(name, entry):
    if not isinstance(entry, dict) or entry.keys() != {"seed", "stream", "step"}:
        raise ValueError(f"state[{name!r}] must have seed, stream and step; got {entry!r}")
    fusedrop.Philox(0 if entry["seed"] is None else entry["seed"], entry["stream"], entry["step"])
