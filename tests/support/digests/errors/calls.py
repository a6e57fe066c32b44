"""How a wrong call is written: good arguments, and rows that spoil some of them."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from digests import api

Arguments = dict[str, Any]
Wrong = tuple[str, Callable[[], Any]]  # a key, and a call that should raise


class As(NamedTuple):
    """A value with a label for the key, where the value's own text would be long or could change."""

    label: str
    value: Any


def spoiled(
    entry: str,
    good: Callable[[], Arguments],
    rows: Iterable[Arguments],
    function: Callable[..., Any] | None = None,
) -> Iterator[Wrong]:
    """Calls of `entry`, or of `function` under its name, with good() arguments, some of them replaced by a row."""
    function = functools.partial(api.call, entry) if function is None else function
    for changes in rows:
        key = f"{entry}/{','.join(f'{name}={described(value)}' for name, value in changes.items())}"
        yield key, functools.partial(_spoiled_call, function, good, changes)


def _spoiled_call(function, good, changes):
    return function(**good() | {name: unwrapped(value) for name, value in changes.items()})


def each(name: str, *values: Any) -> list[Arguments]:
    """Rows that spoil one argument."""
    return [{name: value} for value in values]


def unwrapped(value: Any) -> Any:
    """The value itself, without its label."""
    return value.value if isinstance(value, As) else value


def described(value: Any) -> str:
    """A value as part of a key."""
    if isinstance(value, As):
        return value.label
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{list(value.shape)}".replace(" ", "")
    if isinstance(value, api.find("Name")):
        row0, col0, repeat, period = api.key_fields(value)[3:]
        return f"name:row0={row0}:col0={col0}:repeat={repeat}:period={period}"
    if isinstance(value, (list, tuple)):
        return f"({','.join(map(described, value))})"
    return repr(value)[:40]
