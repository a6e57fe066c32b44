"""The LSTM's weights in the layouts of PyTorch and Keras, as NumPy arrays. Neither library is needed.

Both have our order of gates (i, f, c, o; PyTorch calls c "g"), so weights are copied or transposed, exactly. PyTorch
has two biases, and only their sum matters: loading rounds the sum once. It is exact where one of them is 0, as in what
`to_pytorch` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusedrop import checks


class LSTMLayouts:
    """Conversions for a layer with input_size, hidden_size, dtype and params. A refused load changes nothing."""

    input_size: int
    hidden_size: int
    dtype: Any
    params: dict[str, np.ndarray]

    def load_pytorch(self, state: Mapping[str, np.ndarray], layer: int = 0) -> None:
        """Load the weights of layer number `layer` of a torch.nn.LSTM.

        Args:
            state: its state_dict with NumPy arrays, {name: tensor.numpy() for ...}: weight_ih_l0 [4H, I],
                weight_hh_l0 [4H, H], and bias_ih_l0, bias_hh_l0 [4H], both or none (zeros then).
            layer: the number in those names. A layer with a reverse direction or a projection is refused.

        Raises:
            TypeError, ValueError: naming the argument and both sides.
        """
        H, names = self.hidden_size, _pytorch_names(layer)
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping of names to arrays; got {type(state).__name__}")
        for name in (f"weight_ih_l{layer}_reverse", f"weight_hr_l{layer}"):
            if name in state:
                raise ValueError(f"state must be of one direction without a projection; got {name}")
        shapes = [(4 * H, self.input_size), (4 * H, H), (4 * H,), (4 * H,)]
        given = [name for name in names if name in state]
        if given not in (names, names[:2]):
            raise ValueError(f"state must have {', '.join(names)} (or no bias); got {', '.join(state)}")
        arrays = [self._like(state[name], name, shape) for name, shape in zip(given, shapes, strict=False)]
        bias = arrays[2] + arrays[3] if len(arrays) == 4 else np.zeros(4 * H, self.dtype)
        self._take(arrays[0], arrays[1], bias)

    def to_pytorch(self, layer: int = 0) -> dict[str, np.ndarray]:
        """Copies of the weights under the names of layer number `layer` of a torch.nn.LSTM; bias_hh is zeros."""
        weight_ih, weight_hh, bias = (self.params[key].copy() for key in ("weight_ih", "weight_hh", "bias"))
        return dict(zip(_pytorch_names(layer), (weight_ih, weight_hh, bias, np.zeros_like(bias)), strict=True))

    def load_keras(self, weights: Sequence[np.ndarray]) -> None:
        """Load keras.layers.LSTM.get_weights(): [kernel [I, 4H], recurrent_kernel [H, 4H], bias [4H]].

        Raises:
            TypeError, ValueError: naming the argument and both sides.
        """
        if not isinstance(weights, (list, tuple)) or len(weights) != 3:
            got = f"{len(weights)} of them" if isinstance(weights, (list, tuple)) else type(weights).__name__
            raise ValueError(f"weights must be a list [kernel, recurrent_kernel, bias]; got {got}")
        H = self.hidden_size
        kernel = self._like(weights[0], "kernel", (self.input_size, 4 * H))
        recurrent = self._like(weights[1], "recurrent_kernel", (H, 4 * H))
        self._take(kernel.T, recurrent.T, self._like(weights[2], "bias", (4 * H,)))

    def to_keras(self) -> list[np.ndarray]:
        """Copies [kernel, recurrent_kernel, bias] for keras.layers.LSTM.set_weights."""
        weight_ih, weight_hh, bias = (self.params[key] for key in ("weight_ih", "weight_hh", "bias"))
        return [weight_ih.T.copy(), weight_hh.T.copy(), bias.copy()]

    def _like(self, value, name, shape):
        """The array, which must have the layer's dtype: a conversion would round without notice."""
        checks.floating_array(value, name)
        if value.dtype != self.dtype:
            raise TypeError(f"{name} must be {self.dtype} to match the layer; got {value.dtype}")
        if value.shape != shape:
            raise ValueError(f"{name} must be {list(shape)} to match the layer; got {list(value.shape)}")
        return value

    def _take(self, weight_ih, weight_hh, bias):
        for key, value in (("weight_ih", weight_ih), ("weight_hh", weight_hh), ("bias", bias)):
            self.params[key][...] = value


def _pytorch_names(layer):
    layer = checks.size(layer, "layer")
    return [f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
