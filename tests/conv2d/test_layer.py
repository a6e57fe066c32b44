"""Conv2d, the layer: parameters, steps, rates, layouts, networks."""

import copy
import pickle

import fusedrop as fd
import numpy as np
import pytest

X = np.random.default_rng(0).standard_normal((4, 3, 9, 8)).astype(np.float32)


def build(**options):
    return fd.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=1, activation="relu", seed=5, stream=2, **options)


def test_calls_are_the_functions_with_the_next_step():
    layer = build(p=0.4, input_p=0.2)
    options = {"stride": (2, 1), "padding": 1, "activation": "relu", "p": 0.4, "input_p": 0.2}
    for step in range(3):
        y = layer(X)
        dx = layer.backward(y)
        want, saved = fd.conv2d_forward(
            X, layer.params["weight"], layer.params["bias"], rng=fd.Philox(5, 2, step), **options
        )
        gradients = fd.conv2d_backward(want, saved)
        assert np.array_equal(y, want)
        for got, wanted in zip((dx, layer.grads["weight"], layer.grads["bias"]), gradients, strict=True):
            assert np.array_equal(got, wanted)
    plain = fd.conv2d(X, layer.params["weight"], layer.params["bias"], stride=(2, 1), padding=1, activation="relu")
    assert np.array_equal(layer(X, train=False), plain)
    assert layer.mask_key.rng.step == 3


def test_a_live_rate_counts_from_the_next_call():
    layer = build(p=0.0)
    kept = np.count_nonzero(layer(X))
    layer.p = 1.0
    assert kept > 0
    assert np.count_nonzero(layer(X)) == 0


def test_layouts_share_weights_and_masks():
    first, last = build(p=0.5, layout="NCHW"), build(p=0.5, layout="NHWC")
    y, other = first(X), last(np.ascontiguousarray(X.transpose(0, 2, 3, 1)))
    assert np.array_equal(y, other.transpose(0, 3, 1, 2))
    dx, other_dx = first.backward(y), last.backward(other)
    assert np.array_equal(dx, other_dx.transpose(0, 3, 1, 2))
    assert np.array_equal(first.grads["weight"], last.grads["weight"])


def test_initial_weights():
    layer = fd.Conv2d(16, 32, 5, activation="relu", seed=1)
    weight = layer.params["weight"]
    assert weight.shape == (32, 16, 5, 5)
    # The standard deviation of n samples is off by sigma / sqrt(2n); six of those.
    assert abs(weight.std() * np.sqrt(16 * 25 / 2) - 1) < 6 / np.sqrt(2 * weight.size)
    assert not layer.params["bias"].any()
    assert set(fd.Conv2d(2, 3, 1, bias=False).params) == {"weight"}


def test_copies_and_pickles_go_on_where_the_layer_was():
    layer = build(p=0.5)
    layer(X)
    others = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    y = layer(X)
    assert all(np.array_equal(y, other(X)) for other in others)


def test_a_network_of_convolutions_trains():
    """The loss falls, every parameter changes, and input_grad=False skips the gradient by the images."""
    net = fd.Sequential(
        fd.Conv2d(3, 8, 3, padding=1, activation="relu", p=0.2, granularity="channel"),
        fd.Conv2d(8, 8, 3, stride=2, activation="relu", input_p=0.1),
        fd.Flatten(),
        fd.Linear(96, 2),
        seed=3,
    )
    labels, adam = np.array([0, 1, 1, 0]), fd.training.Adam(net.parameters(), lr=0.01)
    before = {name: value.copy() for name, value in net.params.items()}
    losses = []
    for _ in range(30):
        loss, dlogits = fd.softmax_cross_entropy(net(X), labels)
        assert net.backward(dlogits, input_grad=False) is None
        adam.step()
        losses.append(loss)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    assert all((before[name] != value).any() for name, value in net.params.items())


def test_representation():
    assert repr(build(p=0.5)) == "Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 1), activation='relu', p=0.5)"
    assert repr(fd.Conv2d(1, 2, 3)) == "Conv2d(1, 2, (3, 3))"
    other = fd.Conv2d(1, 2, 3, granularity="channel", layout="NHWC")
    assert repr(other) == "Conv2d(1, 2, (3, 3), granularity='channel', layout='NHWC')"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype(dtype):
    layer = fd.Conv2d(3, 4, 3, dtype=dtype)
    y = layer(X.astype(dtype))
    layer.backward(y)
    assert y.dtype == layer.grads["weight"].dtype == np.dtype(dtype)
