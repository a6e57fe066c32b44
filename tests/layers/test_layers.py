"""Each layer is its function with the layer's own mask key: values, gradients, train and test, state."""

import math

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import reference

DTYPES = ["float32", "float64"]


def normal(*shape, dtype="float32", seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def same(got, want):
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dropout_first", [False, True], ids=["dropout_last", "dropout_first"])
@pytest.mark.parametrize("activation", fd.activations)
def test_linear_is_its_function(activation, dropout_first, bias, dtype):
    options = {"activation": activation, "dropout_first": dropout_first, "granularity": "element"}
    layer = fd.Linear(17, 35, bias=bias, p=0.4, input_p=0.2, dtype=dtype, seed=3, stream=8, **options)
    x, dy = normal(13, 17, dtype=dtype), normal(13, 35, dtype=dtype)
    for train in (True, False, True):
        p, input_p = (0.4, 0.2) if train else (0.0, 0.0)
        rng = layer.mask_key.rng
        for residual in (None, normal(13, 35, dtype=dtype, seed=1)):
            layer.mask_key.rng = rng
            want, saved = fd.linear_forward(
                x, *layer.params.values(), p=p, input_p=input_p, rng=rng, residual=residual, **options
            )
            same(layer.forward(x, train, residual=residual), want)
            gradients = [g for g in fd.linear_backward(dy, saved) if g is not None]
            same(layer.backward(dy), gradients[0])
            for got, expected in zip(layer.grads.values(), gradients[1:], strict=True):
                same(got, expected)
    assert list(layer.params) == list(layer.grads) == (["weight", "bias"] if bias else ["weight"])


def test_the_mask_key_of_a_layer_is_seed_stream_and_step():
    """A batch of ones through w = 0, b = 1 shows the mask itself, drawn from its whole key."""
    layer = fd.Linear(3, 40, p=0.5, input_p=0.25, granularity="unit", seed=11, stream=6)
    layer.params["weight"][...] = 0
    layer.params["bias"][...] = 1
    for step in range(3):
        rng = fd.Philox(seed=11, stream=6, step=step)
        assert layer.mask_key.rng == rng
        want = reference.dropout_mask((5, 40), p=0.5, rng=rng, granularity="unit")
        assert np.array_equal(layer(np.ones((5, 3), np.float32)) != 0, want)


@pytest.mark.parametrize("make", [lambda p: fd.Linear(9, 9, p=p, input_p=p, seed=1), lambda p: fd.Dropout(p)])
def test_test_time_is_the_layer_without_dropout(make):
    layer, plain = make(0.5), make(0.0)
    x, dy = normal(7, 9), normal(7, 9)
    want = plain.forward(x, True)
    want_dx = plain.backward(dy)
    for y in (layer.forward(x, train=False), layer.forward(x, False), layer(x, False), layer(x, train=False)):
        same(y, want)
        same(layer.backward(dy), want_dx)
    for got, expected in zip(layer.grads.values(), plain.grads.values(), strict=True):
        same(got, expected)


LAYERS = [lambda: fd.Linear(6, 6, p=0.5, seed=1, stream=2), lambda: fd.Dropout(0.5, seed=1, stream=2)]


@pytest.mark.parametrize("make", LAYERS, ids=["Linear", "Dropout"])
def test_training_calls_count_steps_and_test_calls_do_not(make):
    x = normal(40, 6)
    layer, twin = make(), make()
    first, second = layer(x), layer(x)
    assert (first != second).any()
    assert layer.mask_key.rng.step == 2
    for train in (False, True, False, False, True):
        twin.forward(x, train)
    assert twin.mask_key.rng.step == 2
    same(layer.forward(x, True), twin(x))


@pytest.mark.parametrize("make", LAYERS, ids=["Linear", "Dropout"])
def test_layer_of_x_is_forward_in_training(make):
    one, other, x = make(), make(), normal(5, 6)
    for y, want in [(one(x), other.forward(x)), (one.forward(x, True), other.forward(x, train=True))]:
        same(y, want)


@pytest.mark.parametrize("name", ["p", "input_p"])
def test_rate_of_a_live_linear(name):
    layer = fd.Linear(50, 50, seed=1, stream=1)
    x = normal(50, 50)
    plain = layer(x, False)
    for p in (0.0, 0.5, 1.0, 0.1, np.float32(0.25)):
        setattr(layer, name, p)
        assert getattr(layer, name) == p
        rates = {name: p}
        rng = layer.mask_key.rng
        same(layer(x), fd.linear(x, *layer.params.values(), rng=rng, **rates))
        same(layer(x, False), plain)


def test_rate_of_a_live_dropout():
    """Backward uses the rate of the last forward call: a rate set in between applies to the next call."""
    layer, x = fd.Dropout(0.5, seed=1, stream=1), normal(50, 50)
    for p in (0.0, 0.9, 1.0, 0.2):
        y = layer(x)
        want = layer.backward(x)
        same(y, want)
        layer.p = p
        same(layer.backward(x), want)
        assert layer.p == p
        assert (layer(x) == 0).mean() == pytest.approx(p, abs=5 * math.sqrt(0.25 / x.size))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", range(5))
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_dropout_against_the_textbook(rank, p, dtype):
    """Classic: x * mask, then x * (1 - p) at test time. Inverted: x * mask / (1 - t/65536), then x."""
    x, dy = normal(*(3, 4, 5, 6)[4 - rank :], dtype=dtype), normal(*(3, 4, 5, 6)[4 - rank :], dtype=dtype, seed=1)
    one_rounding = np.finfo(dtype).eps
    mask = fd.dropout_mask(x.shape, p=p, rng=fd.Philox(2, 3))
    for scaling, factor, test_factor in [("classic", 1.0, 1 - p), ("inverted", reference.scale(p), 1.0)]:
        layer = fd.Dropout(p, scaling=scaling, seed=2, stream=3)
        for train, by in [(True, mask * factor), (False, np.full(x.shape, test_factor))]:
            for a, got in [(x, layer.forward(x, train)), (dy, layer.backward(dy))]:
                assert isinstance(got, np.ndarray)
                assert got.dtype == a.dtype
                assert got.shape == a.shape
                want = a.astype(np.float64) * by
                assert (np.abs(got - want) <= one_rounding * np.abs(want)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_per_unit_keeps_or_drops_whole_columns(dtype):
    layer = fd.Dropout(0.5, granularity="unit", seed=1, stream=1)
    y = layer(np.ones((3, 20, 64), dtype)) != 0
    assert (y == y[0, 0]).all()
    assert 0 < y[0, 0].sum() < 64
    assert np.array_equal(y, layer.backward(np.ones((3, 20, 64), dtype)) != 0)


ACTIVATIONS = {fd.ReLU: "relu", fd.GELU: "gelu", fd.SiLU: "silu", fd.Tanh: "tanh", fd.Sigmoid: "sigmoid"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("make", ACTIVATIONS)
def test_activation_layers(make, shape, dtype):
    layer, name = make(), ACTIVATIONS[make]
    x, dy = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    x *= 3
    assert (layer.params, layer.grads, layer.parameters()) == ({}, {}, [])
    for train in (True, False):
        same(layer.forward(x, train), fd.activate(x, name))
        same(layer.backward(dy), fd.activate_backward(dy, fd.activate_forward(x, name)[1]))
    eight_units = 8 * np.finfo(dtype).eps  # what an activation's evaluation may cost, of its terms' size
    want, saved = reference.activate_forward(x, name)
    want_dx = reference.activate_backward(dy, saved)
    assert (np.abs(layer(x) - want) <= eight_units * (np.abs(want) + np.abs(x))).all()
    assert (np.abs(layer.backward(dy) - want_dx) <= eight_units * np.abs(dy) * (1 + np.abs(x))).all()


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5), (2, 3, 4, 5), (1, 1, 1)])
def test_flatten(shape):
    layer, x = fd.Flatten(), normal(*shape)
    for view in (x, x.T.copy().T, x[::-1]):
        y = layer(view)
        assert np.array_equal(y, view.copy().reshape(shape[0], -1))
        assert np.array_equal(layer.backward(y), view)


@pytest.mark.parametrize("make", [lambda: fd.Linear(6, 6, seed=1), lambda: fd.Dropout(0.5), fd.ReLU, fd.Flatten])
def test_no_input_gradient_where_none_is_wanted(make):
    layer = make()
    x, dy = normal(5, 6), normal(5, 6)
    layer(x)
    assert layer.backward(dy) is not None
    full = {key: g.copy() for key, g in layer.grads.items()}
    for g in layer.grads.values():
        g[...] = np.nan
    assert layer.backward(dy, False) is None
    assert layer.backward(dy, input_grad=False) is None
    for key, g in layer.grads.items():
        same(g, full[key])
