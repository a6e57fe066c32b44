"""Masks: every kernel draws exactly the contract's bits, for any thread count, instruction set and split."""

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import reference
from hypothesis import given, settings
from hypothesis import strategies as st

RATES = [0, 0.001, 0.1, 0.3, 0.5, 0.9, 1 - 2**-16, 1]
RNG = fd.Philox(seed=0x123456789ABCDEF0, stream=5, step=9)

u32 = st.integers(0, 2**32 - 1)
keys = st.builds(
    fd.Philox,
    seed=st.integers(0, 2**64 - 1),
    stream=u32,
    step=u32,
    row0=st.integers(0, 2**32 - 2 - 64),
    col0=st.integers(0, 2**35 - 200),
)


def kernel_masks(m, n, p, rng):
    """The mask as each kernel draws it: alone, in dropout, in the layer's epilogue, and in its backward pass."""
    ones = np.ones((m, n), np.float32)
    y, saved = fd.linear_forward(ones, np.eye(n, dtype=np.float32), p=p, rng=rng)
    dx = fd.linear_backward(ones, saved, dw=False)[0]  # w = I: dx is dz itself, the mask that backward draws
    return {
        "dropout_mask": fd.dropout_mask((m, n), p=p, rng=rng),
        "dropout": fd.dropout(ones, p=p, rng=rng) != 0,
        "linear": y != 0,
        "backward": dx != 0,
    }


def test_reference_known_answers():
    """Random123's published vectors; the kernels' copy of them is a static_assert in core/philox.hpp."""
    for counter, key, want in [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ]:
        assert [int(word) for word in reference.philox4x32_10(counter, key)] == want


def test_contract_element_by_element():
    """The contract's formula, written out for single elements, against the reference's vectorized one."""
    rng = fd.Philox(seed=2**63 + 5, stream=7, step=3, row0=10, col0=45)
    mask = reference.dropout_mask((4, 50), p=0.3, rng=rng)
    for i in range(4):
        for j in range(50):
            col, row = 45 + j, 10 + i
            block, c = divmod(col, 32)
            words = reference.philox4x32_10((4 * block + (c % 8) // 2, row, 3, 7), (5, 2**31))
            u16 = (int(words[c // 8]) >> (16 * (c % 2))) & 0xFFFF
            assert mask[i, j] == (u16 >= 19661)


@pytest.mark.parametrize("p", RATES)
def test_every_kernel_draws_the_contract(isa, p):
    for m, n in [(1, 1), (5, 33), (14, 32), (37, 129), (1, 1100)]:
        for rng in (RNG, RNG.at(row0=3, col0=31), RNG.at(row0=2**32 - 50, col0=2**35 - 1200)):
            want = reference.dropout_mask((m, n), p=p, rng=rng)
            for kernel, got in kernel_masks(m, n, p, rng).items():
                assert np.array_equal(got, want), f"{kernel} differs at shape {(m, n)}, {rng}"


@settings(max_examples=40, deadline=None)
@given(m=st.integers(0, 40), n=st.integers(0, 140), p=st.floats(0, 1), rng=keys)
def test_any_name_on_every_instruction_set(m, n, p, rng):
    want = reference.dropout_mask((m, n), p=p, rng=rng)
    before = fd.config.get_isa()
    try:
        for name in fd.config.available_isas():
            fd.config.set_isa(name)
            for kernel, got in kernel_masks(m, n, p, rng).items():
                assert np.array_equal(got, want), f"{name} {kernel}"
    finally:
        fd.config.set_isa(before)


@pytest.mark.parametrize("granularity", ["element", "unit"])
def test_splits_and_shards_are_parts_of_one_mask(isa, granularity):
    options = {"p": 0.4, "granularity": granularity}
    whole = fd.dropout_mask((70, 150), rng=RNG, **options)
    for row0 in (0, 1, 13, 32):
        for col0 in (0, 1, 31, 32, 33, 95):
            part = fd.dropout_mask((70 - row0, 150 - col0), rng=RNG.at(row0, col0), **options)
            assert np.array_equal(part, whole[row0:, col0:])
    if granularity == "unit":
        assert (whole == whole[0]).all()
        assert 0 < whole[0].sum() < 150


def test_input_mask_is_on_the_flipped_stream(isa):
    x = np.ones((20, 50), np.float32)
    y = fd.linear(x, np.eye(50, dtype=np.float32), input_p=0.3, rng=RNG.at(row0=4, col0=64))
    flipped = fd.Philox(RNG.seed, RNG.stream ^ 0x80000000, RNG.step, row0=4)
    assert np.array_equal(y != 0, reference.dropout_mask((20, 50), p=0.3, rng=flipped))


def test_tied_rows_repeat(isa):
    mask = fd.dropout_mask((24, 40), p=0.5, rng=RNG.at(row0=2).tied(repeat=2, period=3))
    plain = fd.dropout_mask((3, 40), p=0.5, rng=RNG)
    assert np.array_equal(mask, plain[(2 + np.arange(24)) // 2 % 3])


def test_strides_dtype_and_layout_do_not_matter(isa):
    ones = np.ones((30, 64), np.float64)
    views = [ones, np.asfortranarray(ones), ones[::-1], ones.astype(np.float32), np.ones((60, 128))[::2, ::2]]
    want = fd.dropout_mask((30, 64), p=0.25, rng=RNG)
    for x in views:
        assert np.array_equal(fd.dropout(x, p=0.25, rng=RNG) != 0, want)


def test_last_axis_is_the_column(isa):
    """Any rank: leading axes count rows in C order; no group of channels shares a mask (pytorch#198333)."""
    x = np.ones((3, 4, 5, 6), np.float32)
    want = reference.dropout_mask((60, 6), p=0.5, rng=RNG).reshape(x.shape)
    assert np.array_equal(fd.dropout(x, p=0.5, rng=RNG) != 0, want)
    assert np.array_equal(fd.dropout(np.swapaxes(x, 0, 2).copy().swapaxes(0, 2), p=0.5, rng=RNG) != 0, want)
    assert np.array_equal(fd.dropout_mask((3, 4, 5, 6), p=0.5, rng=RNG), want)


def test_scale_is_that_of_the_effective_rate(isa):
    """p = .1 is 6554/65536: kept elements carry 65536/58982, so that the mean of y is right."""
    for p, t in [(0.1, 6554), (0.001, 66), (0.5, 32768), (1 - 2**-16, 65535)]:
        y = fd.dropout(np.ones((400, 400), np.float64), p=p, rng=RNG)
        assert set(np.unique(y)) <= {0.0, 65536 / (65536 - t)}
        assert y.max() > 0
