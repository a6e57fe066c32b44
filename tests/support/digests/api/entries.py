"""The present names of fusedrop's functions, classes and arguments, and calls by neutral name."""

import functools
import importlib

TRAINING = (
    "SGD",
    "Adam",
    "AdaptiveSchedule",
    "EarlyStopping",
    "LinearSchedule",
    "StepSchedule",
    "Trainer",
    "penalty",
    "split_validation",
)
# neutral name of a function or class: its path below `fusedrop`, where the two differ
ENTRIES = {
    "mask": "dropout_mask",
    "loss": "softmax_cross_entropy",
    "Name": "Philox",
    "available_isas": "config.available_isas",
    "get_isa": "config.get_isa",
    "set_isa": "config.set_isa",
    "get_num_threads": "config.get_num_threads",
    "set_num_threads": "config.set_num_threads",
    "get_tf32": "config.get_tf32",
    **{name: f"training.{name}" for name in TRAINING},
}
# neutral name of an argument or attribute: the present one, in all calls ...
ARGUMENTS = {
    "constant": "time_constant",
    "apart": "gate_masks",
    "sequences": "return_sequences",
}
# ... and in the calls of one entry
ARGUMENTS_OF = {
    "set_isa": {"isa": "name"},
}
# neutral words among the values of arguments: the present ones, where the two differ
VALUES: dict[str, str] = {}


def find(entry):
    """The function or class of this neutral name."""
    module, _, name = f"fusedrop.{ENTRIES.get(entry, entry)}".rpartition(".")
    return getattr(importlib.import_module(module), name)


def present(entry, argument):
    """The present name of an argument."""
    return ARGUMENTS_OF.get(entry, {}).get(argument) or ARGUMENTS.get(argument, argument)


def call(entry, *positional, **arguments):
    """Calls the function or class with arguments under neutral names."""
    return find(entry)(*positional, **translated(entry, arguments))


def bound(entry, **arguments):
    """The function itself with its keyword arguments bound, for a compiler, which reads its code."""
    return functools.partial(find(entry), **translated(entry, arguments))


def translated(entry, arguments):
    """Arguments under their present names, with present words as values."""
    return {present(entry, name): _word(value) for name, value in arguments.items()}


def _word(value):
    return VALUES.get(value, value) if isinstance(value, str) else value
