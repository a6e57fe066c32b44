"""bfloat16: stored in 16 bits, summed in float32, on every instruction set, those that multiply its pairs included."""

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import reference
from fusedrop.reference.bounds import RoundedBounds
from running_error import assert_within

ml_dtypes = pytest.importorskip("ml_dtypes", reason="NumPy's bfloat16 comes from ml_dtypes")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALF_ULP = 2.0**-8  # the relative error of rounding to 8 significant bits
EPS = np.finfo(np.float32).eps
RNG = fd.Philox(seed=7, stream=3, step=11)
# as in test_values.py, with odd K, N and M (a last pair of one) and more than 2048 k-steps, pairs or rows of each
SHAPES = [(1, 1, 1), (2, 3, 5), (15, 15, 33), (29, 64, 65), (230, 35, 40), (3, 4200, 34), (4200, 5, 37), (5, 35, 4200)]


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(BFLOAT16)


@pytest.mark.parametrize("dropout_first", [False, True], ids=["dropout_last", "dropout_first"])
@pytest.mark.parametrize("activation", fd.activations)
def test_values_and_gradients(every_isa, activation, dropout_first):
    for M, K, N in SHAPES:
        for input_p, with_residual in ((0.0, False), (0.2, True)):
            x, w, b, dy = normal((M, K), 1), normal((N, K), 2), normal(N, 3), normal((M, N), 4)
            residual = normal((M, N), 5) if with_residual else None
            options = {"activation": activation, "p": 0.3, "input_p": input_p, "rng": RNG}
            options |= {"dropout_first": dropout_first, "residual": residual}
            y, saved = fd.linear_forward(x, w, b, **options)
            want, want_saved = reference.linear_forward(x, w, b, **options)
            bounds = RoundedBounds(want_saved, b.astype(np.float64), HALF_ULP)
            assert y.dtype == BFLOAT16
            assert_within(y, want, bounds.y(want, residual), "y")
            wide = dy.astype(np.float64)
            wanted = reference.linear_backward(wide, want_saved)
            gradients = fd.linear_backward(dy, saved)
            for name, got, expected, bound in zip(
                ("dx", "dw", "db"), gradients, wanted, bounds.gradients(wide), strict=True
            ):
                assert got.dtype == BFLOAT16
                assert_within(got, expected, bound, name)


def test_every_bit_pattern_is_read_and_written(every_isa):
    x = np.arange(2**16, dtype=np.uint16).view(BFLOAT16)
    y = fd.dropout(x, p=0.0)
    number = ~np.isnan(x.astype(np.float32))
    assert np.array_equal(y.view(np.uint16)[number], x.view(np.uint16)[number])
    assert np.isnan(y.astype(np.float32))[~number].all()


def test_rounds_to_nearest_even(every_isa):
    """The product of two bfloat16 is exact in float32: what is stored is its rounding, as ml_dtypes rounds."""
    x, w = normal((300, 1), 1), normal((70, 1), 2)
    want = (x.astype(np.float32) * w.astype(np.float32).T).astype(BFLOAT16)
    assert np.array_equal(fd.linear(x, w), want)


def test_the_same_mask_as_float32(every_isa):
    x = np.ones((33, 70), BFLOAT16)
    keep = fd.dropout_mask(x.shape, p=0.4, rng=RNG)
    assert np.array_equal(fd.dropout(x, p=0.4, rng=RNG) != 0, keep)
    y = fd.linear(x, np.ones((45, 70), BFLOAT16), p=0.4, rng=RNG)
    assert np.array_equal(y != 0, fd.dropout_mask(y.shape, p=0.4, rng=RNG))


def results(x, w, b, dy):
    y, saved = fd.linear_forward(x, w, b, activation="silu", p=0.3, input_p=0.1, rng=RNG)
    return [a.view(np.uint16) for a in (y, *fd.linear_backward(dy, saved))]


@pytest.mark.parametrize("shape", [(300, 601, 70), (40, 4200, 200), (1500, 41, 33)])
def test_any_threads_and_strides_give_the_same_bits(every_isa, threads, shape):
    M, K, N = shape
    x, w, b, dy = normal((M, K), 1), normal((N, K), 2), normal(N, 3), normal((M, N), 4)
    threads(1)
    want = results(x, w, b, dy)
    threads(3)
    wide = np.zeros((M, 2 * K + 1), BFLOAT16)
    wide[:, 1::2] = x
    for operands in ((x, w), (np.asfortranarray(x), np.asfortranarray(w)), (wide[:, 1::2], w[::-1][::-1])):
        for got, expected in zip(results(*operands, b, dy), want, strict=True):
            assert np.array_equal(got, expected)


def test_mixed_dtypes_are_refused():
    with pytest.raises(TypeError, match="w must be bfloat16 to match x; got float32"):
        fd.linear(normal((2, 3), 1), np.ones((4, 3), np.float32))
    with pytest.raises(TypeError, match=r"x must be a NumPy array of float32, float64 or bfloat16; got float16"):
        fd.linear(np.ones((2, 3), np.float16), np.ones((4, 3), np.float16))


def test_loss_and_updates_round_once(every_isa):
    """The update is computed in float32 from the stored values, and rounded when it is stored."""
    logits, labels = normal((40, 21), 1), np.arange(40) % 21
    loss, dlogits = fd.softmax_cross_entropy(logits, labels)
    want_loss, want = fd.softmax_cross_entropy(logits.astype(np.float32), labels)
    assert loss == want_loss
    assert np.array_equal(dlogits, want.astype(BFLOAT16))
    for make in (
        fd.training.SGD,
        fd.training.Adam,
        lambda p, lr: fd.training.SGD(p, lr=lr, momentum=0.9, nesterov=True, l1=0.1, l2=0.1),
    ):
        wide, narrow = fd.Linear(21, 40, seed=1), fd.Linear(21, 40, seed=1, dtype="bfloat16")
        wide.params["weight"][...] = narrow.params["weight"]
        for layer in (wide, narrow):
            layer.grads["weight"][...] = normal((40, 21), 2)
            make(layer.parameters(), lr=0.1).step()
        assert np.array_equal(narrow.params["weight"], wide.params["weight"].astype(BFLOAT16))


def test_small_gradients_are_not_lost_in_adams_moments():
    """(1 - 0.999) g² is below half an ulp of a bfloat16 mean: the moments are float32."""
    layer = fd.Linear(3, 2, seed=1, dtype=BFLOAT16)
    optimizer = fd.training.Adam(layer.parameters(), lr=0.0)
    for _ in range(50):
        layer.grads["weight"][...] = 1
        optimizer.step()
    second = optimizer.state_dict()["slots"]["second_moment"][0]
    assert second.dtype == np.float32
    assert np.allclose(second, 1 - 0.999**50, rtol=200 * EPS, atol=0)  # four roundings a step


def test_layers_train():
    """A network of bfloat16 layers: every array keeps its dtype, masks are float32's, and the loss falls."""
    x, labels = normal((64, 30), 1), np.arange(64) % 4
    layers = [fd.Linear(30, 50, activation="gelu", p=0.2, dtype="bfloat16"), fd.Dropout(0.1)]
    net = fd.Sequential(*layers, fd.ReLU(), fd.Flatten(), fd.Linear(50, 4, dtype="bfloat16"), seed=1)
    optimizer = fd.training.SGD(net.parameters(), lr=0.2, momentum=0.9, l2=1e-4)
    losses = []
    for _ in range(60):
        y = net(x)
        loss, dy = fd.softmax_cross_entropy(y, labels)
        net.backward(dy)
        optimizer.step()
        losses.append(loss)
    assert {a.dtype for a in (y, dy, *net.params.values(), *net.grads.values())} == {BFLOAT16}
    assert optimizer.penalty() > 0
    assert losses[-1] < 0.5 * losses[0]


def test_threads_of_unlike_widths_keep_to_one_blocking(threads):
    """As for unit dropout: the float32 sums of a thread's columns must fit the workspace of all threads."""
    x, w = normal((564, 2080), 1), normal((3097, 2080), 2)
    threads(1)
    want = fd.linear(x, w)
    threads(2)
    assert np.array_equal(fd.linear(x, w).view(np.uint16), want.view(np.uint16))


def test_rows_of_probabilities_may_be_bfloat16():
    logits, rows = normal((6, 4), 1), np.eye(4)[[0, 1, 2, 3, 0, 1]]
    want = fd.softmax_cross_entropy(logits, rows)
    got = fd.softmax_cross_entropy(logits, rows.astype(BFLOAT16))
    assert got[0] == want[0]
    assert np.array_equal(got[1], want[1])
