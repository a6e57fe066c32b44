"""Values are compared with their bounds, masks bit for bit, and numbers are rounded as the kernels round them."""

import numpy as np
import pytest
from fusedrop.cuda.comparison import Arrays, Difference, require_close, require_mask


def test_a_value_is_compared_with_its_bound():
    want = np.array([[1.0, np.nan, np.inf, 0.0]])
    require_close("y", want.copy(), want)
    require_close("y", np.array([[1.25, np.nan, np.inf, 0.25]]), want, 0.25)
    for at, value in enumerate((1.5, 0.0, -np.inf, np.nan)):
        got = want.copy()
        got[0, at] = value
        with pytest.raises(Difference, match=rf"y\[0, {at}\]: got {value:.9g}, expected .*; 1 of 4 elements differ"):
            require_close("y", got, want, 0.25)
    with pytest.raises(Difference, match=r"y: got shape \[4\], expected \[1, 4\]"):
        require_close("y", want[0], want)
    with pytest.raises(Difference, match=r"y\[1\]: got 3, expected 1, error bound 0.5; 2 of 3 elements differ"):
        require_close("y", np.array([2.0, 3.0, 1.0]), np.ones(3), np.array([0.5, 0.5, 0.0]))


def test_a_mask_is_compared_bit_for_bit():
    want = np.arange(12).reshape(3, 4) % 3 == 0
    require_mask("mask", want.copy(), want)
    got = want.copy()
    got[1, 2:] ^= True  # row 1 is False, False, True, False
    with pytest.raises(Difference, match=r"mask\[1, 2\]: got False, expected True; 2 of 12 bits differ"):
        require_mask("mask", got, want)


def test_values_are_rounded_to_nearest_even():
    numbers = np.concatenate([np.random.default_rng(1).standard_normal(2000) * 2.0 ** np.arange(-26, 14).repeat(50)])
    halves = 1 + np.arange(64) * 2.0**-8  # every second one lies between two bfloat16
    for values in (numbers, halves, -halves):
        got = Arrays(0, "bfloat16").rounded(values)
        spacing = 2.0 ** (np.floor(np.log2(np.abs(np.float32(values).astype(float)))) - 7)
        assert np.array_equal(got, np.rint(np.float32(values).astype(float) / spacing) * spacing)
        assert np.array_equal(Arrays(0, "float16").rounded(values), values.astype(np.float16).astype(float))
        assert np.array_equal(Arrays(0, "float32").rounded(values), values.astype(np.float32).astype(float))
