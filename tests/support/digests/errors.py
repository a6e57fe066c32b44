"""Wrong calls: which exception each raises, and what its text says."""

import functools
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from digests import api, runner

TOPICS = (
    "errors_functions",
    "errors_images",
    "errors_sequences",
    "errors_layers",
    "errors_training",
    "errors_saving",
    "errors_torch",
)
FOLDER = "FOLDER"  # stands in texts for a temporary folder's name


class As(NamedTuple):
    """A value whose own text should not be part of a key: a class or an object that may be renamed."""

    label: str
    value: Any


Wrong = tuple[str, Callable[[], Any]]  # a key, and a call that should raise


def spoilt(entry: str, good: Callable[[], dict[str, Any]], rows: Iterable[dict[str, Any]]) -> Iterator[Wrong]:
    """Calls of `entry` with good() arguments, of which each row spoils some."""
    for changes in rows:
        key = f"{entry}/{','.join(f'{name}={described(value)}' for name, value in changes.items())}"
        yield key, functools.partial(_spoilt_call, entry, good, changes)


def _spoilt_call(entry, good, changes):
    return api.call(entry, **good() | {name: unwrapped(value) for name, value in changes.items()})


def unwrapped(value):
    """The value that a label stands for."""
    return value.value if isinstance(value, As) else value


def described(value: Any) -> str:
    """A value as part of a key."""
    if isinstance(value, As):
        return value.label
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{list(value.shape)}".replace(" ", "")
    if isinstance(value, api.find("Name")):
        names = ("seed", "stream", "step", "row0", "col0", "repeat", "period")
        fields = dict(zip(names, api.name_fields(value), strict=True))
        return "name:" + ":".join(f"{name}={fields[name]}" for name in names[3:])
    if isinstance(value, (list, tuple)):
        return f"({','.join(map(described, value))})"
    return repr(value)[:40]


def each(name: str, *values: Any) -> list[dict[str, Any]]:
    """Rows that spoil one argument."""
    return [{name: value} for value in values]


@functools.cache
def outcomes() -> dict[str, tuple[str, str]]:
    """{key: (the exception's type, its text)} of every wrong call; the type is "accepted" where there was none."""
    found: dict[str, tuple[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for topic in TOPICS:
            module = runner.imported(topic)
            for key, call in [] if module is None else module.wrong_calls(folder):
                key = unused(f"errors/{key}".replace(" ", "_").replace("\n", "_"), found)
                found[key] = outcome(call, folder)
    accepted = [key for key, (kind, _) in found.items() if kind == "accepted"]
    print(f"digest: {len(accepted)} wrong calls were accepted: {accepted}", file=sys.stderr)
    return found


def unused(key: str, found: dict[str, Any]) -> str:
    """The key, with a number behind it where another call has it."""
    return key if key not in found else next(k for i in range(2, 1000) if (k := f"{key}#{i}") not in found)


def outcome(call: Callable[[], Any], folder: str) -> tuple[str, str]:
    """What one call raises; addresses and the folder's name would differ from run to run."""
    try:
        call()
    except Exception as error:
        text = str(error).replace(os.path.realpath(folder), FOLDER).replace(folder, FOLDER)
        return type(error).__name__, re.sub(r"0x[0-9a-f]{6,}", "0xADDRESS", text)
    return "accepted", ""


def lines() -> dict[str, str]:
    """{key: "type sha256 of the text"}"""
    return {key: f"{kind} {hashlib.sha256(text.encode()).hexdigest()}" for key, (kind, text) in outcomes().items()}


def texts() -> dict[str, str]:
    """{key: "type: text"}"""
    return {key: f"{kind}: {text}" for key, (kind, text) in outcomes().items()}
