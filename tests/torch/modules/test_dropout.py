"""PyTorch's own tests of torch.nn.Dropout, for fusedrop.torch.Dropout. Differences: docs/torch-differences.md"""

import copy
import itertools
import math

import fusedrop as fd
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402

RNG = fd.Philox(seed=7, stream=3, step=1)
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
MODULES = [ft.Dropout, ft.Dropout1d, ft.Dropout2d]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
modules = pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
inplaces = pytest.mark.parametrize("inplace", [False, True], ids=["new", "inplace"])


def scale_of(p, dtype=torch.float32):
    """65536 / (65536 - t), rounded to dtype: the mask contract."""
    steps = round(p * 65536)
    return torch.tensor(65536 / (65536 - steps), dtype=torch.float64).to(dtype)


def five_sigma(count, p):
    """A binomial count differs by more once in two million seeds. The seed here is fixed."""
    return 5 * math.sqrt(count * p * (1 - p))


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.8])
@dtypes
@inplaces
def test_share_of_zeros_mean_and_gradient(p, dtype, inplace):
    x = torch.ones(100, 50, dtype=dtype, requires_grad=True)
    y = ft.Dropout(p, inplace, seed=1)(x + 0)
    active = y != 0
    assert abs(int(active.sum()) - (1 - p) * x.numel()) <= five_sigma(x.numel(), p)
    assert (y[active] == scale_of(p, dtype)).all()
    assert abs(y.double().mean() - 1) <= five_sigma(x.numel(), p) / x.numel() / (1 - p) + torch.finfo(dtype).eps
    y.backward(torch.full_like(y, 2))
    assert torch.equal(x.grad, 2 * y.detach())


@dtypes
@inplaces
def test_p_zero_is_the_identity_and_p_one_gives_zeros(dtype, inplace):
    x = torch.tensor([1.0, -2.0, math.inf, math.nan], dtype=dtype)
    for p, wanted, slope in ((0.0, x, 1.0), (1.0, torch.zeros_like(x), 0.0)):
        leaf = x.clone().requires_grad_()
        y = ft.Dropout(p, inplace)(leaf + 0)
        assert torch.equal(y.nan_to_num(nan=5), wanted.nan_to_num(nan=5))
        y.sum().backward()
        assert torch.equal(leaf.grad, torch.full_like(x, slope))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@modules
def test_a_dropped_nan_or_inf_is_zero_forward_and_backward(module, value):
    """PyTorch multiplies by the mask, which gives NaN there."""
    x = torch.full((4, 8, 3), value, requires_grad=True)
    y = module(0.5, seed=1, stream=0)(x)
    dropped = y == 0
    assert 0 < int(dropped.sum()) < y.numel()
    assert torch.equal(y[~dropped].nan_to_num(nan=5), torch.full_like(y[~dropped], value).nan_to_num(nan=5))
    y.backward(torch.full_like(y, value))
    assert (x.grad[dropped] == 0).all()
    assert not x.grad[~dropped].isfinite().any()


BAD_P = [(-0.1, ValueError), (1.1, ValueError), (math.nan, ValueError), ("0.5", TypeError), (None, TypeError)]
BAD_P += [(True, TypeError), (torch.tensor(0.5), TypeError), ([0.5], TypeError), (0.5j, TypeError)]


@pytest.mark.parametrize(("p", "error"), BAD_P, ids=str)
def test_invalid_p(p, error):
    x = torch.ones(2, 3)
    calls = [lambda m=m: m(p) for m in MODULES] + [lambda m=m: setattr(m(), "p", p) for m in MODULES]
    calls += [lambda: ft.dropout(x, p=p, rng=RNG), lambda: ft.linear(x, x, p=p, rng=RNG)]
    for call in calls:
        with pytest.raises(error, match=r"^p must be (a number )?in \[0, 1\]; got "):
            call()
    with pytest.raises(error, match=r"^input_p must be"):
        ft.linear(x, x, input_p=p, rng=RNG)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (2, 0, 3), (7,), (1, 1, 1, 1, 2)], ids=str)
