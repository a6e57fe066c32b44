"""The operators as pure functions: their inputs are arguments, their outputs are results, and no state is hidden.

Every operator is a triple: `op(...)` returns the output, `op_forward(...)` the output and a context, `op_backward(dy,
context)` the gradients. `fusedrop.reference` has the same names.

p is the probability of dropping. Arrays are NumPy arrays, or CPU arrays of any library that speaks DLPack (PyTorch,
JAX), of float32, float64 or bfloat16 (NumPy's is ml_dtypes'; sums are float32), all of one dtype, with any strides.
Results are C-contiguous, and arrays of the library of x.

Arrays on a GPU are float32, float16 or bfloat16, all of one call on one device; a call runs on the current stream of
x's library and does not synchronize. rng may be a `fusedrop.DevicePhilox` there. Arrays that the GPU would have to copy
first are refused: activate of an array that is not in C order, dropout of axes that do not form rows.
"""

from fusedrop.functional.activation import ActivationContext, activate, activate_backward, activate_forward
from fusedrop.functional.conv2d import conv2d, conv2d_backward, conv2d_forward
from fusedrop.functional.dropout import DropoutContext, dropout, dropout_backward, dropout_forward, dropout_mask
from fusedrop.functional.linear import linear, linear_backward, linear_forward
from fusedrop.functional.loss import softmax_cross_entropy
from fusedrop.functional.lstm import LSTMGradients, lstm, lstm_backward, lstm_forward
from fusedrop.functional.pooling import (
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool2d_forward,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_forward,
)

__all__ = [
    "ActivationContext",
    "DropoutContext",
    "LSTMGradients",
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
    "linear",
    "linear_backward",
    "linear_forward",
    "lstm",
    "lstm_backward",
    "lstm_forward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "softmax_cross_entropy",
]
