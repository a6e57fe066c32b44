"""PyTorch's own tests of Dropout1d and Dropout2d, for the modules of fusedrop.torch."""

import math
import warnings

import fusedrop as fd
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import fusedrop.torch as ft  # noqa: E402

CASES = [
    (ft.Dropout1d, torch.nn.Dropout1d, (30, 20, 4)),
    (ft.Dropout1d, torch.nn.Dropout1d, (40, 5)),
    (ft.Dropout2d, torch.nn.Dropout2d, (30, 20, 3, 4)),
    (ft.Dropout2d, torch.nn.Dropout2d, (30, 20, 4)),
]
cases = pytest.mark.parametrize(("module", "theirs", "shape"), CASES, ids=lambda v: str(getattr(v, "__name__", v)))


def channels(y, module):
    """y as [channels of all examples, elements]."""
    unbatched = module is ft.Dropout1d and y.dim() == 2
    return y if unbatched else y.flatten(2).flatten(0, 1) if y.dim() > 2 else y


@cases
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "inplace"])
def test_whole_channels_are_dropped_at_the_rate_and_scaled(module, theirs, shape, inplace):
    p = 0.25
    y = channels(module(p, inplace, seed=4)(torch.ones(shape)), module)
    whole = (y == 0).all(1) | (y == torch.tensor(65536 / 49152)).all(1)
    assert whole.all(), "a channel is only partly dropped"
    sigma = math.sqrt(len(y) * p * (1 - p))
    assert abs(int((y == 0).all(1).sum()) - p * len(y)) <= 5 * sigma


@cases
def test_the_same_inputs_have_the_same_channels_as_in_torch(module, theirs, shape):
    """Whole channels are 0 as in torch, although other channels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.nn.Dropout2d warns for rank 3
        y, z = module(0.5, seed=1)(torch.ones(shape)), theirs(0.5)(torch.ones(shape))
    for result in (y, z):
        groups = channels(result, module)
        assert (groups == groups[:, :1]).all()
        assert 0 < int((groups[:, 0] == 0).sum()) < len(groups)


def test_channels_are_independent_of_each_other_and_of_the_example():
    """512 examples x 64 channels: |correlation| of two channels' bits is within 5 / sqrt(512)."""
    y = ft.Dropout1d(0.5, seed=2)(torch.ones(512, 64, 1))[:, :, 0]
    correlation = torch.corrcoef((y != 0).double().T) - torch.eye(64)
    assert correlation.abs().max() <= 5 / math.sqrt(512)
    assert len(torch.unique(y, dim=0)) == 512


@cases
def test_the_mask_is_that_of_the_key(module, theirs, shape):
    m = module(0.5, seed=5, stream=6)
    y = channels(m(torch.ones(shape)), module)
    unbatched = module is ft.Dropout1d and len(shape) == 2
    keep = fd.dropout_mask((1, shape[0]) if unbatched else shape[:2], p=0.5, rng=fd.Philox(5, 6, 0))
    assert torch.equal(y[:, 0] != 0, torch.from_numpy(keep).flatten())


def test_an_input_without_batch_equals_a_batch_of_one():
    x = torch.rand(50, 4)
    assert torch.equal(ft.Dropout1d(seed=1, stream=2)(x), ft.Dropout1d(seed=1, stream=2)(x[None])[0])


def test_dropout2d_takes_rank_3_for_a_batch_without_a_warning():
    """torch.nn.Dropout2d does the same, and warns that this may change."""
    x = torch.ones(3, 4, 5)
    assert torch.equal(ft.Dropout2d(seed=1, stream=2)(x), ft.Dropout1d(seed=1, stream=2)(x))


@pytest.mark.parametrize(("module", "ranks"), [(ft.Dropout1d, "2 or 3"), (ft.Dropout2d, "3 or 4")])
def test_other_ranks_are_refused(module, ranks):
    """torch.nn.Dropout2d warns, and drops elements nevertheless."""
    for rank in set(range(6)) - set(map(int, ranks.split(" or "))):
        with pytest.raises(ValueError, match=rf"^x must have {ranks} dimensions for {module.__name__}; got "):
            module(0.5)(torch.ones((2,) * rank))


@cases
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_gradients(module, theirs, shape, p):
    small = tuple(min(n, 4) for n in shape)
    x = torch.randn(small, dtype=torch.float64, requires_grad=True)

    def forward(t):
        return module(p, seed=1, stream=1)(t)

    assert torch.autograd.gradcheck(forward, x)
    assert torch.autograd.gradgradcheck(lambda t: forward(t) ** 2, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_channels_last_keeps_its_strides_and_its_values(dtype):
    x = torch.randn(2, 8, 3, 3).to(dtype)
    y = ft.Dropout2d(0.5, seed=1, stream=1)(x)
    z = ft.Dropout2d(0.5, seed=1, stream=1)(x.to(memory_format=torch.channels_last))
    assert y.dtype == dtype
    assert torch.equal(y, z)
    assert z.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)], ids=str)
@pytest.mark.parametrize("module", [ft.Dropout1d, ft.Dropout2d])
def test_empty_inputs(module, shape):
    x = torch.ones(shape, requires_grad=True)
    y = module(0.5)(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape
