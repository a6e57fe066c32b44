"""NaN, Inf and memory: dropped elements are 0, kept ones propagate, and no access is outside an array."""

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import reference

RNG = fd.Philox(seed=1, stream=2, step=3)


def assert_same_class(got, want):
    """NaN where the reference has NaN, Inf of the same sign where it has Inf, finite elsewhere."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.where(np.isinf(got), got, 0), np.where(np.isinf(want), want, 0))


@pytest.mark.parametrize("dropout_first", [False, True], ids=["dropout_last", "dropout_first"])
@pytest.mark.parametrize("activation", fd.activations)
def test_dropped_is_zero_and_kept_propagates(isa, activation, dropout_first):
    """With w = [[1]], y is dropout(act(x)) and dx is dz, element by element, over all pairs of special values."""
    values, gradients = [np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0], [1.0, np.nan, np.inf, -np.inf, 0.0]
    x, dy = (a.reshape(-1, 1).astype(np.float32) for a in np.meshgrid(values * 8, gradients * 8))
    w = np.ones((1, 1), np.float32)
    options = {"activation": activation, "p": 0.5, "rng": RNG, "dropout_first": dropout_first}
    y, saved = fd.linear_forward(x, w, **options)
    dz = fd.linear_backward(dy, saved)[0]
    want, want_saved = reference.linear_forward(x, w, **options)
    assert_same_class(y, want)
    assert_same_class(dz, reference.pre_activation_gradient(dy, want_saved))
    dropped = ~want_saved.keep
    assert 0 < dropped.sum() < dropped.size
    assert (dz[dropped] == 0).all()
    if not dropout_first:
        assert (y[dropped] == 0).all()


def test_relu_passes_a_kept_nan_and_its_gradient(isa):
    x, w = np.array([[np.nan]], np.float32), np.ones((1, 1), np.float32)
    y, saved = fd.linear_forward(x, w, activation="relu")
    assert np.isnan(y[0, 0])
    assert fd.linear_backward(np.ones((1, 1), np.float32), saved)[0][0, 0] == 1


def test_dead_relu_stops_an_infinite_gradient(isa):
    x, w = np.array([[-1.0]], np.float32), np.ones((1, 1), np.float32)
    _, saved = fd.linear_forward(x, w, activation="relu")
    assert fd.linear_backward(np.full((1, 1), np.inf, np.float32), saved)[0][0, 0] == 0


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_dropped_input_is_zero(isa, fill):
    """A NaN of x that its own mask drops does not reach y, nor dw."""
    keep = reference.dropout_mask((30, 40), p=0.5, rng=fd.Philox(1, 2 ^ 0x80000000, 3))
    x = np.where(keep, 1.0, fill).astype(np.float32)
    w = np.ones((20, 40), np.float32)
    y, saved = fd.linear_forward(x, w, input_p=0.5, rng=RNG)
    dx, dw, _ = fd.linear_backward(np.ones_like(y), saved)
    assert np.isfinite(y).all()
    assert np.isfinite(dw).all()
    assert (dx[~keep] == 0).all()


@pytest.mark.parametrize("p", [1.0, 1 - 2**-16])
def test_nothing_kept_is_zero_not_nan(isa, p):
    x = np.full((4, 6), np.inf, np.float32)
    for y in (fd.linear(x, np.ones((5, 6), np.float32), p=1.0, rng=RNG), fd.dropout(x, p=1.0, rng=RNG)):
        assert (y == 0).all()
    assert np.isfinite(fd.dropout(np.ones((300, 300), np.float32), p=p, rng=RNG)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (13, 17, 33), (29, 70, 31), (230, 5, 7)])
def test_poisoned_surroundings(isa, shape, dtype):
    """Inputs lie between NaN, results between guard values: both show an access outside an array."""
    M, K, N = shape

    def sea(rows, cols):
        buffer = np.full((rows + 4, cols + 6), np.nan, dtype)
        view = buffer[2:-2, 3:-3]
        view[:] = np.random.default_rng(rows + cols).standard_normal((rows, cols))
        return view

    def guarded(rows, cols):
        buffer = np.full(rows * cols + 64, np.nan, dtype)
        return buffer, buffer[32:-32].reshape(rows, cols)

    x, w, dy, residual = sea(M, K), sea(N, K), sea(M, N), sea(M, N)
    b = sea(1, N)[0]
    guards, y = guarded(M, N)
    options = {"activation": "gelu", "p": 0.3, "input_p": 0.2, "rng": RNG, "residual": residual}
    _, saved = fd.linear_forward(x, w, b, out=y, **options)
    assert np.array_equal(y, fd.linear(x.copy(), w.copy(), b.copy(), **options))
    buffers = [guards]
    outs = []
    for rows, cols in [(M, K), (N, K), (1, N)]:
        buffer, out = guarded(rows, cols)
        buffers.append(buffer)
        outs.append(out)
    fd.linear_backward(dy, saved, dx=outs[0], dw=outs[1], db=outs[2][0])
    for buffer, out in zip(buffers, [y, *outs], strict=True):
        assert not np.isnan(out).any()
        assert np.isnan(buffer[:32]).all()
        assert np.isnan(buffer[-32:]).all()
