"""autocast, vmap and torch.func over the operators."""

import itertools

import fusedrop as fd
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402

RNG = fd.Philox(7, 1, 2)
LOW = torch.bfloat16


def normal(*shape):
    return torch.from_numpy(np.random.default_rng(len(shape)).standard_normal(shape))


def linear(x, w, b, **options):
    return ft.linear(x, w, b, **({"activation": "gelu", "p": 0.4, "input_p": 0.2, "rng": RNG} | options))


# --- torch.func: the same bits as a loop over the examples, with one mask for all


CASES = {"x": (0, None, None), "w": (None, 0, None), "x and b": (1, None, 0), "all": (0, 1, 0)}


@pytest.mark.parametrize("in_dims", CASES.values(), ids=CASES)
def test_vmap_is_a_loop(in_dims):
    def operand(dim, *shape):
        return normal(*shape) if dim is None else normal(*shape[:dim], 4, *shape[dim:])

    x, w, b = operand(in_dims[0], 6, 5), operand(in_dims[1], 9, 5), operand(in_dims[2], 9)
    got = torch.func.vmap(linear, in_dims)(x, w, b)
    examples = [[t if d is None else t.select(d, i) for t, d in zip((x, w, b), in_dims, strict=True)] for i in range(4)]
    assert torch.equal(got, torch.stack([linear(*example) for example in examples]))


def test_vmap_of_dropout_and_nested_vmap():
    x = normal(2, 3, 4, 5)
    once = torch.func.vmap(lambda x: ft.dropout(x, p=0.4, rng=RNG))
    assert torch.equal(torch.func.vmap(once)(x)[1, 2], ft.dropout(x[1, 2], p=0.4, rng=RNG))


def test_gradients_of_torch_func_are_autograds():
    x, w, b = normal(6, 5), normal(9, 5), normal(9)
    want = torch.autograd.grad(linear(*(t.requires_grad_() for t in (x, w, b))).square().sum(), (x, w, b))
    got = torch.func.grad(lambda *t: linear(*t).square().sum(), argnums=(0, 1, 2))(x, w, b)
    assert all(torch.equal(g, v) for g, v in zip(got, want, strict=True))


def test_gradients_by_example():
    """vmap over grad, which differential privacy needs."""
    x, w, b = normal(4, 1, 5), normal(9, 5), normal(9)

    def loss(w, x):
        return linear(x, w, b).square().sum()

    got = torch.func.vmap(torch.func.grad(loss), (None, 0))(w, x)
    assert torch.equal(got, torch.stack([torch.func.grad(loss)(w, example) for example in x]))


def test_jacobian_of_dropout_is_its_mask():
    x = normal(7)
    jacobian = torch.func.jacrev(lambda x: ft.dropout(x, p=0.4, rng=RNG))(x)
    assert torch.equal(jacobian, torch.diag(ft.dropout(torch.ones_like(x), p=0.4, rng=RNG)))


def test_second_derivatives_under_torch_func():
    x, w, b = normal(6, 5), normal(9, 5), normal(9)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.func.grad(lambda w: torch.func.grad(lambda w: linear(x, w, b).sum())(w).sum())(w)
    curved = torch.func.hessian(lambda x: ft.dropout(x, p=0.4, rng=RNG).square().sum())(normal(5))
    scaled = ft.dropout(torch.ones(5, dtype=torch.float64), p=0.4, rng=RNG)
    assert torch.equal(curved, torch.diag(2 * scaled * scaled))


# --- autocast


@pytest.mark.parametrize(("residual", "bias"), list(itertools.product([False, True], repeat=2)))
def test_autocast_multiplies_in_the_lower_precision(residual, bias):
    x, w, b, r = (t.float().requires_grad_() for t in (normal(6, 5), normal(9, 5), normal(9), normal(6, 9)))
    with torch.autocast("cpu", LOW):
        y = linear(x, w, b if bias else None, residual=r if residual else None)
        plain = torch.nn.functional.linear(x, w, b if bias else None)
    low = linear(x.to(LOW), w.to(LOW), b.to(LOW) if bias else None)
    assert torch.equal(y, r + low if residual else low)  # the residual stream stays float32
    assert y.dtype is (torch.float32 if residual else plain.dtype)
    y.float().square().sum().backward()
    assert all(t.grad is None or t.grad.dtype is torch.float32 for t in (x, w, b, r))
    assert x.grad is not None


def test_autocast_under_torch_func():
    x, w, b = (t.float() for t in (normal(6, 5), normal(9, 5), normal(9)))
    with torch.autocast("cpu", LOW):
        got = torch.func.grad(lambda w: linear(x, w, b).float().sum())(w)
    w.requires_grad_()
    with torch.autocast("cpu", LOW):
        linear(x, w, b).float().sum().backward()
    assert torch.equal(got, w.grad)


def test_autocast_leaves_dropout_in_its_own_precision():
    with torch.autocast("cpu", LOW):
        assert ft.dropout(normal(3, 4), p=0.4, rng=RNG).dtype is torch.float64
