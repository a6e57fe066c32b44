"""torch.func, forward mode, vmap and traces over the functions and modules."""

import copy

import fusedrop as fd
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap  # noqa: E402
from torch.testing._internal.two_tensor import TwoTensor  # noqa: E402

RNG = fd.Philox(seed=7, stream=3, step=1)
X = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(4, 5)
W = torch.linspace(1, -2, 15, dtype=torch.float64).reshape(3, 5)
MODULES = {
    "Linear": lambda: ft.Linear(5, 5, p=0.5, dtype=torch.float64, seed=1, stream=0),
    "Linear without dropout": lambda: ft.Linear(5, 5, dtype=torch.float64),
    "Dropout": lambda: ft.Dropout(0.5, seed=1, stream=0),
    "Dropout1d": lambda: ft.Dropout1d(0.5, seed=1, stream=0),
}
modules = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
ignored = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own, in forward mode


def dropout(x):
    return ft.dropout(x, p=0.4, rng=RNG)


def linear(x, w=W, activation="silu"):
    return ft.linear(x, w, p=0.4, input_p=0.2, rng=RNG, activation=activation)


@ignored
def test_every_jacobian_of_dropout_is_its_mask():
    mask = dropout(torch.ones_like(X))
    wanted = torch.diag(mask.flatten())
    for jacobian in (jacrev(dropout), jacfwd(dropout)):
        assert torch.equal(jacobian(X).reshape(20, 20), wanted)
    for second in (hessian, lambda f: jacrev(jacrev(f))):
        of_cubes = second(lambda x: (dropout(x) ** 3).sum())(X).reshape(20, 20)
        torch.testing.assert_close(of_cubes, torch.diag((6 * mask**3 * X).flatten()))
    y, tangent = jvp(dropout, (X,), (torch.ones_like(X),))
    assert torch.equal(y, dropout(X))
    assert torch.equal(tangent, mask)


@ignored
def test_forward_mode_of_dropout_and_its_refusal_for_linear():
    with torch.autograd.forward_ad.dual_level():
        x = torch.autograd.forward_ad.make_dual(X, torch.ones_like(X))
        tangent = torch.autograd.forward_ad.unpack_dual(dropout(x)).tangent
        assert torch.equal(tangent, dropout(torch.ones_like(X)))
        with pytest.raises(RuntimeError, match="fusedrop's linear has no forward-mode derivative"):
            linear(x)
    with pytest.raises(RuntimeError, match="fusedrop's linear has no forward-mode derivative"):
        jvp(linear, (X,), (X,))


@modules
def test_grad_of_a_module_in_training(make):
    module, x = make(), X.clone().requires_grad_()
    got = grad(lambda t: module(t).square().sum())(X)
    assert module.mask_key.step == 1
    module.mask_key.place(module.mask_key.seed, 0, 0)
    module(x).square().sum().backward()
    assert torch.equal(got, x.grad)


def test_jacrev_of_linear_and_the_refusal_of_a_second_one():
    rows = [
        torch.autograd.grad(linear(x := X.clone().requires_grad_())[i, j], x)[0] for i in range(4) for j in range(3)
    ]
    assert torch.equal(jacrev(linear)(X).reshape(12, 4, 5), torch.stack(rows))
    with pytest.raises(RuntimeError, match="fusedrop's linear has no second derivative"):
        jacrev(jacrev(linear))(X)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_vmap_is_one_call_per_example_with_one_mask(batch):
    xs, ws = torch.randn(batch, 4, 5), torch.randn(3, 5, batch)
    pairs = [(x, ws[..., i]) for i, x in enumerate(xs)]

    def wanted(calls, shape):
        return torch.stack(calls) if calls else torch.empty(0, *shape)

    assert torch.equal(vmap(dropout)(xs), wanted([dropout(x) for x in xs], (4, 5)))
    assert torch.equal(vmap(linear, (0, 2))(xs, ws), wanted([linear(x, w) for x, w in pairs], (4, 3)))
    assert torch.equal(vmap(linear, (None, 2))(X.float(), ws), wanted([linear(X.float(), w) for _, w in pairs], (4, 3)))
    per_example = vmap(grad(lambda w, x: linear(x, w).sum()), (None, 0))(W.float(), xs)
    assert per_example.shape == (batch, 3, 5)
    both = vmap(vmap(linear, (0, None)), (None, 2))(xs, ws)
    assert both.shape == (batch, batch, 4, 3)
    assert all(torch.equal(both[i, j], linear(xs[j], ws[..., i])) for i in range(batch) for j in range(batch))


def test_an_ensemble_of_modules():
    layers = [ft.Linear(5, 3, activation="gelu") for _ in range(3)]
    parameters, _ = stack_module_state(layers)
    base, x = copy.deepcopy(layers[0]), torch.randn(4, 5)
    got = vmap(lambda p: functional_call(base, p, (x,)))(parameters)
    assert torch.equal(got, torch.stack([layer(x) for layer in layers]))


