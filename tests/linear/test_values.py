"""Values and gradients of the fused layer: one body over instruction set x activation x order x dtype x shape."""

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import reference
from fusedrop.reference.bounds import LinearBounds
from running_error import assert_within

# (M, K, N): ones, primes, one below, at and above the tiles (14 and 6 rows, 4 to 32 columns), tall, wide, and
# shapes that need a second block of M (224), K (1024 or 512), N (2048), in forward or in one of the gradients.
SHAPES = [
    (1, 1, 1),
    (2, 3, 5),
    (13, 16, 31),
    (14, 17, 32),
    (15, 15, 33),
    (7, 64, 65),
    (29, 7, 10),
    (230, 3, 6),
    (3, 1030, 34),
    (1040, 9, 37),
    (5, 35, 1100),
    (2, 4, 2090),
    (4, 2090, 3),
]
DTYPES = ["float32", "float64"]
RNG = fd.Philox(seed=7, stream=3, step=11)


def normal(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(M, K, N, dtype, *, with_bias=True, with_residual=False, **options):
    x, w, dy = normal((M, K), dtype, 1), normal((N, K), dtype, 2), normal((M, N), dtype, 3)
    b = normal(N, dtype, 4) if with_bias else None
    residual = normal((M, N), dtype, 5) if with_residual else None
    y, saved = fd.linear_forward(x, w, b, residual=residual, **options)
    gradients = fd.linear_backward(dy, saved)
    want_y, want_saved = reference.linear_forward(x, w, b, residual=residual, **options)
    bounds = LinearBounds(want_saved, b, np.finfo(dtype).eps)
    assert_within(y, want_y, bounds.y(want_y, residual), "y")
    wanted = reference.linear_backward(dy, want_saved)
    for name, got, want, bound in zip(("dx", "dw", "db"), gradients, wanted, bounds.gradients(dy), strict=True):
        if want is None:
            assert got is None
        else:
            assert got.dtype == x.dtype
            assert_within(got, want, bound, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dropout_first", [False, True], ids=["dropout_last", "dropout_first"])
@pytest.mark.parametrize("activation", fd.activations)
def test_forward_and_backward(isa, activation, dropout_first, dtype):
    for M, K, N in SHAPES:
        check(M, K, N, dtype, activation=activation, p=0.3, rng=RNG, dropout_first=dropout_first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", fd.activations)
def test_residual_input_dropout_and_no_bias(isa, activation, dtype):
    for M, K, N in SHAPES[:10]:
        for dropout_first in (False, True):
            options = {
                "activation": activation,
                "p": 0.5,
                "input_p": 0.2,
                "rng": RNG,
                "dropout_first": dropout_first,
            }
            check(M, K, N, dtype, with_residual=True, with_bias=False, **options)


@pytest.mark.parametrize("p", [0.0, 1.0, 1 - 2**-16, 0.001])
def test_extreme_rates(isa, p):
    for activation in fd.activations:
        for dropout_first in (False, True):
            check(33, 40, 70, "float32", activation=activation, p=p, rng=RNG, dropout_first=dropout_first)


@pytest.mark.parametrize("granularity", ["element", "unit"])
def test_misaligned_origin_and_tied_rows(isa, granularity):
    rng = RNG.at(row0=1234, col0=77).tied(repeat=3, period=5)
    for M, K, N in [(17, 40, 70), (230, 33, 35)]:
        check(M, K, N, "float32", activation="tanh", p=0.4, input_p=0.1, rng=rng, granularity=granularity)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (0, 3, 0)])
def test_empty_dimensions(isa, shape):
    check(*shape, "float32", activation="sigmoid", p=0.3, rng=RNG)


def test_no_inputs_leave_the_bias(isa):
    b = np.array([1.0, -2.0, 3.0], np.float32)
    y = fd.linear(np.empty((2, 0), np.float32), np.empty((3, 0), np.float32), b, activation="relu")
    assert np.array_equal(y, [[1, 0, 3], [1, 0, 3]])


@pytest.mark.parametrize("activation", fd.activations)
@pytest.mark.parametrize("dropout_first", [False, True], ids=["dropout_last", "dropout_first"])
def test_reference_gradients_are_the_derivatives(activation, dropout_first):
    """The specification against central differences, so that kernel and reference cannot share a wrong formula."""
    x, w, b, dy = (
        normal((5, 4), "float64", 1),
        normal((6, 4), "float64", 2),
        normal(6, "float64", 3),
        normal((5, 6), "float64", 4),
    )
    options = {"activation": activation, "p": 0.3, "input_p": 0.2, "rng": RNG, "dropout_first": dropout_first}
    _, saved = reference.linear_forward(x, w, b, **options)
    h = 1e-6
    for array, gradient in zip((x, w, b), reference.linear_backward(dy, saved), strict=True):
        for index in np.ndindex(array.shape):
            value = array[index]
            array[index] = value + h
            above = (reference.linear(x, w, b, **options) * dy).sum()
            array[index] = value - h
            below = (reference.linear(x, w, b, **options) * dy).sum()
            array[index] = value
            # truncation h^2 |f'''| and rounding eps |f| / h both stay below 1e-8 for values of this size
            assert abs((above - below) / (2 * h) - gradient[index]) < 1e-7
