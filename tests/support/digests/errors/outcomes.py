"""Makes the wrong calls, and makes lines of their exceptions."""

import functools
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from digests import runner

MODULES = ("functions", "images", "sequences", "layers", "training", "saving", "torch")
FOLDER = "FOLDER"  # stands in texts for the path of the temporary folder


@functools.cache
def outcomes() -> dict[str, tuple[str, str]]:
    """{key: (type of the exception, its text)} of every wrong call; the type is "accepted" where nothing was raised."""
    found: dict[str, tuple[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for name in MODULES:
            module = runner.imported(f"digests.errors.{name}")
            for key, call in [] if module is None else module.wrong_calls(folder):
                key = unused(f"errors/{key}".replace(" ", "_").replace("\n", "_"), found)
                found[key] = outcome(call, folder)
    accepted = [key for key, (kind, _) in found.items() if kind == "accepted"]
    print(f"digest: {len(accepted)} wrong calls were accepted: {accepted}", file=sys.stderr)
    return found


def unused(key: str, found: dict[str, Any]) -> str:
    """The key, with a number at its end if another call has it."""
    return key if key not in found else next(k for i in range(2, 1000) if (k := f"{key}#{i}") not in found)


def outcome(call: Callable[[], Any], folder: str) -> tuple[str, str]:
    """What one call raises. Addresses and the path of the folder, which change from run to run, are replaced."""
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
