"""Files that do not fit are refused, and change nothing."""

import io
import json
import os
import re
from pathlib import Path

import fusedrop as fd
import numpy as np
import pytest
from checkpoints import OPTIMIZERS, contents, optimizers, places, rewrite, train
from fusedrop.training.checkpoint import OPTIMIZER_MEMBERS
from training import build


def assert_load_refused(net, path, error, *texts, **options):
    before = contents(net), places(net)
    with pytest.raises(error) as caught:
        fd.load(net, path, **options)
    for text in texts:
        assert text in str(caught.value), str(caught.value)
    assert all(np.array_equal(a, b) for a, b in zip(before[0].values(), contents(net).values(), strict=True))
    assert places(net) == before[1]


def test_a_mismatch_lists_everything_on_both_sides(tmp_path):
    fd.save(fd.Sequential(fd.Linear(3, 4), fd.Linear(4, 5), fd.Linear(5, 6, bias=False)), tmp_path / "net.npz")
    net = fd.Sequential(fd.Linear(3, 4, dtype="float64"), fd.Linear(4, 7, bias=False), fd.Linear(5, 6))
    assert_load_refused(
        net,
        tmp_path / "net.npz",
        ValueError,
        "net.npz",
        "missing in the file: 2.bias float32 [6]",
        "not in the network: 1.bias float32 [5]",
        "different: 1.weight float32 [7, 4] in the network, float32 [5, 4] in the file",
        "different: 0.weight float64 [4, 3] in the network, float32 [4, 3] in the file",
    )


def test_bfloat16_is_not_taken_for_its_bits(tmp_path):
    pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    fd.save(fd.Linear(3, 4, dtype="bfloat16"), tmp_path / "net.npz")
    text = "weight float32 [4, 3] in the network, bfloat16 [4, 3] in the file"
    assert_load_refused(fd.Linear(3, 4), tmp_path / "net.npz", ValueError, text)


def cut(path, keep):
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


def flip(path):
    """One bit of a parameter's data, far from the archive's own records."""
    data = bytearray(path.read_bytes())
    data[data.find(b"NUMPY") + 140] ^= 1
    path.write_bytes(bytes(data))


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"no archive at all" * 100),
    "one array": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + bytes(200)),
    "pickle": lambda path: np.savez(path, weight=np.array([{}], dtype=object)),
    "cut in half": lambda path: cut(path, 0.5),
    "cut at the end": lambda path: cut(path, 0.999),
    "one bit": flip,
    "no array inside": lambda path: rewrite(path, lambda members: members.update({"0.weight.npy": b"text"})),
    "no state inside": lambda path: rewrite(path, lambda members: members.update({"fusedrop/state.npy": b"text"})),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "net.npz"
    fd.save(build(), path)
    damage(path)
    assert_load_refused(build(seed=3), path, ValueError, "path must be a complete .npz file", "net.npz")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert_load_refused(build(), tmp_path / "none.npz", FileNotFoundError, "path must be", "none.npz")
    with pytest.raises(IsADirectoryError):
        fd.load(build(), tmp_path)


def test_a_save_that_fails_names_the_users_path(tmp_path):
    path = tmp_path / "no folder" / "net.npz"
    with pytest.raises(FileNotFoundError, match="path must be a file that can be written; got No such file") as caught:
        fd.save(build(), path)
    assert caught.value.filename == str(path)
    assert ".tmp" not in str(caught.value)


@pytest.mark.parametrize("call", [fd.save, fd.load])
def test_a_path_through_a_file_is_refused(tmp_path, call):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"path must be a file that can be reached; .*/file/net.npz'$"):
        call(build(), tmp_path / "file" / "net.npz")


