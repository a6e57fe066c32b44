"""Optimizers against their formulas in float64, against torch.optim, and the penalties against finite differences."""

import fusedrop as fd
import numpy as np
import pytest
from finite_differences import assert_gradient

STEPS = 8
DTYPES = ["float32", "float64"]
SHAPES = {"weight": (5, 4), "bias": (5,)}
PENALTIES = [(0.0, 0.0), (0.03, 0.0), (0.0, 0.05), (0.03, 0.05)]
penalties = pytest.mark.parametrize(("l1", "l2"), PENALTIES, ids=["none", "l1", "l2", "both"])


def gradients(step):
    """The same for every run: gradients of one step, float64 values that float32 holds too."""
    normal = np.random.default_rng([1, step]).standard_normal
    return {key: normal(shape).astype(np.float32).astype(np.float64) for key, shape in SHAPES.items()}


def new_layer(dtype):
    layer = fd.Linear(4, 5, dtype=dtype, seed=1)
    layer.params["bias"][...] = np.linspace(-1, 1, 5)
    return layer


def run(make, dtype, rates=(None,) * STEPS):
    """The layer's parameters after STEPS steps, and the layer; `rates` are set on the live optimizer."""
    layer = new_layer(dtype)
    arrays = dict(layer.params)
    optimizer = make(layer.parameters())
    for step in range(STEPS):
        for key, g in gradients(step).items():
            layer.grads[key][...] = g
        before = {key: g.copy() for key, g in layer.grads.items()}
        optimizer.lr = rates[step] or optimizer.lr
        optimizer.step()
        for key, g in layer.grads.items():
            assert np.array_equal(g, before[key]), "a step must not change the gradients"
    for key, array in layer.params.items():
        assert array is arrays[key], "updates are in place"
        assert array.dtype == dtype
    return layer


def penalized(key, w, g, l1, l2):
    return g + l2 * w + l1 * np.sign(w) if key == "weight" else g


def sgd(key, w, lr, momentum, nesterov, l1, l2):
    """w after STEPS steps, and the sizes of all terms that were added on the way."""
    v, size_v, size = np.zeros_like(w), np.zeros_like(w), np.abs(w)
    for step in range(STEPS):
        g = penalized(key, w, gradients(step)[key], l1, l2)
        size_g = np.abs(gradients(step)[key]) + l2 * np.abs(w) + l1
        v, size_v = momentum * v + g, momentum * size_v + size_g
        w = w - lr[step] * (g + momentum * v if nesterov else v)
        size = size + lr[step] * (size_g + size_v)
    return w, size


def adam(key, w, lr, beta1, beta2, eps, l1, l2):
    m, v, size_m, size = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w), np.abs(w)
    for step in range(STEPS):
        g = penalized(key, w, gradients(step)[key], l1, l2)
        size_g = np.abs(gradients(step)[key]) + l2 * np.abs(w) + l1
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        size_m = beta1 * size_m + (1 - beta1) * size_g
        root = np.sqrt(v / (1 - beta2 ** (step + 1))) + eps
        w = w - lr[step] * m / (1 - beta1 ** (step + 1)) / root
        # a relative error of g enters v twice, and v may be smaller than the terms it was made of
        size = size + lr[step] * size_m / (1 - beta1 ** (step + 1)) / root * (1 + 2 * (size_g / np.abs(g)).max())
    return w, size


ROUNDINGS = 10  # of one update, each relative to the terms it adds; those of a moment live on in every later step


def assert_follows(layer, dtype, formula, *options):
    for key, start in new_layer(dtype).params.items():
        want, size = formula(key, start.astype(np.float64), *options)
        bound = ROUNDINGS * STEPS * np.finfo(dtype).eps * size
        got = layer.params[key]
        assert (np.abs(got - want) <= bound).all(), f"{key}: off by {np.abs(got - want).max()}, bound {bound.min()}"
        assert (np.abs(want - start) > 100 * bound).any(), "the bound must be far below what the steps do"


@pytest.mark.parametrize("dtype", DTYPES)
@penalties
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(isa, momentum, nesterov, l1, l2, dtype):
    options = {"lr": 0.1, "momentum": momentum, "nesterov": nesterov, "l1": l1, "l2": l2}
    layer = run(lambda parameters: fd.training.SGD(parameters, **options), dtype)
    assert_follows(layer, dtype, sgd, [0.1] * STEPS, momentum, nesterov, l1, l2)


