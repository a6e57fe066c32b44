"""The operators alone: PyTorch's own checker, gradients in float64, and the kernels' bits."""

import itertools

import fusedrop as fd
import numpy as np
import pytest
from fusedrop import reference

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402
from fusedrop.torch import operators  # noqa: E402
from fusedrop.torch.mask_key import TrainingCalls  # noqa: E402

KEY = (operators.signed(2**64 - 5), 3, 11, 7, 64, 2, 5, None)  # seed, stream, step, row0, col0, repeat, period, drawn
RNG = fd.Philox(2**64 - 5, 3, 11, 7, 64, 2, 5)
M, K, N = 6, 5, 9


def normal(*shape, dtype="float64", grad=False):
    values = np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape)
    return torch.from_numpy(values).to(getattr(torch, dtype)).requires_grad_(grad)


def operands(dtype="float64", grad=False):
    return [normal(*shape, dtype=dtype, grad=grad) for shape in ((M, K), (N, K), (N,), (M, N))]


def options(activation="gelu", p=0.4, dropout_first=False, input_p=0.3, granularity="element"):
    return activation, p, *KEY, dropout_first, input_p, granularity


# --- PyTorch's checker: schema, autograd registration, fake tensors, ahead-of-time dispatch with dynamic shapes


@pytest.mark.parametrize("granularity", ["element", "unit"])
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("activation", ["identity", "relu", "gelu"])
@pytest.mark.parametrize("name", ["linear", "linear_forward"])
def test_opcheck_linear(name, activation, residual, granularity):
    x, w, b, r = operands("float32", grad=True)
    inputs = (x, w, b, r if residual else None, *options(activation, granularity=granularity))
    torch.library.opcheck(getattr(operators, name), inputs)


@pytest.mark.parametrize("wanted", [(True, True, True), (False, True, False), (True, False, True)])
@pytest.mark.parametrize("activation", ["identity", "relu", "silu"])
def test_opcheck_linear_backward(activation, wanted):
    x, w, b, dy = operands("float32")
    y, z = operators.linear_forward(x, w, b, None, *options(activation))
    saved = z if operators.saved_for_backward(activation, False) == "z" else y
    torch.library.opcheck(operators.linear_backward, (dy, x, w, saved, *wanted, False, *options(activation)))


@pytest.mark.parametrize("scaling", ["inverted", "classic"])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4)])
def test_opcheck_dropout(shape, scaling):
    torch.library.opcheck(operators.dropout, (normal(*shape, grad=True), 0.4, *KEY, "element", scaling))


def test_opcheck_next_key():
    # test_aot_dispatch_dynamic is left out: it compares the results of two calls, which are random numbers.
    utils = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operators.next_key, (TrainingCalls().handle, None), test_utils=utils)


def test_next_key_takes_torchs_numbers_and_counts():
    calls = TrainingCalls()
    torch.manual_seed(3)
    first, second = (operators.next_key(calls.handle, None).tolist() for _ in range(2))
    seeded = operators.next_key(calls.handle, -5).tolist()
    torch.manual_seed(3)
    again = operators.next_key(calls.handle, None).tolist()
    assert (first[1], second[1], again[1], seeded, calls.step) == (0, 0, 0, [-5, 2], 4)
    assert (first[0] == again[0], first[0] == second[0]) == (True, False)
    assert 0 <= first[0] < 2**63


def test_a_drawn_key_replaces_seed_and_step():
    x, w, b, _ = operands("float32", grad=True)
    want = operators.linear(x, w, b, None, *options())
    _, stream, _, *rest, _ = KEY
    drawn = torch.tensor([KEY[0], KEY[2]])
    key = (0, stream, 0, *rest, drawn)
    got = operators.linear(x, w, b, None, "gelu", 0.4, *key, False, 0.3, "element")
    gradients = [torch.autograd.grad(y.sum(), (x, w, b)) for y in (want, got)]
    assert torch.equal(got, want)
    assert all(map(torch.equal, *gradients))
    torch.library.opcheck(operators.linear, (x, w, b, None, "gelu", 0.4, *key, False, 0.3, "element"))


# --- gradients


EVERY_ORDER = list(itertools.product(fd.activations, [False, True], [False, True]))


@pytest.mark.parametrize(("activation", "dropout_first", "residual"), EVERY_ORDER)
def test_gradcheck(activation, dropout_first, residual):
    x, w, b, r = operands(grad=True)
    call = {"activation": activation, "p": 0.4, "input_p": 0.2, "rng": RNG, "dropout_first": dropout_first}

    def function(x, w, b, r):
        return ft.linear(x, w, b, **call, residual=r if residual else None)

    inputs = (x, w, b, r if residual else r.detach())
    assert torch.autograd.gradcheck(function, inputs, check_batched_grad=True)


def test_gradcheck_unit_and_missing_parts():
    x, w, b, _ = operands(grad=True)
    for granularity, bias in itertools.product(["unit", "element"], [b, None]):
        call = {"activation": "silu", "p": 0.5, "input_p": 0.4, "rng": RNG, "granularity": granularity}
        assert torch.autograd.gradcheck(lambda x, w, c=call, b=bias: ft.linear(x, w, b, **c), (x, w))
        assert torch.autograd.gradcheck(lambda w, c=call, b=bias: ft.linear(x.detach(), w, b, **c), (w,))