@pytest.mark.parametrize("call", [fd.save, fd.load])
def test_only_regular_files_are_replaced_or_read(tmp_path, call):
    """A load of a FIFO would block, and a save would replace it by a file, even through a link."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    before = [(entry.name, entry.inode()) for entry in os.scandir(tmp_path)]
    cases = [("fifo", ValueError, "FIFO"), ("link", ValueError, "FIFO"), ("folder", IsADirectoryError, "directory")]
    for name, error, kind in cases:
        wanted = f"path must be a regular file; got {str(tmp_path / name)!r}: a {kind}"
        with pytest.raises(error, match=re.escape(wanted)):
            call(build(), tmp_path / name)
    with pytest.raises(ValueError, match="got '/dev/null': a character device"):
        call(build(), os.devnull)
    assert [(entry.name, entry.inode()) for entry in os.scandir(tmp_path)] == before


class BytesPath:
    def __fspath__(self):
        return b"net.npz"


@pytest.mark.parametrize("call", [fd.save, fd.load])
def test_a_path_is_a_file_name(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    for path in (None, 3, b"net.npz", io.BytesIO(), BytesPath()):
        wanted = rf"path must be a file name \(str or os.PathLike\); got {type(path).__name__}$"
        with pytest.raises(TypeError, match=wanted):
            call(build(), path)
    for path in ("", "net.npz/", "net\0.npz"):
        with pytest.raises(ValueError, match=re.escape(f"path must be a file name; got {path!r}")):
            call(build(), path)
    assert os.listdir(tmp_path) == []


def test_a_path_may_be_a_string_or_an_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = build()
    fd.save(net, "net.npz")
    fd.load(net, Path("net.npz"))


def without(key):
    return lambda state: state.pop(key)


def optimizer_with(**members):
    return lambda state: state["optimizer"].update(members)


MALFORMED = {
    "no format": without("format"),
    "no bfloat16": without("bfloat16"),
    "no masks": without("masks"),
    "a number for masks": lambda state: state.update(masks=7),
    "a number for a mask": lambda state: state["masks"].update({"1": 7}),
    "four numbers for a mask": lambda state: state["masks"].update({"1": [1, 2, 3, 4]}),
    "a seed out of range": lambda state: state["masks"].update({"1": [-1, 2, 3]}),
    "a null optimizer": lambda state: state.update(optimizer=None),
    "a number for an optimizer": lambda state: state.update(optimizer=1),
    **{f"no {key}": lambda state, key=key: state["optimizer"].pop(key) for key in OPTIMIZER_MEMBERS},
    "no velocity": optimizer_with(slots=[]),
    "a list for a slot": optimizer_with(slots=[["velocity"]]),
    "no settings inside": optimizer_with(settings={}),
    "text for settings": optimizer_with(settings="lr"),
    "steps below 0": optimizer_with(steps=-1),
    "a boolean for steps": optimizer_with(steps=True),
    "text for lr": lambda state: state["optimizer"]["settings"].update(lr="fast"),
    "a huge lr": lambda state: state["optimizer"]["settings"].update(lr=10**400),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_state_is_refused(tmp_path, change):
    net, path = build(), tmp_path / "net.npz"
    optimizer = OPTIMIZERS["momentum"](net)
    train(net, optimizer, 2)
    fd.save(net, path, optimizer=optimizer)
    with np.load(path) as file:
        state = json.loads(file["fusedrop/state"].item())
    change(state)
    write_state(path, state)
    other = build(seed=3)
    second = OPTIMIZERS["momentum"](other)
    before = second.state_dict()
    assert_load_refused(other, path, ValueError, "path must be a complete .npz file", "net.npz", optimizer=second)
    assert second.state_dict() == before


@pytest.mark.parametrize("state", [[1], 1, None, "state", {}, {"format": 2}, {"format": "1"}], ids=str)
def test_a_state_of_another_kind_is_refused(tmp_path, state):
    fd.save(build(), tmp_path / "net.npz")
    write_state(tmp_path / "net.npz", state)
    assert_load_refused(build(seed=3), tmp_path / "net.npz", ValueError, "path must be a complete .npz file", "state")


def write_state(path, state):
    data = io.BytesIO()
    np.save(data, np.array(json.dumps(state)))
    rewrite(path, lambda members: members.update({"fusedrop/state.npy": data.getvalue()}))


def test_bfloat16_is_refused_where_the_file_has_no_bits(tmp_path):
    """With a state that names a float32 array as bfloat16, values must not be converted to integers."""
    pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    fd.save(fd.Linear(3, 4), tmp_path / "net.npz")
    write_state(tmp_path / "net.npz", {"format": 2, "bfloat16": ["weight", "bias"], "masks": {}})
    text = "weight bfloat16 [4, 3] in the network, float32 [4, 3] in the file"
    assert_load_refused(fd.Linear(3, 4, dtype="bfloat16"), tmp_path / "net.npz", ValueError, text)


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "net.npz"
    for other in (1, 3):
        np.savez(path, **{"fusedrop/state": np.array(json.dumps({"format": other}))})
        wanted = "path must be a file of format 2; got"
        assert_load_refused(build(), path, ValueError, wanted, f"of format {other}")


def test_an_optimizer_that_does_not_fit_is_refused(tmp_path):
    net, path = build(), tmp_path / "net.npz"
    adam = OPTIMIZERS["Adam"](net)
    train(net, adam, 2)
    fd.save(net, path, optimizer=adam)
    other = build(seed=3)
    sgd = OPTIMIZERS["momentum"](other)
    assert_load_refused(other, path, ValueError, "must be Adam", "got SGD", optimizer=sgd)
    some = fd.training.Adam(other.parameters()[1:])
    assert_load_refused(other, path, ValueError, "optimizer must have the parameters", "got", optimizer=some)
    fd.save(net, path)
    assert_load_refused(other, path, ValueError, "optimizer must be None", "got Adam", optimizer=fd.training.Adam([]))


@optimizers
def test_an_optimizer_of_another_network_is_refused(tmp_path, make):
    """Names and shapes are equal: only the arrays differ."""
    net, other, path = build(), build(seed=3), tmp_path / "net.npz"
    wanted = "optimizer must have been made from net's parameters; got 1.weight of another network"
    with pytest.raises(ValueError, match=wanted):
        fd.save(net, path, optimizer=make(other))
    assert os.listdir(tmp_path) == []
    fd.save(net, path, optimizer=make(net))
    assert_load_refused(other, path, ValueError, wanted, optimizer=make(net))


def test_an_optimizer_of_some_parameters_is_saved_under_their_names_in_the_network(tmp_path):
    """Frozen layers are usual; a layer's own parameters are called weight and bias, whichever layer it is."""
    net, path = build(), tmp_path / "net.npz"
    optimizer = fd.training.SGD(net.layers[1].parameters(), lr=0.1, momentum=0.9)
    train(net, optimizer, 2)
    fd.save(net, path, optimizer=optimizer)
    second = fd.training.SGD(net.parameters()[:2], lr=0.5, momentum=0.9)
    fd.load(net, path, optimizer=second)
    assert second.lr == optimizer.lr
    third = fd.training.SGD(net.layers[4].parameters(), lr=0.5, momentum=0.9)
    assert_load_refused(net, path, ValueError, "['1.weight', '1.bias'], as the file's; got ['4.w", optimizer=third)