@pytest.mark.parametrize("dtype", DTYPES)
@penalties
@pytest.mark.parametrize(("betas", "eps"), [((0.9, 0.999), 1e-8), ((0.8, 0.95), 0.1), ((0.0, 0.0), 0.01)])
def test_adam(isa, betas, eps, l1, l2, dtype):
    options = {"lr": 0.02, "betas": betas, "eps": eps, "l1": l1, "l2": l2}
    layer = run(lambda parameters: fd.training.Adam(parameters, **options), dtype)
    assert_follows(layer, dtype, adam, [0.02] * STEPS, *betas, eps, l1, l2)


def test_defaults_of_adam():
    layer = run(fd.training.Adam, "float64")
    assert_follows(layer, "float64", adam, [1e-3] * STEPS, 0.9, 0.999, 1e-8, 0.0, 0.0)


def test_a_rate_set_between_steps():
    rates = [0.1, 0.1, 0.01, 0.02, 0.3, 0.3, 0.2, 0.1]
    layer = run(lambda parameters: fd.training.SGD(parameters, lr=1, momentum=0.5), "float64", rates)
    assert_follows(layer, "float64", sgd, rates, 0.5, False, 0.0, 0.0)
    layer = run(lambda parameters: fd.training.Adam(parameters), "float64", rates)
    assert_follows(layer, "float64", adam, rates, 0.9, 0.999, 1e-8, 0.0, 0.0)


@pytest.mark.parametrize("make", [fd.training.SGD, fd.training.Adam])
def test_a_rate_of_zero_changes_nothing(make):
    layer = run(lambda parameters: make(parameters, lr=0, l2=0.1), "float32")
    for key, start in new_layer("float32").params.items():
        assert np.array_equal(layer.params[key], start)


@penalties
def test_penalty_is_what_the_steps_descend(l1, l2):
    """With gradients of 0 a step of plain SGD moves by lr times the derivative of penalty(), biases not at all."""
    layer = fd.Linear(4, 5, dtype="float64", seed=1)
    layer.params["bias"][...] = 3
    optimizer = fd.training.SGD(layer.parameters(), lr=1.0, l1=l1, l2=l2)
    weight = layer.params["weight"]
    assert np.abs(weight).min() > 2e-4  # the differences must not cross the corner of |w|
    start = weight.copy()
    want = l1 * np.abs(weight).sum() + l2 / 2 * np.square(weight).sum()
    assert optimizer.penalty() == pytest.approx(want, rel=4 * weight.size * np.finfo(np.float64).eps)
    optimizer.step()
    moved = start - weight
    weight[...] = start
    assert_gradient(optimizer.penalty, weight, moved, operations=4 * weight.size)
    assert (layer.params["bias"] == 3).all()


@penalties
def test_a_step_descends_the_whole_objective(l1, l2):
    """Loss under dropout + penalty(): with lr = 1 plain SGD moves every parameter by the objective's derivative."""
    first = fd.Linear(4, 6, activation="tanh", p=0.3, dtype="float64")
    net = fd.Sequential(first, fd.Linear(6, 3, dtype="float64"), seed=1)
    optimizer = fd.training.SGD(net.parameters(), lr=1.0, l1=l1, l2=l2)
    x, labels = np.random.default_rng(0).standard_normal((9, 4)), np.arange(9) % 3
    mask = first.mask_key.rng

    def loss_and_gradient():
        first.mask_key.rng = mask
        return fd.softmax_cross_entropy(net(x), labels)

    net.backward(loss_and_gradient()[1])
    start = [p.value.copy() for p in net.parameters()]
    optimizer.step()
    moved = [before - p.value for before, p in zip(start, net.parameters(), strict=True)]
    for before, p in zip(start, net.parameters(), strict=True):
        p.value[...] = before
    operations = 4 * sum(a.size for a in start)
    for p, by in zip(net.parameters(), moved, strict=True):
        assert p.value.ndim < 2 or np.abs(p.value).min() > 2e-4  # the differences must not cross the corner of |w|
        objective = lambda: loss_and_gradient()[0] + optimizer.penalty()  # noqa: E731
        assert_gradient(objective, p.value, by, operations=operations, name=p.name)


