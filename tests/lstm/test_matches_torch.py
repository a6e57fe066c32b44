"""fd.LSTM equals torch.nn.LSTM without dropout: values and gradients, one layer and two, loaded weights."""

import fusedrop as fd
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

SHAPES = [(3, 5, 4, 6), (17, 9, 28, 33), (1, 2, 1, 1)]
# Two correct computations in float64 differ by rounding only. After at most some hundred operations, whose errors grow
# little with weights of size 1/sqrt(H), results of size 1 to 100 are equal to twelve digits.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def close(got, want):
    np.testing.assert_allclose(got, want.detach().numpy(), **CLOSE)


def build(theirs, sizes):
    """An fd.LSTM for each layer of torch's LSTM."""
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    ours = [fd.LSTM(*size, return_sequences=True, dtype="float64") for size in sizes]
    for number, layer in enumerate(ours):
        layer.load_pytorch(state, layer=number)
    return ours


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape, bias, layers):
    B, T, K, H = shape
    torch.manual_seed(sum(shape))
    theirs = torch.nn.LSTM(K, H, num_layers=layers, bias=bias, batch_first=True, dtype=torch.float64)
    x = torch.randn(B, T, K, dtype=torch.float64, requires_grad=True)
    h0, c0 = (torch.randn(layers, B, H, dtype=torch.float64, requires_grad=True) for _ in range(2))
    dy, dh, dc = torch.randn(B, T, H).double(), torch.randn(layers, B, H).double(), torch.randn(layers, B, H).double()
    wanted, (h, c) = theirs(x, (h0, c0))
    torch.autograd.backward([wanted, h, c], [dy, dh, dc])

    ours = build(theirs, [(K, H), (H, H)][:layers])
    y = x.detach().numpy()
    for k, layer in enumerate(ours):
        y = layer.forward(y, initial_state=(h0[k].detach().numpy(), c0[k].detach().numpy()))
        close(layer.last_state[0], h[k])
        close(layer.last_state[1], c[k])
    close(y, wanted)
    gradient = dy.numpy()
    for k, layer in reversed(list(enumerate(ours))):
        gradient = layer.backward(gradient, last_state_grads=(dh[k].numpy(), dc[k].numpy()))
        close(layer.initial_state_grads[0], h0.grad[k])
        close(layer.initial_state_grads[1], c0.grad[k])
        for name in ("weight_ih", "weight_hh"):
            close(layer.grads[name], getattr(theirs, f"{name}_l{k}").grad)
        if bias:
            close(layer.grads["bias"], getattr(theirs, f"bias_ih_l{k}").grad)
    close(gradient, x.grad)


def test_a_saved_layer_loads_into_torch():
    ours = fd.LSTM(4, 6, return_sequences=True, seed=3, dtype="float64")
    theirs = torch.nn.LSTM(4, 6, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in ours.to_pytorch().items()})
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    close(ours.forward(x.numpy()), theirs(x)[0])


def test_tensors_in_give_tensors_out():
    x = torch.randn(3, 5, 4)
    layer = fd.LSTM(4, 6, seed=3)
    y, (h, c), saved = fd.lstm_forward(x, *(torch.from_numpy(p) for p in layer.params.values()))
    gradients = fd.lstm_backward(torch.ones_like(y), saved)
    assert all(isinstance(a, torch.Tensor) for a in (y, h, c, gradients.dx, gradients.dw_ih, gradients.dh0))
    np.testing.assert_array_equal(y[:, -1].numpy(), layer.forward(x.numpy()))
