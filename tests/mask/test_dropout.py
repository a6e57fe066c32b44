"""dropout_forward, dropout_backward: one mask, one scale, and a context without arrays."""

import fusedrop as fd
import numpy as np
import pytest
from finite_differences import assert_gradient
from fusedrop import reference

RNG = fd.Philox(seed=1, stream=2, step=3)
OPTIONS = [
    {"granularity": granularity, "scaling": scaling}
    for granularity in ("element", "unit")
    for scaling in ("inverted", "classic")
]
options = pytest.mark.parametrize("given", OPTIONS, ids=lambda o: " ".join(o.values()))
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])


def normal(*shape, dtype="float32", seed=0):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes").bfloat16
    return np.asarray(np.random.default_rng([seed, len(shape)]).standard_normal(shape)).astype(dtype)


@dtypes
@options
@pytest.mark.parametrize("p", [0.0, 0.001, 0.5, 1.0])
def test_backward_is_forward_of_dy(every_isa, p, given, dtype):
    """Dropout is linear and its own adjoint, to the bit."""
    for shape in [(3, 4, 37), (37,), (), (0, 5)]:
        x, dy = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
        y, saved = fd.dropout_forward(x, p=p, rng=RNG, **given)
        dx = fd.dropout_backward(dy, saved)
        assert y.tobytes() == fd.dropout(x, p=p, rng=RNG, **given).tobytes()
        assert dx.tobytes() == fd.dropout(dy, p=p, rng=RNG, **given).tobytes()
        assert (dx.dtype, dx.shape) == (x.dtype, shape)


@options
def test_both_are_the_reference(given):
    x, dy = normal(5, 6, 40, dtype="float64"), normal(5, 6, 40, dtype="float64", seed=1)
    y, saved = fd.dropout_forward(x, p=0.3, rng=RNG, **given)
    want, want_saved = reference.dropout_forward(x, p=0.3, rng=RNG, **given)
    one_rounding = np.finfo(np.float64).eps
    assert (np.abs(y - want) <= one_rounding * np.abs(want)).all()
    wanted = reference.dropout_backward(dy, want_saved)
    assert (np.abs(fd.dropout_backward(dy, saved) - wanted) <= one_rounding * np.abs(wanted)).all()
    assert np.array_equal(want_saved.keep, fd.dropout_mask(x.shape, p=0.3, rng=RNG, granularity=given["granularity"]))


@options
def test_backward_is_the_derivative(given):
    x, dy = normal(4, 7, dtype="float64"), normal(4, 7, dtype="float64", seed=1)
    call = {"p": 0.4, "rng": RNG, **given}
    _, saved = fd.dropout_forward(x, **call)
    assert_gradient(lambda: float((fd.dropout(x, **call) * dy).sum()), x, fd.dropout_backward(dy, saved), operations=40)


def test_the_context_holds_the_key_and_no_array():
    x = normal(4, 7)
    _, saved = fd.dropout_forward(x, p=0.4, rng=RNG, scaling="classic")
    assert type(saved) is fd.DropoutContext
    assert saved == ((4, 7), np.dtype("float32"), 0.4, RNG, "element", "classic")
    assert saved.rng is RNG
    assert not any(isinstance(part, np.ndarray) for part in saved)


def test_dropped_nan_and_inf_are_zero_both_ways():
    keep = fd.dropout_mask((9, 40), p=0.5, rng=RNG)
    for value in (np.nan, np.inf, -np.inf):
        x = np.full((9, 40), value, np.float32)
        y, saved = fd.dropout_forward(x, p=0.5, rng=RNG)
        for result in (y, fd.dropout_backward(x, saved)):
            assert (result[~keep] == 0).all()
            assert not np.isfinite(result[keep]).any()


@pytest.mark.parametrize(
    ("dy", "error", "wanted", "got"),
    [
        (normal(4, 6), ValueError, r"\[4, 7\] to match the output", r"\[4, 6\]"),
        (normal(7), ValueError, r"\[4, 7\] to match the output", r"\[7\]"),
        (normal(4, 7).astype("f8"), TypeError, "float32 to match the output", "float64"),
        (normal(4, 7).astype("i4"), TypeError, "float32 to match the output", "int32"),
        (normal(4, 7).astype(">f4"), TypeError, "float32 to match the output", ">f4"),
        (normal(4, 7).tolist(), TypeError, "a NumPy array of float32, float64 or bfloat16", "list"),
        (None, TypeError, "a NumPy array of float32, float64 or bfloat16", "NoneType"),
    ],
    ids=["columns", "rank", "float64", "int32", "byte order", "list", "None"],
)
def test_a_wrong_gradient_is_refused(dy, error, wanted, got):
    _, saved = fd.dropout_forward(normal(4, 7), p=0.4, rng=RNG)
    with pytest.raises(error, match=f"^dy must be {wanted}; got {got}$"):
        fd.dropout_backward(dy, saved)


def test_errors_of_forward_are_those_of_dropout():
    for call in (fd.dropout, fd.dropout_forward):
        with pytest.raises(ValueError, match=r"^rng is required where p > 0: .*; got None$"):
            call(normal(3, 4), p=0.5)
        with pytest.raises(ValueError, match=r"^scaling must be 'inverted' or 'classic'; got 'textbook'$"):
            call(normal(3, 4), p=0.5, rng=RNG, scaling="textbook")
