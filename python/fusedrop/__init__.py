"""fusedrop: linear layers with the dropout inside.

    y = dropout(activation(x wᵀ + b))

in one kernel, forward and backward. A mask is never stored and never drawn from hidden state: it is a pure function
of (seed, stream, step, row, col), the same bits in every kernel, thread count, batch split and instruction set.

Functions       linear, conv2d, each also as ..._forward and ..._backward, and these two of lstm, max_pool2d and
                avg_pool2d; dropout, dropout_mask, activate, activate_backward
Layers          Linear, Conv2d, LSTM, Dropout, ReLU, GELU, SiLU, Tanh, Sigmoid, Flatten, MaxPool2d, AvgPool2d,
                Sequential
Training        softmax_cross_entropy, SGD, Adam, penalty, save, load
Conveniences    Trainer, EarlyStopping, History, split_validation, LinearSchedule, StepSchedule, AdaptiveSchedule
On a GPU        DevicePhilox, tf32, use_tf32
Specification   fusedrop.reference, in float64 NumPy
"""

import os as _os

from fusedrop import reference
from fusedrop._core import (
    Conv2dSaved,
    LSTMSaved,
    Philox,
    PoolSaved,
    Saved,
    __version__,
    activations,
    available_isas,
    get_num_threads,
    isa,
    set_num_threads,
    use_isa,
)
from fusedrop.adaptive import AdaptiveSchedule
from fusedrop.batches import split_validation
from fusedrop.callbacks import EarlyStopping, TrainingState
from fusedrop.convolution import Conv2d
from fusedrop.convolution_functions import conv2d, conv2d_backward, conv2d_forward
from fusedrop.cuda import DevicePhilox, tf32, use_tf32
from fusedrop.functions import (
    activate,
    activate_backward,
    dropout,
    dropout_mask,
    linear,
    linear_backward,
    linear_forward,
)
from fusedrop.history import History
from fusedrop.layers import Layer, Linear, Parameter
from fusedrop.losses import softmax_cross_entropy
from fusedrop.lstm import LSTM
from fusedrop.lstm_functions import LSTMGradients, lstm_backward, lstm_forward
from fusedrop.network import Sequential
from fusedrop.optim import SGD, Adam, penalty
from fusedrop.pooling import AvgPool2d, MaxPool2d
from fusedrop.pooling_functions import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
)
from fusedrop.saving import load, save
from fusedrop.schedules import LinearSchedule, StepSchedule
from fusedrop.simple_layers import GELU, Activation, Dropout, Flatten, ReLU, Sigmoid, SiLU, Tanh
from fusedrop.trainer import Trainer

__all__ = [
    "GELU",
    "LSTM",
    "SGD",
    "Activation",
    "Adam",
    "AdaptiveSchedule",
    "AvgPool2d",
    "Conv2d",
    "Conv2dSaved",
    "DevicePhilox",
    "Dropout",
    "EarlyStopping",
    "Flatten",
    "History",
    "LSTMGradients",
    "LSTMSaved",
    "Layer",
    "Linear",
    "LinearSchedule",
    "MaxPool2d",
    "Parameter",
    "Philox",
    "PoolSaved",
    "ReLU",
    "Saved",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "StepSchedule",
    "Tanh",
    "Trainer",
    "TrainingState",
    "__version__",
    "activate",
    "activate_backward",
    "activations",
    "available_isas",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "conv2d",
    "conv2d_backward",
    "conv2d_forward",
    "dropout",
    "dropout_mask",
    "get_num_threads",
    "isa",
    "linear",
    "linear_backward",
    "linear_forward",
    "load",
    "lstm_backward",
    "lstm_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "penalty",
    "reference",
    "save",
    "set_num_threads",
    "softmax_cross_entropy",
    "split_validation",
    "tf32",
    "use_isa",
    "use_tf32",
]

if _os.environ.get("FUSEDROP_ISA"):
    try:
        use_isa(_os.environ["FUSEDROP_ISA"])
    except ValueError as error:
        raise ImportError(f"FUSEDROP_ISA: {error}") from None
