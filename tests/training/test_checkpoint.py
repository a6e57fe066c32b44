"""save and load: bits come back, a resumed run equals an uninterrupted one, and a failure changes nothing."""

import os

import fusedrop as fd
import numpy as np
import pytest
from checkpoints import OPTIMIZERS, X, contents, optimizers, places, train
from training import build, fingerprint


@optimizers
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, make):
    """Masks of every layer, moments, step count, a scheduled rate: all in the file, for a network of another seed."""
    whole = build()
    optimizer = make(whole)
    train(whole, optimizer, 7)
    fd.save(whole, tmp_path / "run.npz", optimizer=optimizer)
    want = train(whole, optimizer, 7)

    resumed = build(seed=99)
    second = make(resumed)
    second.lr = 0.5
    fd.load(resumed, tmp_path / "run.npz", optimizer=second)
    assert train(resumed, second, 7) == want
    assert fingerprint(resumed) == fingerprint(whole)
    assert second.lr == optimizer.lr
    assert places(resumed) == places(whole)


def test_without_the_masks_the_resumed_run_differs(tmp_path):
    """The losses depend on the masks: otherwise the test above would not see a wrong mask."""
    net = build()
    optimizer = OPTIMIZERS["SGD"](net)
    train(net, optimizer, 3)
    fd.save(net, tmp_path / "run.npz", optimizer=optimizer)
    want = train(net, optimizer, 2)
    other = build()
    second = OPTIMIZERS["SGD"](other)
    fd.load(other, tmp_path / "run.npz", optimizer=second, masks=False)
    assert train(other, second, 2) != want


@pytest.mark.parametrize(
    ("options", "restored"), [({}, False), ({"masks": True}, True), ({"masks": False}, False)], ids=str
)
def test_masks_are_restored_when_asked_for(tmp_path, options, restored):
    net, other = build(), build(seed=8)
    train(net, OPTIMIZERS["SGD"](net), 3)
    before = places(other)
    fd.save(net, tmp_path / "net.npz")
    fd.load(other, tmp_path / "net.npz", **options)
    assert contents(other).keys() == contents(net).keys()
    assert all(np.array_equal(a, b) for a, b in zip(contents(other).values(), contents(net).values(), strict=True))
    assert places(other) == (places(net) if restored else before)
    if restored:
        assert np.array_equal(other(X), net(X))


def test_a_shard_keeps_where_its_own_rows_begin(tmp_path):
    layer, other = fd.Dropout(0.5, seed=1), fd.Dropout(0.5, seed=2)
    layer(X)
    other.mask_key.rng = other.mask_key.rng.at(row0=64, col0=3)
    fd.save(layer, tmp_path / "d.npz")
    fd.load(other, tmp_path / "d.npz", masks=True)
    assert other.mask_key.rng == layer.mask_key.rng.at(row0=64, col0=3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_every_bit_comes_back_in_place(tmp_path, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    net, other = (fd.Linear(5, 7, dtype=dtype, seed=s) for s in (1, 2))
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[net.params["weight"].itemsize]
    net.params["weight"].view(bits)[...] = np.random.default_rng(3).integers(0, np.iinfo(bits).max, (7, 5), bits)
    other.params["weight"] = np.zeros((5, 7), other.dtype).T  # a strided parameter is filled like any other
    arrays = list(other.params.values())
    fd.save(net, tmp_path / "net.npz")
    fd.load(other, tmp_path / "net.npz")
    assert all(a is b for a, b in zip(arrays, other.params.values(), strict=True))
    assert all(other.params[key].tobytes() == net.params[key].tobytes() for key in net.params)


def test_numpy_reads_and_writes_such_files(tmp_path):
    net, other = build(), build(seed=1)
    fd.save(net, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in contents(net)}
    np.savez_compressed(tmp_path / "plain.npz", **arrays)
    fd.load(other, tmp_path / "plain.npz")
    assert [v.tobytes() for v in contents(other).values()] == [v.tobytes() for v in contents(net).values()]
    with pytest.raises(ValueError, match=r"masks must be False .*; got True"):
        fd.load(other, tmp_path / "plain.npz", masks=True)


def test_equal_states_make_equal_files(tmp_path):
    net = build()
    for name in ("a.npz", "b.npz"):
        fd.save(net, tmp_path / name, optimizer=OPTIMIZERS["Adam"](net))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "b.npz"]


# --- atomically


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch, function, error):
    net = build()
    fd.save(net, tmp_path / "net.npz")
    before = (tmp_path / "net.npz").read_bytes()
    net.layers[1].params["bias"][...] = 5

    def interrupted(*_):
        raise error

    monkeypatch.setattr(os, function, interrupted)
    with pytest.raises(error):
        fd.save(net, tmp_path / "net.npz")
    assert os.listdir(tmp_path) == ["net.npz"]
    assert (tmp_path / "net.npz").read_bytes() == before


def test_an_interrupted_first_save_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def interrupted(*arguments, **_):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fd.save(build(), tmp_path / "net.npz")
    assert os.listdir(tmp_path) == []


def test_a_link_and_the_permissions_stay(tmp_path):
    (tmp_path / "real.npz").touch(0o640)
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    (tmp_path / "real.npz").chmod(0o640)
    fd.save(build(), tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink()
    assert (tmp_path / "real.npz").stat().st_mode & 0o777 == 0o640
    fd.load(build(), tmp_path / "real.npz")
