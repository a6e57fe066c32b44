"""Sequential: order, names, gradients against finite differences, and replaced parameters are seen."""

import fusedrop as fd
import numpy as np
import pytest
from finite_differences import assert_gradient


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


LABELS = np.arange(6) % 3


def with_everything():
    """All layers, both orders and scalings, every activation, in float64."""

    def linear(*sizes, **options):
        return fd.Linear(*sizes, dtype="float64", **options)

    return fd.Sequential(
        fd.Flatten(),
        linear(6, 7, activation="gelu", p=0.3, input_p=0.2),
        fd.Dropout(0.3),
        fd.Sequential(linear(7, 8, activation="silu", p=0.4, dropout_first=True), fd.Tanh()),
        linear(8, 7, activation="relu", p=0.2, granularity="unit"),
        fd.SiLU(),
        fd.Sequential(
            fd.Sequential(linear(7, 6, activation="gelu_tanh", bias=False), fd.Dropout(0.2, scaling="classic"))
        ),
        linear(6, 6, activation="tanh", dropout_first=True, p=0.1),
        fd.GELU(),
        linear(6, 5, activation="sigmoid", p=0.2),
        fd.ReLU(),
        fd.Sigmoid(),
        linear(5, 3),
        seed=4,
    )


def masks_held(net):
    """A forward call that draws the same masks every time."""
    keys = [leaf.mask_key for leaf in net.leaves() if hasattr(leaf, "mask_key")]
    rngs = [key.rng for key in keys]

    def forward(x, train):
        for key, rng in zip(keys, rngs, strict=True):
            key.rng = rng
        return net.forward(x, train)

    return forward


@pytest.mark.parametrize("train", [True, False], ids=["train", "test"])
def test_gradients_are_the_derivatives_of_the_loss(train):
    net, x = with_everything(), normal(6, 2, 3)
    for p in net.parameters():
        p.value[...] += 0.3 * normal(*p.value.shape, seed=1)  # biases off zero, where relu has its corner
    forward = masks_held(net)

    def loss():
        return fd.softmax_cross_entropy(forward(x, train), LABELS)[0]

    _, dlogits = fd.softmax_cross_entropy(forward(x, train), LABELS)
    dx = net.backward(dlogits)
    gradients = {p.name: p.grad.copy() for p in net.parameters()}
    operations = 2 * sum(p.value.size for p in net.parameters())
    assert_gradient(loss, x, dx, operations=operations, name="dx")
    for p in net.parameters():
        assert np.abs(gradients[p.name]).max() > 0
        assert_gradient(loss, p.value, gradients[p.name], operations=operations, name=p.name)


def test_forward_is_the_layers_in_a_row():
    net, twin = with_everything(), with_everything()
    x, dy = normal(6, 2, 3), normal(6, 3)
    for train in (True, False, True):
        y = x
        for layer in twin:
            y = layer.forward(y, train)
        assert np.array_equal(net.forward(x, train), y)
        dx = dy
        for layer in reversed(list(twin)):
            dx = layer.backward(dx)
        assert np.array_equal(net.backward(dy), dx)
    assert np.array_equal(net(x), twin(x))
    assert np.array_equal(net(x, False), twin(x, train=False))


@pytest.mark.parametrize(
    "first",
    [[], [fd.Flatten(), fd.Dropout(0.5), fd.Tanh()], [fd.Sequential(fd.Flatten(), fd.ReLU())]],
    ids=["Linear", "others", "nested"],
)
def test_no_input_gradient_where_none_is_wanted(first):
    net = fd.Sequential(*first, fd.Linear(4, 5, p=0.5, activation="relu"), fd.Linear(5, 3), seed=1)
    net(np.ones((6, 4), np.float32))
    dy = normal(6, 3).astype(np.float32)
    assert net.backward(dy).shape == (6, 4)
    full = {key: g.copy() for key, g in net.grads.items()}
    for g in net.grads.values():
        g[...] = np.nan
    assert net.backward(dy, False) is None
    assert net.backward(dy, input_grad=False) is None
    for key, g in net.grads.items():
        assert np.array_equal(g, full[key])


def test_the_first_trained_layer_is_spared_its_input_gradient(monkeypatch):
    """It skips a third of that layer's work; the layers before it are not called."""
    net = fd.Sequential(fd.Tanh(), fd.Linear(4, 4, seed=1), fd.ReLU(), fd.Linear(4, 3, seed=2))
    asked = []
    for i, layer in enumerate(net):

        def spy(dy, input_grad=True, i=i, backward=layer.backward):
            asked.append((i, input_grad))
            return backward(dy, input_grad)

        monkeypatch.setattr(layer, "backward", spy)
    net(np.ones((6, 4), np.float32))
    net.backward(np.ones((6, 3), np.float32), input_grad=False)
    assert asked == [(3, True), (2, True), (1, False)]