def test_any_rank_and_empty_inputs(shape):
    x = torch.ones(shape, requires_grad=True)
    y = ft.Dropout(0.5)(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_strides_do_not_matter_and_the_output_is_contiguous(order):
    """torch.nn.Dropout keeps the strides of a dense input, and draws another mask for other strides."""
    dense = torch.arange(1.0, 121.0).reshape(2, 3, 4, 5)
    back = [order.index(i) for i in range(4)]
    x = dense.permute(order).contiguous().permute(back)[:, 1:]
    y = ft.dropout(x, p=0.3, rng=RNG)
    assert y.is_contiguous()
    assert torch.equal(y, ft.dropout(x.contiguous(), p=0.3, rng=RNG))


@pytest.mark.parametrize("p", [0, 1e-10])
def test_sliced_channels_last_input_with_next_to_no_dropout(p):
    x = torch.empty(2, 3, 3, 6, memory_format=torch.channels_last).fill_(1.5)[..., ::2]
    y = ft.Dropout(p)(x)
    assert torch.equal(y, x)
    assert y.stride() == (x.stride() if p == 0 else (27, 9, 3, 1))


def test_rates_are_multiples_of_one_65536th():
    """p below half of 1/65536 drops nothing and scales nothing. The scale is that of the rounded rate."""
    x = torch.ones(64, 64)
    assert torch.equal(ft.Dropout(7e-6)(x), x)
    y = ft.Dropout(1e-5)(x)
    assert set(y.unique().tolist()) <= {0.0, scale_of(1 / 65536).item()}
    assert scale_of(0.1) != torch.tensor(1 / 0.9)


@modules
@inplaces
def test_eval_is_the_identity_and_uses_no_random_number(module, inplace):
    m = module(0.5, inplace).eval()
    x, before = torch.randn(2, 3, 4), torch.get_rng_state()
    assert m(x) is x
    assert m.mask_key.step == 0
    m.train()
    m(x.clone())
    assert m.mask_key.step == 1
    assert not torch.equal(torch.get_rng_state(), before)
    m.eval()
    assert m(x) is x


def test_one_number_of_the_generator_per_call():
    """torch.nn.Dropout takes one per element. So the numbers that follow a call differ, for any size of the input."""
    following = []
    for size in (1, 1000):
        torch.manual_seed(3)
        ft.Dropout(0.5)(torch.ones(size))
        following.append(torch.rand(()))
    torch.manual_seed(3)
    torch.empty((), dtype=torch.int64).random_()
    assert following == [torch.rand(()).item()] * 2


@modules
def test_manual_seed_and_a_saved_state_repeat_the_masks(module):
    m, x = module(0.5), torch.ones(4, 8, 5)
    torch.manual_seed(1)
    first, state, second = m(x), torch.get_rng_state(), m(x)
    torch.manual_seed(1)
    assert torch.equal(m(x), first)
    torch.set_rng_state(state)
    assert torch.equal(m(x), second)
    assert not torch.equal(first, second)


@inplaces
def test_inplace_writes_to_x_and_saves_no_memory(inplace):
    x = torch.ones(5, 7)
    y = ft.Dropout(0.5, inplace, seed=1)(x)
    assert (y is x) == inplace
    assert torch.equal(x, y) == inplace


def test_inplace_on_a_leaf_is_refused_as_by_torch():
    for module in (ft.Dropout(0.5, inplace=True), torch.nn.Dropout(0.5, inplace=True)):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            module(torch.ones(3, requires_grad=True))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's, at its first forward mode
def test_gradcheck_and_gradgradcheck():
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    for granularity in ("element", "unit"):

        def dropout(t, granularity=granularity):
            return ft.dropout(t, p=0.4, rng=RNG, granularity=granularity)

        assert torch.autograd.gradcheck(dropout, x, check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(lambda t: dropout(t) ** 3, x)


def test_float16_and_others_are_refused_on_the_cpu():
    """torch.nn.Dropout takes float16."""
    for dtype in (torch.float16, torch.int64, torch.complex64):
        with pytest.raises(TypeError, match=rf"^x must be .*float32, float64 or bfloat16; got {dtype}"):
            ft.Dropout(0.5)(torch.ones(3, dtype=dtype))


@pytest.mark.parametrize("x", [[1.0], 1.0, None], ids=str)
@modules
def test_inputs_that_are_no_tensors_are_refused(module, x):
    for m in (module(0.5), module(0.5).eval()):
        with pytest.raises(TypeError, match=r"^x must be a torch\.Tensor; got "):
            m(x)
        assert m.mask_key.step == 0


@modules
def test_repr(module):
    assert repr(module(0.25, inplace=True)) == f"{module.__name__}(p=0.25, inplace=True)"
    assert repr(module(0.25, seed=5, stream=2)) == f"{module.__name__}(p=0.25, inplace=False, seed=5, stream=2)"


@modules
def test_a_copy_continues_from_the_same_step(module):
    m, x = module(0.5, seed=9), torch.ones(3, 6, 4)
    m(x)
    twin = copy.deepcopy(m)
    assert torch.equal(m(x), twin(x))
    assert m.mask_key.step == twin.mask_key.step == 2
    m(x)
    assert twin.mask_key.step == 2
