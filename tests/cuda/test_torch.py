"""fusedrop.torch on a GPU: the operators, autograd, modules, and CUDA graphs that draw a new mask at each replay."""

import fusedrop as fd
import numpy as np
import pytest
from cuda_devices import torch, wide
from fusedrop import cuda, reference

import fusedrop.torch as ft  # isort: skip

pytestmark = pytest.mark.skipif(
    cuda.module() is None or not torch.cuda.is_available(), reason="no GPU, or no CUDA module for it"
)
RNG = fd.Philox(seed=7, stream=3, step=11)


def randn(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, device="cuda", generator=torch.Generator("cuda").manual_seed(sum(shape)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("activation", ["identity", "relu", "gelu"])
def test_autograd_is_the_functions(activation, dtype):
    x, w, b = (
        t.requires_grad_() for t in (randn(33, 40, dtype=dtype), randn(50, 40, dtype=dtype), randn(50, dtype=dtype))
    )
    options = {"activation": activation, "p": 0.3, "input_p": 0.1, "rng": RNG}
    y = ft.linear(x, w, b, **options)
    dy = randn(33, 50, dtype=dtype)
    y.backward(dy)
    with torch.no_grad():
        want, saved = fd.linear_forward(x, w, b, **options)
        wanted = fd.linear_backward(dy, saved)
    assert torch.equal(y, want)
    assert all(torch.equal(t.grad, g) for t, g in zip((x, w, b), wanted, strict=True))


def test_float64_is_refused():
    with pytest.raises(TypeError, match="x must be float32, float16 or bfloat16 on the GPU; got float64"):
        ft.linear(randn(3, 4, dtype=torch.float64), randn(5, 4, dtype=torch.float64))


def test_autocast():
    layer = ft.Linear(40, 50, device="cuda", p=0.5, seed=1)
    with torch.autocast("cuda", torch.bfloat16):
        assert layer(randn(8, 40)).dtype is torch.bfloat16


def test_the_cpus_masks():
    x = torch.ones(20, 30)
    here, there = ft.Dropout(0.5, seed=1, stream=2), ft.Dropout(0.5, seed=1, stream=2)
    for _ in range(3):
        assert torch.equal(here(x), there(x.cuda()).cpu())


def test_the_current_stream():
    """Results are ready for what the same stream does next, whatever other streams do."""
    w = randn(2048, 2048)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x = w
        for _ in range(20):
            x = fd.linear(x, w) * 0.02
    side.synchronize()
    want = w
    for _ in range(20):
        want = fd.linear(want, w) * 0.02
    assert torch.equal(x, want)


def captured(step):
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):
        step()
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph, result


def test_a_captured_training_step_draws_new_masks():
    layer = ft.Linear(40, 50, device="cuda", p=0.5, seed=5, stream=2)
    layer.mask_key.store_on("cuda")
    x = randn(30, 40)

    def step():
        layer.zero_grad(set_to_none=True)
        y = layer(x)
        y.sum().backward()
        return y, layer.weight.grad

    graph, (y, gradient) = captured(step)
    first = layer.mask_key.step
    for step_number in range(first, first + 3):
        graph.replay()
        keep = reference.dropout_mask((30, 50), p=0.5, rng=fd.Philox(5, 2, step_number))
        assert np.array_equal(wide(y) != 0, keep)
        want, saved = fd.linear_forward(
            x, layer.weight.detach(), layer.bias.detach(), p=0.5, rng=fd.Philox(5, 2, step_number)
        )
        assert torch.equal(y, want)
        assert torch.equal(gradient, fd.linear_backward(torch.ones_like(y), saved)[1])


def test_a_capture_that_would_repeat_a_mask_is_refused():
    layer = ft.Linear(40, 50, device="cuda", p=0.5, seed=5)
    x = randn(30, 40)
    layer(x)
    with (
        pytest.raises(RuntimeError, match="would repeat one mask at each replay"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        layer(x)


def test_compiled_code():
    layer = ft.Linear(40, 50, device="cuda", p=0.5, activation="relu", seed=5, stream=1)
    compiled, x = torch.compile(layer), randn(30, 40)
    for step in range(3):
        y = compiled(x)
        keep = reference.dropout_mask((30, 50), p=0.5, rng=fd.Philox(5, 1, step))
        assert not wide(y)[~keep].any()
        y.sum().backward()
