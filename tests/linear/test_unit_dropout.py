"""Unit dropout skips what it drops: the same values, gradients and bits as if it did not."""

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import reference
from fusedrop.reference.bounds import LinearBounds
from running_error import assert_within

RNG = fd.Philox(seed=9, stream=4, step=2).at(row0=5, col0=45)
# one compact strip and several, more than 1024 k-steps over K, N and M, tails of every kind
SHAPES = [(1, 1, 1), (3, 5, 2), (33, 70, 131), (15, 64, 64), (7, 2300, 90), (5, 40, 2300), (2300, 20, 40)]


def normal(shape, seed, dtype):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def known_zero(K):
    """A mask of active inputs: about half of them; the first and the last are zero."""
    kept = np.random.default_rng(K).random(K) < 0.5
    kept[[0, -1]] = False
    return kept


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("input_p", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("known", [False, True], ids=["nothing known", "zeros known"])
def test_values_and_gradients(isa, p, input_p, known, dtype):
    eps = np.finfo(dtype).eps
    for number, (M, K, N) in enumerate(SHAPES):
        activation = fd.activations[(number + known) % len(fd.activations)]
        x, w, b, dy = normal((M, K), 1, dtype), normal((N, K), 2, dtype), normal(N, 3, dtype), normal((M, N), 4, dtype)
        options = {"activation": activation, "p": p, "input_p": input_p, "rng": RNG, "granularity": "unit"}
        options |= {"dropout_first": number % 2 == 1, "active_inputs": known_zero(K) if known else None}
        options |= {"residual": normal((M, N), 5, dtype) if number % 3 == 2 else None}
        y, saved = fd.linear_forward(x, w, b, **options)
        want, want_saved = reference.linear_forward(x, w, b, **options)
        bounds = LinearBounds(want_saved, b.astype(np.float64), eps)
        assert_within(y, want, bounds.y(want, options["residual"]), "y")
        wanted = reference.linear_backward(dy.astype(np.float64), want_saved)
        for name, got, expected, bound in zip(
            ("dx", "dw", "db"),
            fd.linear_backward(dy, saved),
            wanted,
            bounds.gradients(dy.astype(np.float64)),
            strict=True,
        ):
            assert_within(got, expected, bound, name)


def results(x, w, b, dy, **options):
    y, saved = fd.linear_forward(x, w, b, rng=RNG, granularity="unit", **options)
    return y, *fd.linear_backward(dy, saved)


@pytest.mark.parametrize("activation", fd.activations)
def test_dropped_columns_are_exact_zeros(isa, activation):
    """Columns of y, rows of dw, db, and dx where inputs are dropped: NaN and Inf there are never read."""
    x, w, b, dy = (normal(s, 1, "float32") for s in ((20, 50), (70, 50), (70,), (20, 70)))
    keep = fd.dropout_mask((1, 70), p=0.5, rng=RNG, granularity="unit")[0]
    active_inputs = known_zero(50)
    w[~keep], b[~keep], dy[:, ~keep], x[:, ~active_inputs], w[:, ~active_inputs] = (
        np.nan,
        np.inf,
        np.nan,
        np.nan,
        np.inf,
    )
    y, dx, dw, db = results(x, w, b, dy, p=0.5, activation=activation, active_inputs=active_inputs)
    assert 0 < keep.sum() < 70
    assert all(np.isfinite(a).all() for a in (y, dx, dw, db))
    for dropped in (y[:, ~keep], dw[~keep], db[~keep], dx[:, ~active_inputs], dw[:, ~active_inputs]):
        assert dropped.tobytes() == bytes(dropped.nbytes)


@pytest.mark.parametrize("shape", [(300, 601, 170), (64, 1100, 1300), (1500, 140, 65)])
def test_any_threads_strides_and_splits_give_the_same_bits(isa, threads, shape):
    M, K, N = shape
    x, w, b, dy = (normal(s, 1, "float32") for s in ((M, K), (N, K), (N,), (M, N)))
    options = {"p": 0.4, "input_p": 0.2, "activation": "gelu", "residual": dy, "active_inputs": known_zero(K)}
    threads(1)
    want = results(x, w, b, dy, **options)
    for n in (2, 3, 7):
        threads(n)
        wide = np.zeros((M, 2 * K), np.float32)
        wide[:, ::2] = x
        for operands in ((x, w, b, dy), (wide[:, ::2], np.asfortranarray(w), b, np.asfortranarray(dy))):
            for got, expected in zip(results(*operands, **options), want, strict=True):
                assert np.array_equal(got, expected)
    half = fd.linear(x[: M // 2], w, b, rng=RNG, granularity="unit", **options | {"residual": dy[: M // 2]})
    assert np.array_equal(half, want[0][: M // 2])


def test_bfloat16(every_isa):
    """Zeros are exact; kept columns are rounded from the same sums as those of a smaller layer without dropout."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for M, K, N in [(33, 71, 131), (15, 4300, 65), (70, 40, 2300)]:
        x, w, b, dy = (normal(s, 1, bfloat16) for s in ((M, K), (N, K), (N,), (M, N)))
        keep = fd.dropout_mask((1, N), p=0.5, rng=RNG, granularity="unit")[0]
        y, dx, dw, db = results(x, w, b, dy, p=0.5, activation="relu")
        scale = bfloat16(2.0)
        bare, saved = fd.linear_forward(x, w[keep], b[keep], activation="relu")
        bare_dx, bare_dw, bare_db = fd.linear_backward(dy[:, keep] * scale, saved)
        for got, want in ((y[:, keep], bare * scale), (dx, bare_dx), (dw[keep], bare_dw), (db[keep], bare_db)):
            assert np.array_equal(got.view(np.uint16), want.view(np.uint16))
        assert not y[:, ~keep].any()
        assert not dw[~keep].any()
        assert not db[~keep].any()


def test_compact_products_are_those_of_the_smaller_matrices(isa):
    """Skipped columns and absent columns give the same bits: no dropped element is part of a sum."""
    x, w, b, dy = (normal(s, 1, "float32") for s in ((45, 1100), (300, 1100), (300,), (45, 300)))
    keep, active_inputs = fd.dropout_mask((1, 300), p=0.5, rng=RNG, granularity="unit")[0], known_zero(1100)
    y, dx, dw, db = results(x, w, b, dy, p=0.5, activation="tanh", active_inputs=active_inputs)
    small = np.ascontiguousarray(w[keep][:, active_inputs])
    bare, saved = fd.linear_forward(x[:, active_inputs], small, b[keep], activation="tanh")
    scaled = fd.linear_backward(dy[:, keep] * np.float32(2), saved)
    assert np.array_equal(y[:, keep], bare * np.float32(2))
    assert np.array_equal(dx[:, active_inputs], scaled[0])
    assert np.array_equal(dw[np.ix_(keep, active_inputs)], scaled[1])
    assert np.array_equal(db[keep], scaled[2])


def test_what_saved_says_of_its_outputs():
    x, w = normal((4, 6), 1, "float32"), normal((40, 6), 2, "float32")

    def kept(**options):
        return fd.linear_forward(x, w, rng=RNG, **options)[1].active_outputs

    mask = fd.dropout_mask((1, 40), p=0.5, rng=RNG, granularity="unit")[0]
    assert np.array_equal(kept(p=0.5, granularity="unit"), mask)
    assert np.array_equal(kept(p=0.5, granularity="unit", activation="tanh", dropout_first=True), mask)
    assert not kept(p=1.0, granularity="unit").any()
    assert kept(p=0.0, granularity="unit") is None
    assert kept(p=0.5) is None
    assert kept(p=0.5, granularity="unit", residual=np.ones((4, 40), np.float32)) is None
    assert kept(p=0.5, granularity="unit", activation="sigmoid", dropout_first=True) is None


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([True] * 6, TypeError, r"active_inputs must be a NumPy array of bool or None; got list"),
        (np.ones(6), TypeError, r"active_inputs must be a NumPy array of bool or None; got float64"),
        (np.ones(5, bool), ValueError, r"active_inputs must be \[K\] = \[6\] to match x; got \[5\]"),
        (np.ones((1, 6), bool), ValueError, r"active_inputs must be \[K\] = \[6\] to match x; got \[1, 6\]"),
    ],
)
def test_wrong_claims_are_refused(value, error, message):
    with pytest.raises(error, match=message):
        fd.linear(np.ones((4, 6), np.float32), np.ones((3, 6), np.float32), active_inputs=value)


def test_a_claim_beside_dropped_single_inputs_is_refused():
    with pytest.raises(ValueError, match="active_inputs must be None beside an input_p that drops single elements"):
        fd.linear(
            np.ones((4, 6), np.float32),
            np.ones((3, 6), np.float32),
            input_p=0.5,
            rng=RNG,
            active_inputs=np.ones(6, bool),
        )


def chain(width, dtype="float32", **options):
    layers = [
        fd.Linear(30, width, activation="gelu", p=0.5, granularity="unit", dtype=dtype),
        fd.Linear(width, width, activation="relu", p=0.4, granularity="unit", dtype=dtype),
        fd.Dropout(0.3, granularity="unit"),
        fd.Tanh(),
        fd.Linear(width, width, p=0.5, input_p=0.2, granularity="unit", dtype=dtype),
        fd.Sequential(fd.Linear(width, 20, p=0.5, dtype=dtype), fd.Linear(20, 4, dtype=dtype)),
    ]
    return fd.Sequential(*layers, seed=3)


def test_a_network_that_hands_on_its_zeros_computes_the_same(monkeypatch):
    """With active_inputs and without: gradients of dropped columns are dropped in both cases."""
    x, dy = normal((50, 30), 1, "float64"), normal((50, 4), 2, "float64")
    knowing, ignorant = chain(90, "float64"), chain(90, "float64")
    seen = []
    forward = fd.Linear.forward

    def watched(self, x, train=True, **options):
        seen.append(options.get("active_inputs"))
        return forward(self, x, train, **options)

    monkeypatch.setattr(fd.Linear, "forward", watched)
    y = knowing(x)
    assert [kept is not None for kept in seen] == [False, True, True, True, False]
    assert seen[2].sum() < seen[1].sum()  # the Dropout layer's zeros are added to its input's
    dx = knowing.backward(dy)
    want = x
    for layer in [*ignorant.layers[:-1], *ignorant.layers[-1].layers]:
        want = layer.forward(want)
    want_dx = dy
    for layer in [*ignorant.layers[:-1], *ignorant.layers[-1].layers][::-1]:
        want_dx = layer.backward(want_dx)
    assert np.allclose(y, want, rtol=1e-13, atol=1e-13)
    assert np.allclose(dx, want_dx, rtol=1e-13, atol=1e-13)
    for a, b in zip(knowing.parameters(), ignorant.parameters(), strict=True):
        assert np.allclose(a.grad, b.grad, rtol=1e-13, atol=1e-13), a.name


def test_a_few_zeros_are_not_worth_gathering():
    """With nearly all columns kept the next layer reads all of them; results differ by rounding only."""
    first = fd.Linear(6, 400, p=0.02, granularity="unit", dtype="float64", seed=1, stream=0)
    second = fd.Linear(400, 3, dtype="float64", seed=1, stream=1)
    x = normal((4, 6), 1, "float64")
    y = fd.Sequential(first, second)(x)
    kept, y_first = first._context.active_outputs, second._context.x
    assert not kept.all()
    dx = second.backward(np.ones((4, 3)))
    assert dx[:, ~kept].all(), "all of dx is computed: the first layer drops what it has dropped"
    assert np.allclose(y, second.forward(y_first, active_inputs=kept), rtol=1e-13, atol=1e-13)


def test_a_layer_of_ones_own_is_not_mistaken_for_its_base():
    """A subclass may add anything to the output of Linear, so that dropped columns are no longer zero."""

    class Shifted(fd.Linear):
        def forward(self, x, train=True):
            return super().forward(x, train) + np.float32(1)

    first, second = (
        Shifted(6, 40, p=0.5, granularity="unit", seed=1, stream=0),
        fd.Linear(40, 3, seed=1, stream=1),
    )
    x = normal((4, 6), 1, "float32")
    y = fd.Sequential(first, second)(x)
    again = Shifted(6, 40, p=0.5, granularity="unit", seed=1, stream=0)
    assert np.array_equal(y, second.forward(again.forward(x)))


def test_test_time_knows_no_zeros():
    net, x = chain(90), normal((5, 30), 1, "float32")
    want = x
    for layer in [*net.layers[:-1], *net.layers[-1].layers]:
        want = layer.forward(want, False)
    assert np.array_equal(net.forward(x, False), want)


def test_threads_of_unlike_widths_keep_to_one_blocking(threads):
    """A thread's share may be narrower than its neighbor's: partial sums must fit the workspace of all threads."""
    M, K, N = 564, 1056, 6200
    x, w = normal((M, K), 1, "float32"), normal((N, K), 2, "float32")
    threads(1)
    want = fd.linear(x, w, p=0.5, rng=RNG, granularity="unit")
    threads(2)
    assert np.array_equal(fd.linear(x, w, p=0.5, rng=RNG, granularity="unit"), want)


def test_a_claim_may_be_a_view_of_bytes():
    x, w = np.array([[1.0, 10.0, 100.0]]), np.ones((1, 3))
    assert fd.linear(x, w, active_inputs=np.array([2, 0, 1], np.uint8).view(bool)) == 101


def test_own_forward_backward_or_network_is_called():
    """Overrides that a network must respect: a subclass's backward, a network's forward, a method of one object."""

    class Watching(fd.Linear):
        def backward(self, dy, input_grad=True):
            self.seen = dy.copy()
            return super().backward(dy, input_grad)

    class Residual(fd.Sequential):
        def forward(self, x, train=True):
            return x + super().forward(x, train)

    x, dy = normal((4, 6), 1, "float32"), normal((4, 6), 2, "float32")

    def layers():
        first = Watching(6, 6, p=0.5, granularity="unit", seed=1, stream=0)
        return first, Residual(fd.Linear(6, 6, seed=1, stream=1)), fd.Linear(6, 6, seed=1, stream=2)

    one, other = layers(), layers()
    net = fd.Sequential(*one)
    want = x
    for layer in other:
        want = layer.forward(want)
    assert np.array_equal(net(x), want)
    net.backward(dy)
    for layer in other[::-1]:
        dy = layer.backward(dy)
    assert np.array_equal(one[0].seen, other[0].seen)
    patched = fd.Linear(6, 6, seed=1)
    patched.forward = lambda x, train=True: x
    assert np.array_equal(fd.Sequential(fd.Dropout(0.5, granularity="unit", seed=1), patched).forward(x, False), x)