def test_dropout_has_all_derivatives():
    x = normal(3, 4, 5, grad=True)
    assert torch.autograd.gradcheck(lambda x: ft.dropout(x, p=0.4, rng=RNG), (x,))
    assert torch.autograd.gradgradcheck(lambda x: ft.dropout(x, p=0.4, rng=RNG).square(), (x,))


def test_second_derivative_of_linear_is_refused():
    x, w, b, _ = operands(grad=True)
    y = ft.linear(x, w, b, activation="tanh", p=0.4, rng=RNG)
    (dw,) = torch.autograd.grad(y.sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*fusedrop\.torch\.dropout"):
        dw.sum().backward()


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=4)))
def test_only_wanted_gradients_are_made(wanted):
    tensors = operands("float32")
    for tensor, want in zip(tensors, wanted, strict=True):
        tensor.requires_grad_(want)
    x, w, b, r = tensors
    y = ft.linear(x, w, b, activation="relu", p=0.4, rng=RNG, residual=r)
    assert y.requires_grad == any(wanted)
    if any(wanted):
        y.sum().backward()
    assert tuple(t.grad is not None for t in tensors) == wanted


# --- the kernels' bits


def numpy_of(tensor):
    if tensor.dtype is torch.bfloat16:
        from ml_dtypes import bfloat16

        return tensor.detach().view(torch.int16).numpy().view(bfloat16)
    return tensor.detach().numpy()


@pytest.mark.parametrize("granularity", ["element", "unit"])
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("activation", fd.activations)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_same_bits_as_the_numpy_functions(dtype, activation, residual, granularity):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="NumPy's bfloat16 is not installed")
    x, w, b, r = tensors = operands(dtype, grad=True)
    dy = normal(M, N, dtype=dtype)
    call = {"activation": activation, "p": 0.4, "input_p": 0.3, "rng": RNG, "granularity": granularity}
    y = ft.linear(x, w, b, **call, residual=r if residual else None)
    y.backward(dy)
    want, saved = fd.linear_forward(*map(numpy_of, (x, w, b)), **call, residual=numpy_of(r) if residual else None)
    gradients = fd.linear_backward(numpy_of(dy), saved)
    assert y.dtype is x.dtype
    assert np.array_equal(numpy_of(y), want)
    for tensor, gradient in zip(tensors, gradients, strict=False):
        assert np.array_equal(numpy_of(tensor.grad), gradient)
    assert not residual or torch.equal(r.grad, dy)


def test_dropout_is_the_numpy_functions():
    x, dy = normal(3, 4, 50, dtype="float32", grad=True), normal(3, 4, 50, dtype="float32")
    for granularity, scaling in itertools.product(["element", "unit"], ["inverted", "classic"]):
        y = ft.dropout(x, p=0.4, rng=RNG, granularity=granularity, scaling=scaling)
        (dx,) = torch.autograd.grad(y, x, dy)
        call = {"p": 0.4, "rng": RNG, "granularity": granularity, "scaling": scaling}
        assert np.array_equal(y.detach().numpy(), fd.dropout(numpy_of(x), **call))
        assert np.array_equal(dx.numpy(), fd.dropout(dy.numpy(), **call))


def test_saved_for_backward_is_the_kernels_rule():
    x, w, b, r = (numpy_of(t) for t in operands("float32"))
    for activation, residual in itertools.product(fd.activations, [None, r]):
        _, saved = fd.linear_forward(x, w, b, activation=activation, residual=residual)
        assert operators.saved_for_backward(activation, residual is not None) == saved.kind
    assert set(operators.SAVED) == set(fd.activations)


def test_mask_is_the_contract():
    x = torch.ones(40, 70)
    keep = reference.dropout_mask((40, 70), p=0.3, rng=RNG)
    assert np.array_equal(ft.dropout(x, p=0.3, rng=RNG).numpy() != 0, keep)
    assert np.array_equal(ft.linear(x, torch.eye(70), p=0.3, rng=RNG).numpy() != 0, keep)


# --- leading dimensions


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 1, 3), (0,), (2, 0, 3)])
def test_leading_dimensions_count_rows(lead):
    x, w, b, r = normal(*lead, K), normal(N, K), normal(N), normal(*lead, N)
    x.requires_grad_()
    y = ft.linear(x, w, b, activation="tanh", p=0.4, rng=RNG, residual=r)
    flat = ft.linear(x.reshape(-1, K) if x.numel() else x.reshape(0, K), w, b, activation="tanh", p=0.4, rng=RNG)
    assert y.shape == (*lead, N)
    assert torch.equal((flat + r.reshape(flat.shape)).reshape(y.shape), y)
    y.sum().backward()
    assert x.grad.shape == x.shape


def test_strides_cost_no_copy_and_change_no_bit():
    x, w = normal(M, 2 * K)[:, ::2], normal(K, N).T
    y = ft.linear(x, w, p=0.4, rng=RNG)
    assert not x.is_contiguous()
    assert not w.is_contiguous()
    assert torch.equal(y, ft.linear(x.contiguous(), w.contiguous(), p=0.4, rng=RNG))
    expanded = normal(1, K).expand(M, K)
    assert torch.equal(ft.linear(expanded, w), ft.linear(expanded.contiguous(), w))
