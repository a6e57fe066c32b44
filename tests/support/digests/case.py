"""What a case is, how its key reads, and how a result becomes a digest."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Results = dict[str, Any]


class Case(NamedTuple):
    """Some results under one key.

    key: "dtype/sizes/options". The runner adds the instruction set and the topic in front, and the name of the result
        at the end.
    prepare: makes the inputs and returns the function that computes {name: result}. Each call computes everything anew.
    every_isa: False where the results do not depend on the kernels: the case then runs once, under "any".
    """

    key: str
    prepare: Callable[[], Callable[[], Results]]
    every_isa: bool = True


def once(key: str, run: Callable[[], Results], every_isa: bool = True) -> Case:
    """A case without preparation."""
    return Case(key, lambda: run, every_isa)


def label(options: dict[str, Any]) -> str:
    """Options as a text: {"activation": "gelu", "p": 0.5, "bias": False} is "gelu,p=.5,no_bias"."""
    return ",".join(_word(name, value) for name, value in options.items()) or "plain"


def _word(name, value):
    if isinstance(value, bool):
        return name if value else f"no_{name}"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{name}={value:g}".replace("=0.", "=.")
    return f"{name}={value}".replace(" ", "")


def digest(value: Any) -> str:
    """sha256 over the bits of a result."""
    whole = hashlib.sha256()
    for part in _parts(value):
        whole.update(part)
    return whole.hexdigest()


def _parts(value):
    """Bytes that differ where two results differ. Of a dictionary the values count, in order, but not the keys."""
    if isinstance(value, np.ndarray):
        yield f"{value.dtype.name}{list(value.shape)}:".encode()
        yield value.tobytes()
    elif isinstance(value, dict):
        yield from _parts(list(value.values()))
    elif isinstance(value, (list, tuple)):
        yield f"{len(value)}[".encode()
        for item in value:
            yield from _parts(item)
    elif isinstance(value, float):  # NumPy's float64 is one, too
        yield f"{float(value).hex()};".encode()
    elif isinstance(value, np.generic):
        yield from _parts(np.asarray(value))
    elif value is None or isinstance(value, (bool, int, str)):
        yield f"{value!r};".encode()
    else:
        raise TypeError(f"a result must be made of arrays, numbers and texts; got {type(value).__name__}")
