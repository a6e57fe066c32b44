"""The memory of what was verified: one JSON file in the user's cache folder, $XDG_CACHE_HOME or ~/.cache.

    {key of a device: {kernel: "verified", or what was wrong}}

A file that is missing, damaged or not writable means that kernels are verified again; it is never an error. Two
processes that write at once may lose an entry, never damage one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def path() -> Path | None:
    """fusedrop/verified.json in the cache folder; None where the user has no folder."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "fusedrop" / "verified.json"


def read(key: str) -> dict[str, str]:
    """The kernels with a result under this key."""
    kernels = _read_all().get(key)
    if not isinstance(kernels, dict):
        return {}
    return {kernel: result for kernel, result in kernels.items() if isinstance(result, str)}


def write(key: str, kernel: str, result: str) -> None:
    """Adds a result. The file is replaced as a whole, so that no reader sees half of it."""
    place = path()
    if place is None:
        return
    everything = _read_all() | {key: read(key) | {kernel: result}}
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix="verified-", suffix=".json")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(everything, file, indent=1)
            os.replace(name, place)
        except OSError:
            os.unlink(name)


def _read_all() -> dict[str, object]:
    place = path()
    try:
        found = json.loads(place.read_text(encoding="utf-8")) if place else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def digest(files: Iterable[str | os.PathLike[str]]) -> str:
    """A hash of the contents of files. Size and time would not do: a constant that changes keeps the size, and builds
    for packages and container images set the time to a fixed date."""
    found = hashlib.sha256()
    for file in files:
        found.update(Path(file).read_bytes())
    return found.hexdigest()[:16]


def own_sources() -> list[Path]:
    """The cases and bounds: a result of other cases is not a result of these."""
    here = Path(__file__).parent
    return [*sorted(here.glob("*.py")), *sorted((here.parent / "reference").glob("*.py"))]