def torch_run(make, layer):
    """The same steps by torch: weight decay on the weight alone, as fusedrop's penalties."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no peer to compare with")
    values = {key: torch.nn.Parameter(torch.from_numpy(a.copy())) for key, a in layer.params.items()}
    optimizer = make(torch, values["weight"], values["bias"])
    for step in range(STEPS):
        for key, g in gradients(step).items():
            values[key].grad = torch.from_numpy(g.astype(layer.dtype))
        optimizer.step()
    return {key: value.detach().numpy() for key, value in values.items()}


def torch_groups(weight, bias, l2):
    return [{"params": [weight], "weight_decay": l2}, {"params": [bias], "weight_decay": 0.0}]


@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_is_torchs(momentum, nesterov, l2):
    options = {"lr": 0.1, "momentum": momentum, "nesterov": nesterov}
    want = torch_run(lambda torch, w, b: torch.optim.SGD(torch_groups(w, b, l2), **options), new_layer("float64"))
    layer = run(lambda parameters: fd.training.SGD(parameters, l2=l2, **options), "float64")
    for key, start in new_layer("float64").params.items():
        _, size = sgd(key, start, [0.1] * STEPS, momentum, nesterov, 0.0, l2)
        bound = 2 * ROUNDINGS * STEPS * np.finfo(np.float64).eps * size
        assert (np.abs(layer.params[key] - want[key]) <= bound).all()


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_adam_is_torchs(l2):
    options = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 0.01}
    want = torch_run(lambda torch, w, b: torch.optim.Adam(torch_groups(w, b, l2), **options), new_layer("float64"))
    layer = run(lambda parameters: fd.training.Adam(parameters, l2=l2, **options), "float64")
    for key, start in new_layer("float64").params.items():
        _, size = adam(key, start, [0.02] * STEPS, 0.8, 0.95, 0.01, 0.0, l2)
        bound = 2 * ROUNDINGS * STEPS * np.finfo(np.float64).eps * size
        assert (np.abs(layer.params[key] - want[key]) <= bound).all()


@pytest.mark.parametrize(
    "make", [fd.training.SGD, fd.training.Adam, lambda p, lr: fd.training.SGD(p, lr=lr, momentum=0.9, l1=0.1, l2=0.1)]
)
def test_the_same_bits_for_any_threads_strides_and_vector_width(make, threads):
    """300 x 333 elements: several threads, pieces and a tail; a strided parameter goes through a copy and back."""
    results = []
    before = fd.config.get_isa()
    for isa in fd.config.available_isas():
        for count, order in ((1, "C"), (3, "C"), (2, "F")):
            fd.config.set_isa(isa)
            threads(count)
            layer = fd.Linear(333, 300, seed=1)
            layer.params["weight"] = np.array(layer.params["weight"], order=order)
            layer.grads["weight"][...] = np.random.default_rng(2).standard_normal((300, 333))
            optimizer = make(layer.parameters(), lr=0.1)
            optimizer.step()
            optimizer.step()
            results.append(layer.params["weight"])
    fd.config.set_isa(before)
    assert len(results) == 3 * len(fd.config.available_isas())
    for result in results[1:]:
        assert np.array_equal(result, results[0])


def test_a_parameter_replaced_by_another_shape_is_refused():
    """Its momentum no longer fits: the step raises and changes nothing."""
    layer = fd.Linear(4, 5, seed=1)
    optimizer = fd.training.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    optimizer.step()
    layer.params["weight"] = np.ones((2, 2), np.float32)
    layer.grads["weight"] = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match=r"state must fit its parameter \[2, 2\]; got \[5, 4\]"):
        optimizer.step()
    assert (layer.params["weight"] == 1).all()


def test_a_gradient_that_does_not_match_is_refused():
    layer = fd.Linear(4, 5, seed=1)
    optimizer = fd.training.SGD(layer.parameters(), lr=0.1)
    layer.grads["weight"] = np.ones((5, 3), np.float32)
    with pytest.raises(ValueError, match=r"weight's gradient must be \[5, 4\] to match weight; got \[5, 3\]"):
        optimizer.step()
    layer.grads["weight"] = np.ones((5, 4))
    with pytest.raises(TypeError, match="weight's gradient must be float32 to match weight; got float64"):
        optimizer.step()


def test_tied_weights_take_both_gradients():
    """A weight that is another's transpose: the second update starts from the first."""
    first, second = fd.Linear(3, 3, bias=False, seed=1), fd.Linear(3, 3, bias=False, seed=2)
    first.params["weight"][...] = 0
    second.params["weight"] = first.params["weight"].T
    first.grads["weight"][...], second.grads["weight"][...] = 1, 10
    fd.training.SGD([*first.parameters(), *second.parameters()], lr=1.0).step()
    assert (first.params["weight"] == -11).all()


def test_a_refused_step_changes_nothing():
    layers = [fd.Linear(4, 5, seed=1), fd.Linear(5, 4, seed=2)]
    layers[1].params["weight"] = np.asfortranarray(layers[1].params["weight"])
    layers[1].params["weight"].flags.writeable = False
    optimizer = fd.training.Adam([p for layer in layers for p in layer.parameters()])
    before = layers[0].params["weight"].copy()
    layers[0].grads["weight"][...] = 1
    with pytest.raises(ValueError, match="weight must be writeable; got a read-only array"):
        optimizer.step()
    assert np.array_equal(layers[0].params["weight"], before)
    assert optimizer._steps == 0
