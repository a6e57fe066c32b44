"""save and load: a network's parameters, its mask keys and its optimizer's state in one .npz file.

The file is a zip archive of NumPy arrays, without pickle; numpy.load reads it. Its members:

    <name>                          a parameter, under its name in net.parameters(); bfloat16 as the uint16 of its bits
    fusedrop/state                  a JSON text: format, the names of bfloat16 parameters, mask keys, and the
                                    optimizer's rule, settings and steps
    fusedrop/optimizer/<slot>/<i>   the array <slot> of the optimizer for its parameter i

Only state is stored. Layers, their options and rates come from the program that builds the network.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from fusedrop import checks
from fusedrop._core import Philox
from fusedrop.layers.base import Layer
from fusedrop.layers.mask_key import MaskKey
from fusedrop.training.optim import Optimizer

FORMAT = 2
RESERVED = "fusedrop/"
STATE = "fusedrop/state"
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
)
STATE_MEMBERS = {"bfloat16": list, "masks": dict}
OPTIMIZER_MEMBERS = {"rule": str, "settings": dict, "steps": int, "slots": list, "parameters": list}
KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}

Path = str | os.PathLike[str]


def save(net: Layer, path: Path, *, optimizer: Optimizer | None = None) -> None:
    """Save a network's parameters and mask keys, and an optimizer's state, in a file.

    The file appears under its name only when it is complete and on the disk: after a crash, a full disk or Ctrl-C, the
    previous file is unchanged. Equal states make equal files, byte for byte.

    Args:
        net: a layer or network.
        path: of the file; no suffix is added (.npz is usual).
        optimizer: an SGD or Adam of all or some of net's parameters. Its settings, step count, and velocities or
            moments are saved too.

    Raises:
        TypeError, ValueError: naming the argument.
        OSError: the file cannot be written.
    """
    parameters, path = _parameters(net), _path(path)
    masks = {number: [key.rng.seed, key.rng.stream, key.rng.step] for number, key in _mask_keys(net).items()}
    state: dict[str, Any] = {"format": FORMAT, "bfloat16": [], "masks": masks}
    members = {}
    for name, value in parameters.items():
        if value.dtype.name == "bfloat16":
            state["bfloat16"].append(name)
        members[name] = _storable(value)
    if optimizer is not None:
        names = _names_of(optimizer, parameters)
        optimizer_state = optimizer.state_dict()
        slots = optimizer_state.pop("slots")
        state["optimizer"] = optimizer_state | {"slots": list(slots), "parameters": names}
        for slot, arrays in slots.items():
            members |= {_slot_member(slot, i): a for i, a in enumerate(arrays) if a is not None}
    members[STATE] = np.array(json.dumps(state))
    with _naming(path, "written"), _replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load(net: Layer, path: Path, *, masks: bool | None = None, optimizer: Optimizer | None = None) -> None:
    """Load a network's parameters, in place, from a file that `save` wrote.

    Everything is read and compared first: where anything does not fit, nothing is changed. A .npz file that NumPy wrote
    is accepted too, if its arrays have the parameters' names; it has no mask keys and no optimizer.

    Args:
        net: a network with the same parameters: names, shapes and dtypes.
        path: of the file.
        masks: True restores each layer's seed, stream and step, so that its next mask is the one after the saved run's
            last. None means True where an optimizer is given: the run continues. Parameters alone are often loaded to
            predict, perhaps without the dropout layers, or for a new run with its own seed.
        optimizer: has the saved rule, and the parameters of net that the saved optimizer had. It gets the saved
            settings (its learning rate too), step count and arrays.

    Raises:
        FileNotFoundError: there is no such file; another OSError where it cannot be read.
        TypeError, ValueError: the file is of another kind, damaged, or does not fit; the message lists what is missing,
            unexpected or different, on both sides.
    """
    parameters, path = _parameters(net), _path(path)
    masks = optimizer is not None if masks is None else checks.flag(masks, "masks")
    names = [] if optimizer is None else _names_of(optimizer, parameters)
    arrays, state = _read(path)
    _compare(parameters, arrays, state, path)
    rngs = _saved_rngs(state, net, path) if masks else []
    if optimizer is not None:
        optimizer_state = _optimizer_state(arrays, state, optimizer, names, path)
    # Nothing below can fail.
    for name, value in parameters.items():
        (value.view(np.uint16) if name in state["bfloat16"] else value)[...] = arrays[name]
    for mask_key, rng in rngs:
        mask_key.rng = rng
    if optimizer is not None:
        optimizer.load_state_dict(optimizer_state)


def _parameters(net: Layer) -> dict[str, np.ndarray]:
    if not isinstance(net, Layer):
        raise TypeError(f"net must be a fusedrop layer or network; got {type(net).__name__}")
    parameters: dict[str, np.ndarray] = {}
    for p in net.parameters():
        if p.name in parameters or p.name.startswith(RESERVED):
            raise ValueError(f"net must have parameters of distinct names, none in {RESERVED!r}; got {p.name!r}")
        parameters[p.name] = p.value
    return parameters


def _path(path: Path) -> str:
    """The name of a regular file, or of no file yet: a save would replace a FIFO or a device, a load would block."""
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(f"path must be a file name (str or os.PathLike); got {type(path).__name__}")
    if not os.path.basename(name) or "\0" in name:
        raise ValueError(f"path must be a file name; got {name!r}")
    try:
        with _naming(name, "reached"):
            kind = stat.S_IFMT(os.stat(name).st_mode)
    except FileNotFoundError:
        return name
    if kind != stat.S_IFREG:
        error = IsADirectoryError if kind == stat.S_IFDIR else ValueError
        raise error(f"path must be a regular file; got {name!r}: {KINDS.get(kind, 'of another kind')}")
    return name


def _names_of(optimizer: Optimizer, parameters: dict[str, np.ndarray]) -> list[str]:
    """The names of the optimizer's parameters in the network, each of which must be the network's own array."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a fusedrop optimizer; got {type(optimizer).__name__}")
    names = {id(value): name for name, value in parameters.items()}
    for p in optimizer.parameters:
        if id(p.value) not in names:
            raise ValueError(f"optimizer must have been made from net's parameters; got {p.name} of another network")
    return [names[id(p.value)] for p in optimizer.parameters]


