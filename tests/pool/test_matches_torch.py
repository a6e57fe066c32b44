"""Pooling equals PyTorch's for any sizes: maxima and their gradients to the bit, means within their bound."""

import fusedrop as fd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
functional = torch.nn.functional

LAYOUTS = ("NCHW", "NHWC")
DTYPES = {"float32": np.float32, "float64": np.float64}


@st.composite
def axis(draw):
    """(size, kernel, stride, padding) that PyTorch accepts, too."""
    kernel = draw(st.integers(1, 6))
    padding = draw(st.integers(0, kernel // 2))
    return draw(st.integers(max(1, kernel - 2 * padding), 24)), kernel, draw(st.integers(1, 5)), padding


@st.composite
def calls(draw):
    (h, *rows), (w, *cols) = draw(axis()), draw(axis())
    kernel, stride, padding = zip(rows, cols, strict=True)
    shape = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 5, 16, 19, 40])), h, w
    return shape, {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": draw(st.booleans())}


def images(shape, dtype, seed):
    """Many ties, some NaN and infinities."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-4, 5, shape).astype(dtype)
    odd = rng.random(shape)
    x[odd < 0.02], x[(odd >= 0.02) & (odd < 0.1)] = np.nan, -np.inf
    return x


def laid_out(a, layout):
    return np.ascontiguousarray(a if layout == "NCHW" else a.transpose(0, 2, 3, 1))


def channels_first(a, layout):
    return np.ascontiguousarray(a if layout == "NCHW" else a.transpose(0, 3, 1, 2))


def torch_pool(pool, x, dy, **options):
    tensor = torch.from_numpy(x).requires_grad_()
    y = pool(tensor, **options)
    dy = dy(tuple(y.shape))
    y.backward(torch.from_numpy(dy))
    return y.detach().numpy(), dy, tensor.grad.numpy()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(call=calls(), seed=st.integers(0, 1000))
def test_maximum_to_the_bit(dtype, layout, call, seed):
    shape, options = call
    x = images(shape, dtype, seed)
    normal = np.random.default_rng(seed).standard_normal
    want, dy, want_dx = torch_pool(functional.max_pool2d, x, lambda s: normal(s).astype(dtype), **options)
    y, saved = fd.max_pool2d_forward(laid_out(x, layout), **options, layout=layout)
    assert channels_first(y, layout).tobytes() == want.tobytes()
    dx = fd.max_pool2d_backward(laid_out(dy, layout), saved)
    assert channels_first(dx, layout).tobytes() == want_dx.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(call=calls(), count=st.booleans(), seed=st.integers(0, 1000))
def test_mean_within_both_bounds(dtype, layout, call, count, seed):
    """Each error is at most n + 3 roundings of the mean of magnitudes: a sum of n terms, a divisor, a division."""
    shape, options = call
    options["count_include_pad"] = count
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    want, dy, want_dx = torch_pool(functional.avg_pool2d, x, lambda s: rng.standard_normal(s).astype(dtype), **options)
    mean, _, size = torch_pool(functional.avg_pool2d, np.abs(x), lambda s: np.abs(dy), **options)
    roundings = 2 * (np.prod(options["kernel_size"]) + 3) * np.finfo(dtype).eps
    y, saved = fd.avg_pool2d_forward(laid_out(x, layout), **options, layout=layout)
    assert channels_first(y, layout).shape == want.shape
    assert np.all(np.abs(channels_first(y, layout) - want) <= roundings * mean)
    dx = channels_first(fd.avg_pool2d_backward(laid_out(dy, layout), saved), layout)
    assert np.all(np.abs(dx - want_dx) <= roundings * size)


def test_tensors_in_tensors_out():
    x = torch.randn(2, 3, 8, 8)
    y, saved = fd.max_pool2d_forward(x, 2)
    assert torch.equal(y, functional.max_pool2d(x, 2))
    assert isinstance(fd.max_pool2d_backward(y, saved), torch.Tensor)


def test_bfloat16_maximum_to_the_bit():
    x = torch.randn(2, 19, 9, 13).bfloat16()
    y, _ = fd.max_pool2d_forward(x, 3, 2, 1)
    assert torch.equal(y, functional.max_pool2d(x, 3, 2, 1))


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 3, "padding": 2}, {"kernel_size": 9}, {"kernel_size": 0}, {"kernel_size": 2, "stride": 0}],
)
def test_what_pytorch_refuses_is_refused(options):
    x = torch.randn(1, 1, 5, 5)
    with pytest.raises(RuntimeError):
        functional.max_pool2d(x, **options)
    with pytest.raises(ValueError, match=r"must be .*; got"):
        fd.max_pool2d_forward(x, **options)
