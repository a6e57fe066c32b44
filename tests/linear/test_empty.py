"""M, N or K = 0: every function returns the algebraic result, also in destinations full of NaN."""

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import reference

RNG = fd.Philox(seed=1, stream=2, step=3)
DTYPES = ["float32", "float64"]
SHAPES = [(0, 4, 5), (3, 0, 5), (3, 4, 0), (0, 0, 5), (0, 4, 0), (3, 0, 0), (0, 0, 0)]
ORDERS = pytest.mark.parametrize("dropout_first", [False, True], ids=["dropout_last", "dropout_first"])


def normal(*shape, dtype="float32"):
    return np.random.default_rng(5).standard_normal(shape).astype(dtype)


def poisoned(*shape, dtype="float32"):
    return np.full(shape, np.nan, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("granularity", ["element", "unit"])
@ORDERS
@pytest.mark.parametrize("activation", fd.activations)
def test_no_inputs_leave_the_bias(isa, activation, dropout_first, granularity, dtype):
    """K = 0: y = dropout(act(b)) or act(dropout(b)), to the bit, with and without a residual."""
    M, N = 19, 37
    x, w, b, residual = (
        normal(M, 0, dtype=dtype),
        normal(N, 0, dtype=dtype),
        normal(N, dtype=dtype),
        normal(M, N, dtype=dtype),
    )
    options = {"p": 0.5, "rng": RNG, "granularity": granularity}
    for bias in (b, None):
        z = np.tile(b, (M, 1)) if bias is not None else np.zeros((M, N), dtype)
        if dropout_first:
            want = fd.activate(fd.dropout(z, **options), activation)
        else:
            want = fd.dropout(fd.activate(z, activation), **options)
        layer = options | {"activation": activation, "dropout_first": dropout_first, "input_p": 0.5}
        assert np.array_equal(fd.linear(x, w, bias, **layer), want)
        assert np.array_equal(fd.linear(x, w, bias, residual=residual, **layer), residual + want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_layer_into_poisoned_destinations(isa, shape, dtype):
    """Empty sums are 0 and must be written: y without bias, dx where N = 0, dw and db where M = 0."""
    M, K, N = shape
    x, w, b, dy = (normal(*s, dtype=dtype) for s in [(M, K), (N, K), (N,), (M, N)])
    for activation in fd.activations:
        for residual in (None, normal(M, N, dtype=dtype)):
            options = {"activation": activation, "p": 0.5, "rng": RNG, "input_p": 0.25, "residual": residual}
            y, saved = fd.linear_forward(x, w, b, out=poisoned(M, N, dtype=dtype), **options)
            want, want_saved = reference.linear_forward(x, w, b, **options)
            assert y.shape == want.shape
            destinations = [poisoned(*a.shape, dtype=dtype) for a in (x, w, b)]
            gradients = fd.linear_backward(dy, saved, **dict(zip(("dx", "dw", "db"), destinations, strict=True)))
            wanted = reference.linear_backward(dy, want_saved)
            for got, expected, destination in zip(gradients, wanted, destinations, strict=True):
                assert got is destination
                assert got.shape == expected.shape
                if M * N == 0:
                    assert (got == 0).all()
                else:  # K = 0: only db is a sum of anything
                    terms = 12 * np.finfo(dtype).eps * (np.abs(dy) * 2).sum(0)
                    assert (np.abs(got - expected) <= (terms if got.ndim == 1 else 0)).all()


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (0, 3, 4), (3, 0, 4), (3, 4, 0), (2, 0, 3, 4)])
def test_elementwise_entries(isa, shape):
    x = normal(*shape)
    for granularity in ("element", "unit"):
        for p in (0.0, 0.5, 1.0):
            options = {"p": p, "rng": RNG, "granularity": granularity}
            assert fd.dropout(x, scaling="classic", **options).shape == shape
            assert fd.dropout(x, **options).shape == shape
            assert fd.dropout_mask(shape, **options).shape == shape
    for activation in fd.activations:
        y, saved = fd.activate_forward(x, activation)
        assert fd.activate(x, activation).shape == y.shape == shape
        assert fd.activate_backward(x, saved).shape == shape


def test_no_rows_are_in_reach_of_any_origin():
    """A shard without rows after the last row, as an even split of a small batch has."""
    rng = RNG.at(row0=2**32 - 1, col0=2**35 - 5)
    assert fd.dropout_mask((0, 5), p=0.5, rng=rng).shape == (0, 5)
    assert fd.dropout(normal(0, 5), p=0.5, rng=rng).shape == (0, 5)
    assert fd.linear(normal(0, 5), normal(5, 5), p=0.5, rng=rng).shape == (0, 5)


LAYERS = [
    lambda: fd.Linear(4, 5, activation="gelu", p=0.5, input_p=0.5),
    lambda: fd.Dropout(0.5),
    lambda: fd.Dropout(0.5, scaling="classic"),
    fd.ReLU,
    fd.GELU,
    fd.SiLU,
    fd.Tanh,
    fd.Sigmoid,
    fd.Flatten,
]


@pytest.mark.parametrize("train", [True, False], ids=["train", "test"])
@pytest.mark.parametrize("make", LAYERS, ids=lambda make: repr(make()))
def test_layers_take_an_empty_batch(make, train):
    layer = make()
    x = normal(0, 4)
    y = layer.forward(x, train)
    assert y.shape == ((0, 5) if isinstance(layer, fd.Linear) else (0, 4))
    assert layer.backward(np.zeros_like(y)).shape == (0, 4)
    assert all((g == 0).all() for g in layer.grads.values())


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
def test_flatten_keeps_the_batch_axis(shape):
    layer = fd.Flatten()
    y = layer.forward(normal(*shape))
    assert y.shape == (shape[0], shape[1] * shape[2])
    assert layer.backward(y).shape == shape


@pytest.mark.parametrize("sizes", [(0, 5), (4, 0), (0, 0)])
def test_a_network_with_an_empty_layer_trains(sizes):
    """K = 0 or N = 0 inside a network: all rows are alike, the bias of the last layer learns, nothing is NaN."""
    K, N = sizes
    net = fd.Sequential(fd.Linear(K, N, activation="relu", p=0.5), fd.Linear(N, 3), seed=1)
    for optimizer in (
        fd.training.SGD(net.parameters(), lr=0.1, momentum=0.9, l1=0.1, l2=0.1),
        fd.training.Adam(net.parameters()),
    ):
        before = net.params["1.bias"].copy()
        _, dlogits = fd.softmax_cross_entropy(net(normal(6, K)), np.zeros(6, int))
        assert net.backward(dlogits).shape == (6, K)
        assert np.isfinite(optimizer.penalty())
        optimizer.step()
        after = net.params["1.bias"]
        assert after[0] > before[0]
        assert (after[1:] < before[1:]).all()
        assert np.array_equal(net(normal(6, K), False), np.tile(after, (6, 1)))
    assert [p.value.shape for p in net.parameters()] == [(N, K), (N,), (3, N), (3,)]
    assert all(np.isfinite(p.value).all() for p in net.parameters())