def _mask_keys(net: Layer) -> dict[str, MaskKey]:
    """The mask keys of the layers that have one, by the layer's number among all layers, a str as JSON's keys are."""
    return {str(number): leaf.mask_key for number, leaf in enumerate(net.leaves()) if hasattr(leaf, "mask_key")}


def _slot_member(slot: str, i: int) -> str:
    return f"{RESERVED}optimizer/{slot}/{i}"


def _storable(value: np.ndarray) -> np.ndarray:
    """The array to store: NumPy's format has no bfloat16, so its bits are stored."""
    return value.view(np.uint16) if value.dtype.name == "bfloat16" else value


@contextlib.contextmanager
def _naming(path: str, done: str) -> Iterator[None]:
    """Raise an OSError inside with the user's path instead of the name of the temporary file."""
    try:
        yield
    except OSError as error:
        text = f"path must be a file that can be {done}; got {error.strerror or type(error).__name__}"
        raise type(error)(error.errno, text, path) from error


@contextlib.contextmanager
def _refusing_damage(path: str) -> Iterator[None]:
    """Raise any error that a damaged file causes inside as a ValueError that names the file."""
    try:
        yield
    except DAMAGED as error:
        text = f"path must be a complete .npz file that fusedrop.save wrote; got {path!r}: {error}"
        raise ValueError(text) from error


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[IO[bytes]]:
    """A temporary file that replaces `path` when it is complete and on the disk, and is removed on any error."""
    target = os.path.realpath(path)  # a link stays a link
    folder, name = os.path.split(target)
    draft = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(draft, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            shutil.copymode(target, draft)
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(draft)
        raise


def _read(path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(every array of the file, the state)."""
    with _naming(path, "read"), _refusing_damage(path):
        with zipfile.ZipFile(path) as archive:
            arrays = {name.removesuffix(".npy"): _read_member(archive, name) for name in archive.namelist()}
        if STATE not in arrays:
            return arrays, {"format": FORMAT, "bfloat16": []}
        state = json.loads(arrays.pop(STATE).item())
        _check_members(state, "the state", {"format": int})
    if state["format"] != FORMAT:
        raise ValueError(f"path must be a file of format {FORMAT}; got {path!r} of format {state['format']}")
    with _refusing_damage(path):
        _check_members(state, "the state", STATE_MEMBERS)
        if "optimizer" in state:
            _check_members(state["optimizer"], "the optimizer's state", OPTIMIZER_MEMBERS)
    return arrays, state


def _check_members(value: Any, name: str, kinds: Mapping[str, type]) -> None:
    """Raise unless `value` is a dict with members of these types; their contents are checked at their use."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a dict; got {type(value).__name__}")
    for key, kind in kinds.items():
        if not isinstance(value.get(key), kind):
            got = type(value[key]).__name__ if key in value else "nothing"
            raise ValueError(f"{key!r} of {name} must be of type {kind.__name__}; got {got}")


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # to the end, where the checksum is compared
    return array


def _compare(parameters: dict[str, np.ndarray], arrays: dict[str, np.ndarray], state: dict, path: str) -> None:
    """Raise a ValueError that lists all differences between the network and the file, if there are any."""
    inside = {name: _described(value, value.dtype.name == "bfloat16") for name, value in parameters.items()}
    saved = {
        name: _described(array, name in state["bfloat16"] and array.dtype.newbyteorder("=") == np.uint16)
        for name, array in arrays.items()
        if not name.startswith(RESERVED)
    }
    lines = [f"missing in the file: {name} {inside[name]}" for name in inside if name not in saved]
    lines += [f"not in the network: {name} {saved[name]}" for name in saved if name not in inside]
    lines += [
        f"different: {name} {inside[name]} in the network, {saved[name]} in the file"
        for name in inside
        if name in saved and inside[name] != saved[name]
    ]
    if lines:
        text = "\n  ".join(lines)
        raise ValueError(f"path must hold the network's parameters; got {path!r}, nothing is changed:\n  {text}")
    for name, value in parameters.items():
        if not value.flags.writeable:
            raise ValueError(f"net must have writeable parameters; got {name} read-only")


def _described(array: np.ndarray, bfloat16: bool) -> str:
    return f"{'bfloat16' if bfloat16 else array.dtype.newbyteorder('=')} {list(array.shape)}"


def _saved_rngs(state: dict[str, Any], net: Layer, path: str) -> list[tuple[MaskKey, Philox]]:
    """Each layer's MaskKey and the Philox with its saved (seed, stream, step); row0, col0 stay this process's own."""
    keys, saved = _mask_keys(net), state.get("masks")
    if saved is None:
        raise ValueError("masks must be False for a file without masks; got True")
    if saved.keys() != keys.keys():
        raise ValueError(
            f"net must draw masks in layers {', '.join(saved)} (counted from 0), as the file's network; "
            f"got {', '.join(keys)}"
        )
    with _refusing_damage(path):
        return [(key, _with_key(key.rng, *saved[number])) for number, key in keys.items()]


def _with_key(rng: Philox, seed: int, stream: int, step: int) -> Philox:
    return Philox(seed, stream, step, rng.row0, rng.col0, rng.repeat, rng.period)


def _optimizer_state(
    arrays: dict[str, np.ndarray], state: dict[str, Any], optimizer: Optimizer, names: list[str], path: str
) -> dict[str, Any]:
    """The saved state_dict, checked against an optimizer of that rule over the same parameters."""
    saved, rule = state.get("optimizer"), type(optimizer).__name__
    if saved is None:
        raise ValueError(f"optimizer must be None for a file without one; got {rule}")
    if saved["rule"] != rule:
        raise ValueError(f"optimizer must be {saved['rule']}, as the file's; got {rule}")
    if saved["parameters"] != names:
        raise ValueError(f"optimizer must have the parameters {saved['parameters']}, as the file's; got {names}")
    with _refusing_damage(path):
        if saved["slots"] != list(optimizer.SLOTS):
            raise ValueError(f"'slots' of {rule} must be {list(optimizer.SLOTS)}; got {saved['slots']}")
        slots = {slot: [arrays.get(_slot_member(slot, i)) for i in range(len(names))] for slot in optimizer.SLOTS}
        optimizer_state = saved | {"slots": slots}
        optimizer.check_state_dict(optimizer_state)
    return optimizer_state
