"""Statistics of the masks, once, at n >= 1e7: rates, neighbors along both axes, independence of other keys.

All masks are fixed by their keys, so a test either passes for ever or never. A sound generator crosses |z| = 4.5
once in 150 000 tries; there are about 90 comparisons here.
"""

import math

import fusedrop as fd
import pytest

SHAPE = (3200, 3200)  # 1.02e7 elements
LIMIT = 4.5
RNG = fd.Philox(seed=20140615, stream=1, step=0)


def z_of(count, n, rate):
    return (count - n * rate) / math.sqrt(n * rate * (1 - rate))


def keep_rate(p):
    return 1 - round(p * 65536) / 65536


@pytest.mark.parametrize("p", [0.001, 0.003, 0.05, 0.1, 0.17, 0.3, 0.5, 0.9, 0.999])
def test_rate(p):
    keep = fd.dropout_mask(SHAPE, p=p, rng=RNG)
    assert abs(z_of(keep.sum(), keep.size, keep_rate(p))) < LIMIT


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_each_column_of_a_group_has_the_rate(p):
    """A word or half used twice, or never, shows in the columns' own rates."""
    keep = fd.dropout_mask(SHAPE, p=p, rng=RNG).reshape(-1, 32)
    for c in range(32):
        assert abs(z_of(keep[:, c].sum(), len(keep), keep_rate(p))) < LIMIT, f"column {c} of its group"


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("distance", [1, 2, 4, 8, 16, 32])
def test_neighbours_are_independent(axis, distance):
    """P(both kept) = (1-p)^2 for elements `distance` apart along either axis."""
    keep = fd.dropout_mask(SHAPE, p=0.5, rng=RNG)
    a, b = (keep[:-distance], keep[distance:]) if axis == 0 else (keep[:, :-distance], keep[:, distance:])
    assert abs(z_of((a & b).sum(), a.size, 0.25)) < LIMIT


@pytest.mark.parametrize(
    "other",
    [
        fd.Philox(20140615, 1, 1),
        fd.Philox(20140615, 2, 0),
        fd.Philox(20140616, 1, 0),
        fd.Philox(20140615 + 2**32, 1, 0),
        fd.Philox(20140615, 1 ^ 0x80000000, 0),
    ],
    ids=["step", "stream", "seed", "high half of the seed", "input stream"],
)
def test_other_names_are_independent(other):
    a, b = (fd.dropout_mask(SHAPE, p=0.3, rng=rng) for rng in (RNG, other))
    assert abs(z_of((a & b).sum(), a.size, keep_rate(0.3) ** 2)) < LIMIT