def test_masks_of_other_layers_are_refused(tmp_path):
    fd.save(fd.Sequential(fd.Linear(3, 3), fd.Dropout(0.5), fd.ReLU()), tmp_path / "net.npz")
    net = fd.Sequential(fd.Linear(3, 3), fd.ReLU(), fd.Dropout(0.5))
    assert_load_refused(net, tmp_path / "net.npz", ValueError, "layers 0, 1", "got 0, 2", masks=True)
    fd.load(net, tmp_path / "net.npz")


def test_a_read_only_parameter_is_refused(tmp_path):
    fd.save(build(), tmp_path / "net.npz")
    net = build(seed=3)
    net.layers[4].params["bias"].setflags(write=False)
    assert_load_refused(net, tmp_path / "net.npz", ValueError, "net must have writeable parameters; got 4.bias")


@pytest.mark.parametrize("call", [fd.save, fd.load])
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"net": "net"}, "net must be a fusedrop layer or network; got str"),
        ({"net": build(), "optimizer": 1}, "optimizer must be a fusedrop optimizer; got int"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, call, arguments, wanted):
    with pytest.raises(TypeError, match=wanted):
        call(path=tmp_path / "net.npz", **arguments)
    assert os.listdir(tmp_path) == []


def test_masks_must_be_a_flag(tmp_path):
    fd.save(build(), tmp_path / "net.npz")
    assert_load_refused(build(), tmp_path / "net.npz", TypeError, "masks must be True or False; got 1", masks=1)