def test_a_network_without_parameters_has_an_input_gradient_only():
    net = fd.Sequential(fd.Tanh(), fd.Flatten())
    net(normal(2, 3))
    assert net.parameters() == []
    assert net.backward(normal(2, 3), input_grad=False) is None
    assert net.backward(normal(2, 3)).shape == (2, 3)


def test_names_of_parameters():
    net = fd.Sequential(fd.ReLU(), fd.Linear(3, 4), fd.Sequential(fd.Linear(4, 2, bias=False), fd.Linear(2, 2)))
    names = ["1.weight", "1.bias", "2.0.weight", "2.1.weight", "2.1.bias"]
    assert [p.name for p in net.parameters()] == names
    assert list(net.params) == list(net.grads) == names
    for p in net.parameters():
        assert p.value is net.params[p.name]
        assert p.grad is net.grads[p.name]
        assert p.grad.shape == p.value.shape
        assert p.grad.dtype == p.value.dtype
    assert net.params["2.1.bias"] is net[2][1].params["bias"]
    assert (len(net), next(iter(net)), net[-1]) == (3, net[0], net.layers[2])


def linear_values(layer, x, dy):
    """The expected output, from copies of the layer's parameters."""
    w, b = layer.params["weight"].copy(), layer.params["bias"].copy()
    y, saved = fd.linear_forward(x, w, b, activation="tanh", p=0.5, rng=layer.mask_key.rng)
    return [y, *fd.linear_backward(dy, saved)]


@pytest.mark.parametrize(
    "change", ["in place", "replaced", "replaced by another layout", "through Parameter", "by SGD"]
)
def test_changed_parameters_take_effect_at_once(change):
    layer = fd.Linear(6, 8, activation="tanh", p=0.5, seed=1)
    net, x, dy = fd.Sequential(layer), normal(5, 6).astype("f4"), normal(5, 8).astype("f4")
    parameters, optimizer = net.parameters(), fd.training.SGD(net.parameters(), lr=0.5)
    outputs = []
    for step in range(3):
        outputs.append(net(x, False))
        weight, bias = (a.copy() for a in layer.params.values())
        if change == "in place":
            layer.params["weight"][...] *= 2
            layer.params["bias"] += 1
        elif change == "replaced":
            layer.params["weight"], layer.params["bias"] = weight * 2, bias + 1
        elif change == "replaced by another layout":
            layer.params["weight"], layer.params["bias"] = np.asfortranarray(weight * 2), np.repeat(bias + 1, 2)[::2]
        elif change == "through Parameter":
            parameters[0].value[0, 0] += step + 1
        else:
            net(x), net.backward(dy), optimizer.step()
        want = linear_values(layer, x, dy)
        got = [net(x), net.backward(dy), layer.grads["weight"], layer.grads["bias"]]
        for a, b in zip(got, want, strict=True):
            assert np.array_equal(a, b)
        assert (net(x, False) != outputs[-1]).any()


def test_an_optimizer_follows_replaced_parameters():
    layer = fd.Linear(3, 2, seed=1)
    optimizer = fd.training.SGD(layer.parameters(), lr=1.0, momentum=0.5)
    optimizer.step()
    old = layer.params["weight"]
    new = layer.params["weight"] = old.copy()
    layer.grads["weight"][...] = 1
    optimizer.step()
    assert np.array_equal(new, old - 1)


def test_repr_shows_how_to_build_it():
    net = fd.Sequential(
        fd.Flatten(),
        fd.Linear(4, 3),
        fd.Linear(3, 3, activation="relu", p=0.5, input_p=0.2),
        fd.Dropout(0.25),
        fd.Sequential(fd.Dropout(0.5, scaling="classic"), fd.GELU()),
    )
    assert repr(net) == (
        "Sequential(Flatten(), Linear(4, 3), Linear(3, 3, activation='relu', p=0.5, input_p=0.2), "
        "Dropout(0.25), Sequential(Dropout(0.5, scaling='classic'), GELU()))"
    )
    assert repr(eval(repr(net), dict(vars(fd)))) == repr(net)
    assert repr(net.parameters()[0]) == "Parameter(1.weight, shape=(3, 4), dtype=float32)"
