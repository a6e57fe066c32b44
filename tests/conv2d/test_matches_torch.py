"""fusedrop.conv2d against torch.nn.functional.conv2d in float64: values and gradients of any shape."""

import fusedrop as fd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional
PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))


def torch_gradients(x, w, b, dy, **options):
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]
    y = torch.relu(F.conv2d(*tensors, **options))
    y.backward(torch.from_numpy(dy(y.shape)))
    return y.detach().numpy(), *(t.grad.numpy() for t in tensors)


@settings(max_examples=80, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 40),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    outputs=st.integers(1, 40),
    kernel=PAIR,
    stride=PAIR,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    layout=st.sampled_from(["NCHW", "NHWC"]),
    seed=st.integers(0, 2**32),
)
def test_equal_to_torch(batch, channels, size, outputs, kernel, stride, padding, layout, seed):
    size = tuple(max(n, k - 2 * p) for n, k, p in zip(size, kernel, padding, strict=True))
    normal = np.random.default_rng(seed).standard_normal
    x, w, b = normal((batch, channels, *size)), normal((outputs, channels, *kernel)), normal(outputs)
    want = torch_gradients(x, w, b, normal, stride=stride, padding=padding)
    ours = x if layout == "NCHW" else x.transpose(0, 2, 3, 1)
    y, saved = fd.conv2d_forward(ours, w, b, stride=stride, padding=padding, layout=layout, activation="relu")
    dy = np.random.default_rng(seed).standard_normal  # the same numbers in the same order
    for shape in (x.shape, w.shape, b.shape):
        dy(shape)
    g = dy(want[0].shape)
    dx, dw, db = fd.conv2d_backward(g if layout == "NCHW" else g.transpose(0, 2, 3, 1), saved)
    if layout == "NHWC":
        y, dx = y.transpose(0, 3, 1, 2), dx.transpose(0, 3, 1, 2)
    # Two float64 sums of at most 3*12*12*40 products of numbers below 6: 2 n u |a||b| < 2 * 17280 * 1.1e-16 * 36.
    for name, a, c in zip(("y", "dx", "dw", "db"), (y, dx, dw, db), want, strict=True):
        assert np.abs(a - c).max() < 1.4e-10, name


def test_dropout_is_torchs_with_our_mask():
    """relu, then dropout per channel: torch's Dropout2d with our mask in place of its own."""
    normal = np.random.default_rng(1).standard_normal
    x, w, b = normal((3, 5, 8, 8)), normal((6, 5, 3, 3)), normal(6)
    rng = fd.Philox(3, 1, 2)
    keep = fd.dropout_mask((3, 8, 8, 6), p=0.5, rng=rng.tied(repeat=64)).transpose(0, 3, 1, 2)
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]
    want = torch.relu(F.conv2d(*tensors, padding=1)) * torch.from_numpy(keep * 2.0)
    y, saved = fd.conv2d_forward(x, w, b, padding=1, activation="relu", p=0.5, rng=rng, granularity="channel")
    dy = normal(y.shape)
    want.backward(torch.from_numpy(dy))
    for a, t in zip((y, *fd.conv2d_backward(dy, saved)), (want, *(t.grad for t in tensors)), strict=True):
        assert np.abs(a - t.detach().numpy()).max() < 1e-10  # as above


def test_tensors_in_tensors_out():
    x, w = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    y, saved = fd.conv2d_forward(x, w)
    dx, dw, db = fd.conv2d_backward(y, saved)
    assert all(isinstance(t, torch.Tensor) for t in (y, dx, dw))
    assert db is None
    assert torch.allclose(y, F.conv2d(x, w), atol=1e-5)
