"""Every call of fusedrop: the callers use neutral words, and this folder translates them into the present names.

A renamed function, argument, attribute or module of fusedrop changes this folder and nothing else:

    entries.py      the tables of present names, and calls by neutral name
    operators.py    settings, keys of masks, and the operators with their gradients
    objects.py      methods and attributes of layers, networks, optimizers, trainers, schedules
    tensors.py      fusedrop.torch; it needs PyTorch and is imported by its users alone
"""

from digests.api.entries import bound, call, find, present, translated
from digests.api.operators import (
    activation,
    dropout,
    forward,
    fused,
    isas,
    key_fields,
    keys_after,
    lstm,
    mask_key,
    pool,
    settings,
    use,
)

__all__ = [
    "activation",
    "bound",
    "call",
    "dropout",
    "find",
    "forward",
    "fused",
    "isas",
    "key_fields",
    "keys_after",
    "lstm",
    "mask_key",
    "pool",
    "present",
    "settings",
    "translated",
    "use",
]