@pytest.mark.parametrize("make", [m for n, m in MODULES.items() if n != "Linear without dropout"])
def test_vmaps_randomness_means_the_same_as_in_torch_except_different(make):
    """No call draws a mask per example: "different" raises an error instead of using one mask."""
    xs = X.expand(3, 4, 5)
    y = vmap(make(), randomness="same")(xs)
    assert torch.equal(y, y[:1].expand_as(y))
    for randomness in ("error", "different"):
        with pytest.raises(RuntimeError, match="vmap: "):
            vmap(make(), randomness=randomness)(xs)


def test_autocast_inside_grad():
    layer, kinds = ft.Linear(5, 3), []

    def loss(parameters):
        y = functional_call(layer, parameters, (X.float(),), {"residual": torch.ones(4, 3)})
        z = functional_call(layer, parameters, (X.float(),))
        kinds.extend((y.dtype, z.dtype))
        return (y + z).sum()

    with torch.autocast("cpu", torch.bfloat16):
        gradients = grad(loss)(dict(layer.named_parameters()))
    assert kinds == [torch.float32, torch.bfloat16]
    assert {g.dtype for g in gradients.values()} == {torch.float32}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace_takes_an_evaluating_model_and_refuses_a_training_one():
    model = torch.nn.Sequential(ft.Linear(5, 3, activation="relu", p=0.5), ft.Dropout()).double()
    with pytest.raises(torch.jit.TracingCheckError):
        torch.jit.trace(model, X)
    traced = torch.jit.trace(model.eval(), X)
    assert torch.equal(traced(X), model(X))
    assert torch.equal(traced(X[:2]), model(X[:2]))


@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_functions_take_any_key_and_batch(dynamic):
    compiled = torch.compile(
        lambda x, rng: ft.dropout(x, p=0.4, rng=rng), backend="aot_eager", fullgraph=True, dynamic=dynamic
    )
    for rows in (4, 7, 1, 0):
        x, rng = torch.ones(rows, 5), fd.Philox(rows, 2, 3)
        assert torch.equal(compiled(x, rng), ft.dropout(x, p=0.4, rng=rng))
    torch._dynamo.reset()


@pytest.mark.parametrize("activation", ["identity", "relu", "gelu"])
def test_batched_gradients(activation):
    w, dys = W.clone().requires_grad_(), torch.randn(3, 4, 3, dtype=torch.float64)
    y = linear(X, w, activation)
    (together,) = torch.autograd.grad(y, w, dys, is_grads_batched=True, retain_graph=True)
    single = [torch.autograd.grad(y, w, dy, retain_graph=True)[0] for dy in dys]
    assert torch.equal(together, torch.stack(single))


def test_lazily_negated_and_zero_tensors():
    """A view by .conj().imag stores its sign as a flag of the tensor. A zero tensor has no memory."""
    negated = torch.complex(X, X).conj().imag
    assert negated.is_neg()
    assert torch.equal(dropout(negated), dropout(-X))
    assert torch.equal(linear(negated), linear(-X))
    w = W.clone().requires_grad_()
    got, wanted = (torch.autograd.grad(linear(X, w), w, dy[:, :3])[0] for dy in (negated, -X))
    assert torch.equal(got, wanted)
    assert torch.equal(dropout(torch._efficientzerotensor((4, 5))), torch.zeros(4, 5))


def test_wrapper_subclasses_in_any_place():
    for place in range(4):
        tensors = [X.clone(), W.clone(), torch.ones(3).double(), torch.ones(4, 3).double()]
        wanted = ft.linear(*tensors[:3], residual=tensors[3], p=0.4, rng=RNG)
        tensors[place] = TwoTensor(tensors[place], tensors[place] * 0)
        x, w, b, residual = tensors
        y = ft.linear(x, w, b, residual=residual, p=0.4, rng=RNG)
        assert isinstance(y, TwoTensor)
        assert torch.equal(y.a, wanted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tracers_that_support_torch_nn_only():
    """torch.fx traces through all modules but those of torch.nn. torch.jit.script compiles Python."""
    for model in (ft.Linear(5, 3), ft.Dropout().train()):
        with pytest.raises(TypeError, match=r"^x must be a torch\.Tensor; got Proxy"):
            torch.fx.symbolic_trace(torch.nn.Sequential(model))
        with pytest.raises((RuntimeError, torch.jit.frontend.NotSupportedError)):
            torch.jit.script(model)


def test_functionalize_is_refused():
    with pytest.raises(RuntimeError, match="Functionalize rule"):
        torch.func.functionalize(dropout)(X)
