"""softmax_cross_entropy against log-sum-exp in extended precision with a derived bound, and finite differences."""

import fusedrop as fd
import numpy as np
import pytest
from finite_differences import assert_gradient

DTYPES = ["float32", "float64"]
SHAPES = [(1, 1), (1, 7), (5, 2), (64, 10), (4, 16), (3, 33), (3, 1000)]


def normal(*shape, dtype="float64"):
    return np.random.default_rng([2, *shape]).standard_normal(shape).astype(dtype)


def formula(logits, target):
    """(loss, dlogits, bound of the loss / eps, bound of dlogits / eps) for rows of probabilities `target`.

    With d = z - max z: the rounding of d puts a relative error |d_j| eps on p_j, the sum over j adds N + 8 (its terms
    and the evaluation of exp), and log turns that relative error of the sum into an absolute one.
    """
    z = logits.astype(np.longdouble)
    m, n = z.shape
    d = z - z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(d).sum(axis=1, keepdims=True))
    p = np.exp(d - log_sum)
    finite = np.where(np.isfinite(d), d, 0)
    log_likelihood = np.where(target > 0, d - log_sum, 0)
    loss = -(target * log_likelihood).sum(axis=1).mean()
    of_sum = n + 8 + (p * np.abs(finite)).sum(axis=1, keepdims=True)
    of_row = (target * (np.abs(finite) + of_sum + 3 * np.abs(log_sum) + n)).sum(axis=1)
    of_gradient = (p * (np.abs(finite) + of_sum) + 3 * (p + target)) / m
    return loss, (p - target) / m, of_row.mean() + np.abs(loss), of_gradient


def one_hot(labels, n):
    return np.eye(n)[labels]


def assert_loss(logits, labels, target):
    eps, tiny = np.finfo(logits.dtype).eps, np.finfo(logits.dtype).tiny  # exp underflows below tiny
    loss, dlogits = fd.softmax_cross_entropy(logits, labels)
    want, want_gradient, loss_bound, gradient_bound = formula(logits, target)
    assert type(loss) is float
    assert dlogits.dtype == logits.dtype
    assert dlogits.shape == logits.shape
    assert abs(loss - want) <= eps * loss_bound
    assert (np.abs(dlogits - want_gradient) <= eps * gradient_bound + tiny).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [0.0, 1.0, 100.0])
def test_against_log_sum_exp(isa, shape, size, dtype):
    logits = (size * normal(*shape)).astype(dtype)
    labels = np.random.default_rng(1).integers(0, shape[1], shape[0])
    assert_loss(logits, labels, one_hot(labels, shape[1]))
    soft = np.random.default_rng(2).random(shape)
    soft /= soft.sum(axis=1, keepdims=True)
    assert_loss(logits, soft.astype(dtype), soft.astype(dtype))


@pytest.mark.parametrize("labels", [np.array([0, 2, 1, 2]), one_hot([0, 2, 1, 2], 3), np.full((4, 3), 1 / 3)])
def test_gradient_is_the_derivative(labels):
    logits = normal(4, 3)
    gradient = fd.softmax_cross_entropy(logits, labels)[1]
    assert_gradient(lambda: fd.softmax_cross_entropy(logits, labels)[0], logits, gradient, operations=30)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label_type", ["int64", "int32", "uint8", "uint64", "float32", "float64", "bool", "list"])
def test_one_hot_rows_are_integer_labels(label_type, dtype):
    """Any integer type names classes; any real type, and lists, hold rows."""
    labels = np.random.default_rng(3).integers(0, 5, 20)
    logits = normal(20, 5, dtype=dtype)
    loss, dlogits = fd.softmax_cross_entropy(logits, labels)
    rows = one_hot(labels, 5)
    others = [rows.tolist(), labels.tolist()] if label_type == "list" else [rows.astype(label_type)]
    if "int" in label_type:
        others.append(labels.astype(label_type))
    bound = 2 * np.finfo(dtype).eps * formula(logits, rows)[2]
    for other in others:
        got, gradient = fd.softmax_cross_entropy(logits, other)
        assert abs(got - loss) <= bound
        assert np.array_equal(gradient, dlogits)


@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_logits_neither_overflow_nor_warn(isa, dtype):
    logits = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [3e38, 0, 0]], dtype)
    labels = np.array([0, 1, 2, 0])
    assert_loss(logits, labels, one_hot(labels, 3))
    loss, dlogits = fd.softmax_cross_entropy(logits[:1], np.array([1]))
    assert loss == 2e4
    assert np.array_equal(dlogits, [[1, -1, 0]])


@pytest.mark.parametrize("rows", [False, True], ids=["classes", "rows"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_classes_ruled_out_by_minus_infinity(isa, rows, dtype):
    """A masked class has probability 0: a row's 0 for it adds 0 to the loss, and a label on it costs infinity."""
    logits = np.array([[1, -np.inf, 2], [-np.inf, 5, -np.inf]], dtype)
    labels = np.array([0, 1])
    given = one_hot(labels, 3) if rows else labels
    assert_loss(logits, given, one_hot(labels, 3))
    assert (fd.softmax_cross_entropy(logits, given)[1][np.isinf(logits)] == 0).all()
    wrong = one_hot([1, 1], 3) if rows else np.array([1, 1])
    loss, dlogits = fd.softmax_cross_entropy(logits, wrong)
    assert loss == np.inf
    assert np.isfinite(dlogits).all()
    assert dlogits[0, 1] == -0.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_not_hidden(isa, dtype):
    logits = normal(3, 4, dtype=dtype)
    logits[1, 2] = np.nan
    loss, dlogits = fd.softmax_cross_entropy(logits, np.array([0, 1, 2]))
    assert np.isnan(loss)
    assert np.isnan(dlogits[1]).all()
    assert np.isfinite(dlogits[[0, 2]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 5])
def test_no_rows(n, dtype):
    logits = np.zeros((0, n), dtype)
    for labels in (np.zeros(0, int), np.zeros((0, n))):
        loss, dlogits = fd.softmax_cross_entropy(logits, labels)
        assert (type(loss), loss) == (float, 0.0)
        assert dlogits.shape == (0, n)
        assert dlogits.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_logits(dtype):
    logits, labels = normal(12, 5, dtype=dtype), np.arange(12) % 5
    wide = np.full((24, 10), np.nan, dtype)
    wide[::2, ::-2] = logits
    for view in (np.asfortranarray(logits), wide[::2, ::-2]):
        assert_loss(view, labels, one_hot(labels, 5))
        assert fd.softmax_cross_entropy(view, labels)[1].flags.c_contiguous


def test_a_mean_over_many_rows_keeps_its_digits():
    """A float32 running sum over 2**20 rows would lose a fifth digit; the mean is formed in float64."""
    logits = np.zeros((2**20, 3), np.float32)
    loss, dlogits = fd.softmax_cross_entropy(logits, np.zeros(2**20, int))
    assert abs(loss - np.log(3)) <= 2 * np.finfo(np.float32).eps
    assert dlogits[0, 1] == np.float32(1 / 3) / 2**20


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_for_any_threads_and_vector_width(dtype, threads):
    logits, labels = normal(3000, 37, dtype=dtype), np.arange(3000) % 37
    results = []
    before = fd.config.get_isa()
    for isa in fd.config.available_isas():
        fd.config.set_isa(isa)
        for count in (1, 3):
            threads(count)
            results.append(fd.softmax_cross_entropy(logits, labels))
    fd.config.set_isa(before)
    for loss, dlogits in results[1:]:
        assert loss == results[0][0]
        assert np.array_equal(dlogits, results[0][1])
