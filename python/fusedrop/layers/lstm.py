"""LSTM: the recurrent layer, with dropout of its inputs and of its hidden state inside the matrix products."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from fusedrop import checks
from fusedrop.functional import lstm_backward, lstm_forward
from fusedrop.layers.base import ParametricLayer, Rate
from fusedrop.layers.lstm_layouts import LSTMLayouts


class LSTM(LSTMLayouts, ParametricLayer):
    """z = drop(x_t) w_ihᵀ + drop(h_{t-1}) w_hhᵀ + b; c_t = f c_{t-1} + i tanh(z_c); h_t = o tanh(c_t).

    i, f, o are the sigmoids of their parts of z; the gates are in the order i, f, c, o.

    Args:
        input_size, hidden_size: I and H.
        input_p: probability of dropping an element of x_t while training; `layer.input_p = 0.3` sets it between calls.
        recurrent_p: probability of dropping an element of h_{t-1} in its product with the weights. c is never dropped.
        time_constant: one mask for all time steps of a call (Gal and Ghahramani 2016, Keras's rule); False: a new mask
            at each time step; input_p of the second and later layers is then PyTorch's dropout between layers.
        gate_masks: True for one mask per gate, False for one mask that the four gates share; None follows Keras:
            four masks of x and four of h where recurrent_p is not 0, else one of x.
        return_sequences: y is every h_t, [B, T, H]; False: the last, [B, H].
        forget_bias: initial bias of the forget gate; the other biases start at 0. Jozefowicz et al. 2015.
        dtype: float32 or float64.
        seed, stream: of the masks and of the initial weights; see `MaskKey`. For sequences b0, b0 + 1, ... of a larger
            batch, set `mask_key.rng = mask_key.rng.at(row0=b0)`.

    params: "weight_ih" [4H, I], "weight_hh" [4H, H], "bias" [4H]. grads: the same keys. Initial weights are Keras's:
    weight_ih uniform with limit sqrt(6 / (I + 4H)) (Glorot and Bengio 2010), weight_hh with orthonormal columns.

    At a rate of 1 Keras drops nothing; here a rate of 1 drops everything.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    input_p = Rate("Probability of dropping an element of x_t while training.")
    recurrent_p = Rate("Probability of dropping an element of h_{t-1} while training.")
    scheduled_rate = "input_p"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        input_p: float = 0.0,
        recurrent_p: float = 0.0,
        time_constant: bool = True,
        gate_masks: bool | None = None,
        return_sequences: bool = False,
        forget_bias: float = 1.0,
        dtype: Any = "float32",
        seed: int | None = None,
        stream: int | None = None,
    ):
        self.input_size = checks.size(input_size, "input_size")
        self.hidden_size = checks.size(hidden_size, "hidden_size")
        self.recurrent_p = recurrent_p
        self.time_constant = checks.flag(time_constant, "time_constant")
        self.gate_masks = None if gate_masks is None else checks.flag(gate_masks, "gate_masks")
        self.return_sequences = checks.flag(return_sequences, "return_sequences")
        self.forget_bias = checks.number(forget_bias, "forget_bias", "a finite number", low=-sys.float_info.max)
        self.dtype = _float_dtype(dtype)
        self.input_p = input_p
        super().__init__(seed, stream)
        self._last_state: tuple[np.ndarray, np.ndarray] | None = None
        self._state_grads: tuple[np.ndarray, np.ndarray] | None = None

    def _initial_params(self):
        generator = self.mask_key.weight_generator()
        weight_ih = _glorot_uniform(generator, self.input_size, 4 * self.hidden_size)
        weight_hh = _orthogonal(generator, self.hidden_size)
        bias = np.zeros(4 * self.hidden_size)
        bias[self.hidden_size : 2 * self.hidden_size] = self.forget_bias
        params = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias": bias}
        return {key: value.astype(self.dtype) for key, value in params.items()}

    @property
    def last_state(self) -> tuple[np.ndarray, np.ndarray]:
        """(h, c) after the last time step of the last forward call, each [B, H]; the next `initial_state` may be it."""
        if self._last_state is None:
            raise RuntimeError("LSTM.last_state needs a forward call first")
        return self._last_state

    @property
    def initial_state_grads(self) -> tuple[np.ndarray, np.ndarray]:
        """The gradients by the initial state (h, c) in the last backward call, each [B, H]."""
        if self._state_grads is None:
            raise RuntimeError("LSTM.initial_state_grads needs a backward call first")
        return self._state_grads

    def forward(self, x, train=True, *, initial_state=None):
        """y [B, T, H], or the last output [B, H], of x [B, T, I]; train=False: no masks, no scale.

        initial_state: (h, c), each [B, H], such as another call's `last_state`; None for zeros.
        """
        following = self.mask_key.following(train)
        h0, c0 = _state_pair(initial_state)
        y, state, saved = lstm_forward(
            x,
            *(self.params[key] for key in ("weight_ih", "weight_hh", "bias")),
            h0=h0,
            c0=c0,
            input_p=self._input_p if train else 0.0,
            recurrent_p=self._recurrent_p if train else 0.0,
            rng=self.mask_key.rng,
            time_constant=self.time_constant,
            gate_masks=self.gate_masks,
            return_sequences=self.return_sequences,
        )
        self._context, self._last_state = saved, state
        self.mask_key.rng = following
        return y

    def backward(self, dy, input_grad=True, *, last_state_grads=None):
        """dx [B, T, I] (None where input_grad is False) for dy of y's shape; fills `grads` and `initial_state_grads`.

        last_state_grads: gradients of the loss by (h, c) of `last_state`, where it was used; None for zeros.
        """
        saved, grads = self._last_forward(), self.grads
        dh, dc = _state_pair(last_state_grads, "last_state_grads")
        gradients = lstm_backward(
            dy,
            saved,
            dh=dh,
            dc=dc,
            dx=checks.flag(input_grad, "input_grad"),
            dw_ih=grads["weight_ih"],
            dw_hh=grads["weight_hh"],
            db=grads["bias"],
        )
        self._state_grads = (gradients.dh0, gradients.dc0)
        return gradients.dx

    def __repr__(self):
        options = f", input_p={self.input_p}" if self.input_p else ""
        options += f", recurrent_p={self.recurrent_p}" if self.recurrent_p else ""
        options += ", return_sequences=True" if self.return_sequences else ""
        return f"LSTM({self.input_size}, {self.hidden_size}{options})"


def _float_dtype(value):
    dtype = checks.floating_dtype(value)
    if dtype not in checks.FLOATING:
        raise TypeError(f"dtype must be float32 or float64 for an LSTM; got {dtype}")
    return dtype


def _state_pair(state, name="initial_state"):
    """(h, c); the functions check the arrays."""
    if state is None:
        return None, None
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        raise TypeError(f"{name} must be a pair (h, c) of arrays [B, H], or None; got {type(state).__name__}")
    return state


def _glorot_uniform(generator, fan_in, fan_out):
    """[fan_out, fan_in], uniform with variance 2 / (fan_in + fan_out)."""
    limit = math.sqrt(6 / max(fan_in + fan_out, 1))
    return generator.uniform(-limit, limit, (fan_out, fan_in))


def _orthogonal(generator, hidden_size):
    """[4H, H] with orthonormal columns, uniform among those (Saxe et al., 1312.6120): Q of a normal matrix's QR."""
    normal = generator.standard_normal((4 * hidden_size, hidden_size))
    if hidden_size == 0:
        return normal
    q, r = np.linalg.qr(normal)
    return q * np.sign(np.diag(r))  # QR leaves the columns' signs open
