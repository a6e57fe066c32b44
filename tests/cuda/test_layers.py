"""Layers and networks on a GPU: the same masks and, within rounding, the same values as on the CPU."""

import fusedrop as fd
import numpy as np
import pytest
from cuda_devices import draw, torch, wide
from fusedrop import checks


def route(device, monkeypatch):
    """Layers take tensors of the CPU for arrays on a GPU, as the emulated module does."""
    if device.place == "cpu":
        monkeypatch.setattr(checks, "CUDA", 1)


@pytest.fixture
def routed(device, monkeypatch):
    route(device, monkeypatch)
    return device


def network():
    return fd.Sequential(
        fd.Linear(20, 64, activation="relu", p=0.5, granularity="unit"),
        fd.Linear(64, 40, activation="gelu", p=0.2, input_p=0.1),
        fd.Dropout(0.3),
        fd.Linear(40, 32),
        fd.Tanh(),
        fd.Dropout(0.2, scaling="classic"),
        fd.Flatten(),
        fd.Linear(32, 5, bias=False),
        seed=7,
    )


def run(net, x, dy, train=True):
    y = net.forward(x, train)
    dx = net.backward(dy)
    return [y, dx, *net.grads.values()]


@pytest.mark.parametrize("train", [True, False], ids=["train", "test"])
def test_a_network_moves(device, monkeypatch, train):
    x, dy = draw((30, 20), 1).astype(np.float32), draw((30, 5), 2).astype(np.float32)
    want = run(network(), x, dy, train)
    net = network().to(device.tensor)
    route(device, monkeypatch)
    assert all(isinstance(a, torch.Tensor) for a in (*net.params.values(), *net.grads.values()))
    gradients = list(net.grads.values())
    got = run(net, device.tensor(x), device.tensor(dy), train)
    assert all(a is b for a, b in zip(gradients, net.grads.values(), strict=True))  # written in place
    for g, w in zip(got, want, strict=True):
        assert isinstance(g, torch.Tensor)
        assert np.allclose(wide(g), w, rtol=1e-4, atol=1e-4)
        assert np.array_equal(wide(g) == 0, w == 0)
    assert net.backward(device.tensor(dy), input_grad=False) is None


def test_steps_are_counted(routed):
    layer = fd.Dropout(0.5, seed=3, stream=1)
    x = routed.tensor(np.ones((40, 40), np.float32))
    for step in range(3):
        want = fd.reference.dropout_mask((40, 40), p=0.5, rng=fd.Philox(3, 1, step))
        assert np.array_equal(wide(layer(x)) != 0, want)
    assert layer(x, False) is x


def test_there_and_back(device):
    layer = fd.Linear(6, 4, seed=1)
    weight = layer.params["weight"].copy()
    layer.to(device.tensor).to(wide)
    assert np.array_equal(layer.params["weight"], weight)
    assert layer.grads["bias"].shape == (4,)


def test_wrong_gradients(routed):
    layer = fd.Dropout(0.5, seed=3)
    layer(routed.empty((4, 5), value=1.0))
    with pytest.raises(ValueError, match=r"dy must be \[4, 5\] to match the output; got \[5, 4\]"):
        layer.backward(routed.empty((5, 4)))
    with pytest.raises(TypeError, match=r"dy must be torch.float32 to match the output; got torch.float16"):
        layer.backward(routed.empty((4, 5), "float16"))
