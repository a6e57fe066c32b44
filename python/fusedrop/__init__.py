"""fusedrop: layers with the dropout inside.

    y = dropout(activation(x wᵀ + b))

in one kernel, forward and backward. A mask is never stored and depends on no hidden state: it is a pure function of
(seed, stream, step, row, col), the same bits in every kernel, thread count, batch split and instruction set.

Operators       linear, conv2d, lstm, max_pool2d, avg_pool2d, dropout, activate: each op, op_forward, op_backward;
                dropout_mask, softmax_cross_entropy
Layers          Linear, Conv2d, LSTM, Dropout, ReLU, GELU, SiLU, Tanh, Sigmoid, Flatten, MaxPool2d, AvgPool2d,
                Sequential; save, load
Mask keys       Philox; DevicePhilox, in a GPU's memory
Training        fusedrop.training: Trainer, callbacks, history, optimizers, schedules, checkpoints
Settings        fusedrop.config: instruction set, threads, TF32
Specification   fusedrop.reference, in float64 NumPy
PyTorch         fusedrop.torch, imported on demand
"""

import os as _os

from fusedrop import config, reference, training
from fusedrop._core import (
    Conv2dContext,
    LinearContext,
    LSTMContext,
    Philox,
    PoolContext,
    __version__,
    activations,
)
from fusedrop.cuda import DevicePhilox
from fusedrop.functional import (
    ActivationContext,
    DropoutContext,
    LSTMGradients,
    activate,
    activate_backward,
    activate_forward,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool2d_forward,
    conv2d,
    conv2d_backward,
    conv2d_forward,
    dropout,
    dropout_backward,
    dropout_forward,
    dropout_mask,
    linear,
    linear_backward,
    linear_forward,
    lstm,
    lstm_backward,
    lstm_forward,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_forward,
    softmax_cross_entropy,
)
from fusedrop.layers import (
    GELU,
    LSTM,
    Activation,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    Parameter,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)
from fusedrop.training import load, save

__all__ = [
    "GELU",
    "LSTM",
    "Activation",
    "ActivationContext",
    "AvgPool2d",
    "Conv2d",
    "Conv2dContext",
    "DevicePhilox",
    "Dropout",
    "DropoutContext",
    "Flatten",
    "LSTMContext",
    "LSTMGradients",
    "Layer",
    "Linear",
    "LinearContext",
    "MaxPool2d",
    "Parameter",
    "Philox",
    "PoolContext",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "__version__",
    "activate",
    "activate_backward",
    "activate_forward",
    "activations",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "config",
    "conv2d",
    "conv2d_backward",
    "conv2d_forward",
    "dropout",
    "dropout_backward",
    "dropout_forward",
    "dropout_mask",
    "linear",
    "linear_backward",
    "linear_forward",
    "load",
    "lstm",
    "lstm_backward",
    "lstm_forward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "reference",
    "save",
    "softmax_cross_entropy",
    "training",
]

if _os.environ.get("FUSEDROP_ISA"):
    try:
        config.set_isa(_os.environ["FUSEDROP_ISA"])
    except ValueError as error:
        raise ImportError(f"FUSEDROP_ISA: {error}") from None
