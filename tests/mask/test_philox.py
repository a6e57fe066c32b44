"""Philox, the key of a mask: frozen, comparable, hashable, picklable, and its repr builds it again."""

import copy
import pickle

import fusedrop as fd
import numpy as np
import pytest

FIELDS = ("seed", "stream", "step", "row0", "col0", "repeat", "period")
LOW = (0, 0, 0, 0, 0, 1, None)
HIGH = (2**64 - 1, 2**32 - 1, 2**32 - 1, 2**62, 2**35, 2**62, 2**32 - 1)
KEYS = [
    LOW,
    HIGH,
    (7, 3, 0, 0, 0, 1, None),
    (7, 3, 11, 1024, 33, 1, None),
    (7, 3, 11, 1024, 33, 4, 9),
    *[(*LOW[:i], 5, *LOW[i + 1 :]) for i in range(7)],
]
keys = pytest.mark.parametrize("values", KEYS, ids=str)


def fields(rng):
    return tuple(getattr(rng, name) for name in FIELDS)


@keys
def test_fields(values):
    assert fields(fd.Philox(*values)) == values
    assert fields(fd.Philox(**dict(zip(FIELDS, values, strict=True)))) == values


def test_defaults_and_integer_types():
    assert fields(fd.Philox(9)) == (9, 0, 0, 0, 0, 1, None)
    assert fd.Philox(np.uint64(2**64 - 1), np.int32(4), np.array(5)) == fd.Philox(2**64 - 1, 4, 5)


@pytest.mark.parametrize("name", FIELDS)
def test_frozen(name):
    rng = fd.Philox(1, 2, 3)
    before = fields(rng)
    with pytest.raises(AttributeError):
        setattr(rng, name, 4)
    with pytest.raises(AttributeError):
        delattr(rng, name)
    with pytest.raises(AttributeError):
        rng.note = "a new attribute"
    assert fields(rng) == before


def test_final():
    with pytest.raises(TypeError):
        type("Sub", (fd.Philox,), {})


def test_equality_and_hash():
    """Equal in all seven fields or not equal; usable as a key."""
    one, other = [fd.Philox(*v) for v in KEYS], [fd.Philox(*v) for v in KEYS]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            assert (a == b) == (i == j)
            assert (a != b) == (i != j)
    assert [hash(a) for a in one] == [hash(b) for b in other]
    assert len({*one, *other}) == len(KEYS)
    for stranger in (None, 7, KEYS[0], "Philox(seed=0, stream=0, step=0)"):
        assert one[0] != stranger
        assert not one[0] == stranger  # noqa: SIM201 both operators are meant


@keys
def test_repr_builds_it_again(values):
    rng = fd.Philox(*values)
    assert eval(repr(rng), {"Philox": fd.Philox}) == rng


def test_repr_is_short():
    assert repr(fd.Philox(7, stream=3)) == "Philox(seed=7, stream=3, step=0)"
    assert repr(fd.Philox(7).at(4, 5).tied(2, 6)) == (
        "Philox(seed=7, stream=0, step=0, row0=4, col0=5, repeat=2, period=6)"
    )


@keys
def test_pickle_and_copy(values):
    rng = fd.Philox(*values)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(rng, protocol)) == rng
    assert copy.copy(rng) == copy.deepcopy(rng) == rng


def test_methods_return_new_keys():
    rng = fd.Philox(7, 3, 11, row0=1, col0=2, repeat=3, period=4)
    assert rng.next() == fd.Philox(7, 3, 12, 1, 2, 3, 4)
    assert rng.at(row0=8) == fd.Philox(7, 3, 11, 8, 0, 3, 4)
    assert rng.at(col0=9) == fd.Philox(7, 3, 11, 0, 9, 3, 4)
    assert rng.at(8, 9) == rng.at(row0=8, col0=9) == fd.Philox(7, 3, 11, 8, 9, 3, 4)
    assert rng.tied(5, 6) == rng.tied(repeat=5, period=6) == fd.Philox(7, 3, 11, 1, 2, 5, 6)
    assert rng.tied() == fd.Philox(7, 3, 11, 1, 2)
    assert fields(rng) == (7, 3, 11, 1, 2, 3, 4)


def test_there_is_no_step_after_the_last():
    with pytest.raises(ValueError, match=r"^step must be in \[0, 4294967295\]; .*4294967295"):
        fd.Philox(1, step=2**32 - 1).next()
    assert fd.Philox(1, step=2**32 - 2).next().step == 2**32 - 1


def test_every_field_changes_the_mask():
    """Changing any one of seed (either half), stream, step, row0, col0, repeat or period changes the mask."""
    base = fd.Philox(1, 2, 3)
    others = [fd.Philox(2, 2, 3), fd.Philox(1 + 2**32, 2, 3), fd.Philox(1, 3, 3), base.next()]
    others += [base.at(row0=1), base.at(col0=1), base.tied(repeat=2), base.tied(period=3)]
    masks = [fd.dropout_mask((64, 64), p=0.5, rng=rng).tobytes() for rng in [base, *others]]
    assert len(set(masks)) == len(masks)
