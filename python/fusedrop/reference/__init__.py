"""The specification: what every kernel computes, in float64 NumPy, a few lines a function, nothing fast.

Masks follow the mask contract, version 1 (docs/mask-contract.md); kernels must equal them bit for bit.
"""

from fusedrop.reference.convolution import Conv2dSaved, conv2d, conv2d_backward, conv2d_forward, fold, patches
from fusedrop.reference.linear import (
    ACTIVATIONS,
    INPUT_STREAM,
    UNIT_ROW,
    Saved,
    activate,
    activate_backward,
    dropout,
    dropout_mask,
    linear,
    linear_backward,
    linear_forward,
    philox4x32_10,
    pre_activation_gradient,
    scale,
    threshold,
)
from fusedrop.reference.lstm import LSTMSaved, lstm_backward, lstm_forward, lstm_masks
from fusedrop.reference.pooling import avg_pool2d, max_pool2d

__all__ = [
    "ACTIVATIONS",
    "INPUT_STREAM",
    "UNIT_ROW",
    "Conv2dSaved",
    "LSTMSaved",
    "Saved",
    "activate",
    "activate_backward",
    "avg_pool2d",
    "conv2d",
    "conv2d_backward",
    "conv2d_forward",
    "dropout",
    "dropout_mask",
    "fold",
    "linear",
    "linear_backward",
    "linear_forward",
    "lstm_backward",
    "lstm_forward",
    "lstm_masks",
    "max_pool2d",
    "patches",
    "philox4x32_10",
    "pre_activation_gradient",
    "scale",
    "threshold",
]
