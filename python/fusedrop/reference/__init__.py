"""The specification: what every kernel computes, in float64 NumPy, a few lines per function, not optimized.

Every operator is a triple with the names of `fusedrop`: op, op_forward, op_backward. Masks follow the mask contract,
version 1 (docs/mask-contract.md); the masks of all kernels are equal to them, bit for bit.
"""

from fusedrop.reference.activation import (
    ACTIVATIONS,
    ActivationContext,
    activate,
    activate_backward,
    activate_forward,
)
from fusedrop.reference.conv2d import Conv2dContext, conv2d, conv2d_backward, conv2d_forward, fold, patches
from fusedrop.reference.dropout import (
    INPUT_STREAM,
    UNIT_ROW,
    DropoutContext,
    dropout,
    dropout_backward,
    dropout_forward,
    dropout_mask,
    philox4x32_10,
    scale,
    threshold,
)
from fusedrop.reference.linear import (
    LinearContext,
    linear,
    linear_backward,
    linear_forward,
    pre_activation_gradient,
)
from fusedrop.reference.lstm import LSTMContext, lstm, lstm_backward, lstm_forward, lstm_masks
from fusedrop.reference.pooling import (
    PoolContext,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool2d_forward,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_forward,
)

__all__ = [
    "ACTIVATIONS",
    "INPUT_STREAM",
    "UNIT_ROW",
    "ActivationContext",
    "Conv2dContext",
    "DropoutContext",
    "LSTMContext",
    "LinearContext",
    "PoolContext",
    "activate",
    "activate_backward",
    "activate_forward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "conv2d",
    "conv2d_backward",
    "conv2d_forward",
    "dropout",
    "dropout_backward",
    "dropout_forward",
    "dropout_mask",
    "fold",
    "linear",
    "linear_backward",
    "linear_forward",
    "lstm",
    "lstm_backward",
    "lstm_forward",
    "lstm_masks",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "patches",
    "philox4x32_10",
    "pre_activation_gradient",
    "scale",
    "threshold",
]
