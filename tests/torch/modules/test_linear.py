"""PyTorch's own tests of torch.nn.Linear and its autograd, for fusedrop.torch.Linear and linear."""

import fusedrop as fd
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402
from fusedrop.torch.operators import SAVED  # noqa: E402

RNG = fd.Philox(seed=7, stream=3, step=1)
M, K, N = 4, 5, 3
MASKED = {"p": 0.4, "input_p": 0.2, "rng": RNG}
activations = pytest.mark.parametrize("activation", SAVED)


def normal(*shape, dtype=torch.float64, grad=False):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, dtype=dtype, generator=generator).requires_grad_(grad)


def product_bound(x, w, b):
    """|computed - exact| of x wᵀ + b in one library is at most (K + 2) u (|x| |w|ᵀ + |b|); twice that for two."""
    size = x.detach().abs() @ w.detach().abs().T + (0 if b is None else b.detach().abs())
    return 2 * (x.shape[-1] + 2) * torch.finfo(x.dtype).eps * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (M,), (2, M), (2, 0, M), (0,), (2, 1, 3, M)], ids=str)
def test_without_dropout_it_is_torch_nn_linear(dtype, bias, lead):
    theirs = torch.nn.Linear(K, N, bias, dtype=dtype)
    ours = ft.Linear(K, N, bias, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    x = normal(*lead, K, dtype=torch.float32).to(dtype)
    wanted, y = theirs(x), ours(x)
    assert y.shape == wanted.shape
    assert y.dtype == dtype
    off = (y.double() - wanted.double()).abs()
    assert (off <= product_bound(x, theirs.weight, theirs.bias).double()).all()


@pytest.mark.parametrize("bias", [True, False])
def test_no_features_in_or_out(bias):
    with pytest.warns(UserWarning, match="Initializing zero-element tensors"):
        no_inputs, no_outputs = ft.Linear(0, N, bias), ft.Linear(K, 0, bias)
    y = no_inputs(torch.ones(M, 0))
    assert torch.equal(y, (no_inputs.bias if bias else torch.zeros(N)).expand(M, N))
    assert no_outputs(torch.ones(M, K)).shape == (M, 0)
    (y.sum() + no_outputs(torch.ones(M, K)).sum()).backward()
    assert no_outputs.weight.grad.shape == (0, K)
    assert not bias or torch.equal(no_inputs.bias.grad, torch.full((N,), float(M)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_initial_weights_and_the_generator_are_those_of_torch_nn_linear(dtype, bias):
    torch.manual_seed(4)
    theirs = torch.nn.Linear(K, N, bias, dtype=dtype)
    following = torch.rand(())
    torch.manual_seed(4)
    ours = ft.Linear(K, N, bias, dtype=dtype, p=0.5, seed=3)
    assert torch.rand(()) == following
    for _ in range(2):
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias) if bias else ours.bias is None
        for module in (ours, theirs):
            torch.manual_seed(5)
            module.reset_parameters()


def test_state_dict_is_that_of_torch_nn_linear():
    theirs, ours = torch.nn.Linear(K, N), ft.Linear(K, N, p=0.5, activation="gelu", seed=1)
    assert isinstance(ours, torch.nn.Linear)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "bias"]
    assert str(ours.load_state_dict(theirs.state_dict())) == "<All keys matched successfully>"
    assert torch.equal(ours.weight, theirs.weight)
    theirs.load_state_dict(ft.Linear(K, N).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        ours.load_state_dict(torch.nn.Linear(K, N + 1).state_dict())


@activations
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("dropout_first", [False, True], ids=["activation first", "dropout first"])
def test_gradcheck(activation, residual, dropout_first):
    """No sum is near 0: within gradcheck's step of 0, relu has no derivative."""
    x, w, b, r = normal(M, K, grad=True), normal(N, K, grad=True), normal(N, grad=True), normal(M, N, grad=True)
    options = {**MASKED, "activation": activation, "dropout_first": dropout_first}

    def linear(x, w, b, r=None):
        return ft.linear(x, w, b, residual=r, **options)

    assert torch.autograd.gradcheck(linear, (x, w, b, r) if residual else (x, w, b))


@pytest.mark.parametrize("wanted", range(16), ids=lambda n: f"{n:04b}")
def test_every_combination_of_operands_that_require_a_gradient(wanted):
    flags = [bool(wanted >> i & 1) for i in range(4)]
    tensors = [normal(*shape) for shape in ((M, K), (N, K), (N,), (M, N))]
    every = [t.clone().requires_grad_() for t in tensors]
    some = [t.clone().requires_grad_(flag) for t, flag in zip(tensors, flags, strict=True)]
    for x, w, b, r in (every, some):
        y = ft.linear(x, w, b, residual=r, activation="silu", **MASKED)
        assert y.requires_grad == any(t.requires_grad for t in (x, w, b, r))
        if y.requires_grad:
            y.square().sum().backward()
    for all_of_them, one, flag in zip(every, some, flags, strict=True):
        assert (one.grad is not None) == flag
        assert not flag or torch.equal(one.grad, all_of_them.grad)


def test_no_grad_and_detached_outputs():
    layer = ft.Linear(K, N, p=0.5)
    with torch.no_grad():
        assert not layer(normal(M, K, dtype=torch.float32)).requires_grad
    layer.requires_grad_(False)
    assert layer(normal(M, K, dtype=torch.float32)).grad_fn is None


@activations
def test_a_second_derivative_is_refused(activation):
    x, w = normal(M, K, grad=True), normal(N, K, grad=True)
    y = ft.linear(x, w, activation=activation, **MASKED)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="fusedrop's linear has no second derivative"):
        dx.sum().backward()


LAYOUTS = {
    "expanded": lambda t: t[:1].expand(t.shape),
    "transposed": lambda t: t.T.contiguous().T,
    "sliced": lambda t: torch.stack((t, t), -1)[..., 0],
    "expanded scalar": lambda t: t[0, 0].expand(t.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@activations
def test_the_layout_of_dy_x_and_w_changes_no_bit(layout, activation):
    of = LAYOUTS[layout]
    results = []
    for view in (lambda t: of(t).contiguous(), of):
        x, w = view(normal(M, K)).detach().requires_grad_(), view(normal(N, K)).detach().requires_grad_()
        y = ft.linear(x, w, activation=activation, **MASKED)
        assert y.is_contiguous()
        results.append((y, *torch.autograd.grad(y, (x, w), view(normal(M, N)))))
    assert all(map(torch.equal, *results))


def test_x_is_a_view_and_feeds_two_layers():
    base = normal(M, 2 * K, grad=True)
    w = normal(N, K)
    x = base[:, ::2]
    y = ft.linear(x, w, activation="tanh", **MASKED) + ft.linear(x, w, activation="silu", **MASKED)
    y.backward(torch.ones_like(y))
    parts = [torch.autograd.grad(ft.linear(x, w, activation=a, **MASKED).sum(), base)[0] for a in ("tanh", "silu")]
    assert torch.equal(base.grad, parts[0] + parts[1])
    assert (base.grad[:, 1::2] == 0).all()


@activations
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_only_changing_what_backward_needs_raises(activation, residual):
    """Only relu, tanh and sigmoid need y, so ReLU(inplace=True) may follow an identity layer."""
    r = normal(M, N) if residual else None
    for changed in ("x", "w", "y", "residual"):
        x, w = normal(M, K, grad=True) * 1, normal(N, K, grad=True) * 1
        y = ft.linear(x, w, residual=r, activation=activation, **MASKED)
        wanted = torch.autograd.grad(y.sum(), (x, w), retain_graph=True)
        with torch.no_grad():
            {"x": x, "w": w, "y": y.detach(), "residual": r if residual else normal(1)}[changed].mul_(2)
        if changed in ("x", "w") or (changed == "y" and SAVED[activation] == "y" and not residual):
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                torch.autograd.grad(y.sum(), (x, w))
        else:
            assert all(map(torch.equal, torch.autograd.grad(y.sum(), (x, w)), wanted))


def test_only_what_backward_needs_is_saved():
    """The graph saves no [M, N] tensor for identity, and one for each other activation."""
    x, w = normal(M, K, grad=True), normal(N, K, grad=True)
    for activation, kind in SAVED.items():
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t) or t, lambda t: t):
            ft.linear(x, w, activation=activation, **MASKED)
        assert sum(t.shape == (M, N) for t in saved) == (kind != "nothing"), activation


BAD = [
    ("x", [[1.0]], TypeError, "x must be a torch.Tensor; got list"),
    ("w", 3, TypeError, "w must be a torch.Tensor; got int"),
    ("b", 1.0, TypeError, "b must be a torch.Tensor; got float"),
    ("residual", [1.0], TypeError, "residual must be a torch.Tensor; got list"),
    ("x", torch.tensor(1.0), ValueError, "x must be [..., K], a tensor of rank 1 or more; got a scalar"),
    ("w", torch.tensor(1.0), ValueError, "w must be [N, K] = [*, 5] to match x [4, 5]; got []"),
    ("w", torch.ones(N, K + 1), ValueError, "w must be [N, K] = [*, 5] to match x [4, 5]; got [3, 6]"),
    ("w", torch.ones(K), ValueError, "w must be [N, K] = [*, 5] to match x [4, 5]; got [5]"),
    ("b", torch.ones(N + 1), ValueError, "b must be [N] = [3] to match w [3, 5]; got [4]"),
    ("residual", torch.ones(M), ValueError, "residual must be [M, N] = [4, 3] to match y; got [4]"),
    ("w", torch.ones(N, K, dtype=torch.float64), TypeError, "w must be float32 to match x; got float64"),
    ("x", torch.ones(M, K).half(), TypeError, "x must be an array of float32, float64 or bfloat16; got torch.float16"),
    ("x", torch.ones(M, K).long(), TypeError, "x must be an array of float32, float64 or bfloat16; got torch.int64"),
    ("x", torch.ones(M, K).to_sparse(), TypeError, "x must be a dense tensor, torch.strided; got torch.sparse_coo"),
    ("rng", 3, TypeError, "rng must be a fusedrop.Philox or None; got int"),
    ("rng", None, ValueError, "rng is required where p > 0"),
    ("rng", RNG.at(row0=2**32 - 2), ValueError, "rng.row0 + M must not exceed 4294967295 rows of the mask"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), BAD, ids=[f"{b[0]} {i}" for i, b in enumerate(BAD)])
def test_bad_arguments(name, value, error, message):
    arguments = {
        "x": torch.ones(M, K),
        "w": torch.ones(N, K),
        "b": torch.ones(N),
        "residual": None,
        "p": 0.5,
        "rng": RNG,
    }
    with pytest.raises(error) as caught:
        ft.linear(**{**arguments, name: value})
    assert str(caught.value).startswith(message)
