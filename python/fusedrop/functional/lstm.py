"""The LSTM as pure functions: dropout on x_t and on h_{t-1} inside the matrix products, full backward through time.

Notation: B sequences (the batch), T time steps, I inputs, H hidden units; x [B, T, I], w_ih [4H, I], w_hh [4H, H],
b [4H], with the rows of the gates i, f, c, o in this order; h and c are states [B, H], y is every h_t [B, T, H].

    z = drop(x_t) w_ihᵀ + drop(h_{t-1}) w_hhᵀ + b      i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)
    c_t = f c_{t-1} + i tanh(z_c)                      h_t = o tanh(c_t)

Masks. Time step t of sequence b has mask row b*T + t. Where a mask is constant over time, repeat=T ties these T rows
to one decision. A call with rng = Philox(seed, stream, step, row0=b0), for sequences b0, b0 + 1, ... of a whole batch,
has these keys:

    of h    Philox(seed, stream, step, row0=b0*T, repeat=T), column g*H + j for gate g = 0..3, or j for one shared mask
    of x    Philox(seed, stream ^ 0x80000000, step, row0=b0*T, repeat=T), column g*I + i, or i

With time_constant=False they have repeat=1. `dropout_mask` of shape (B, T, columns) returns these masks.
"""

from typing import Any, NamedTuple

from fusedrop import _core
from fusedrop._core import LSTMContext, Philox
from fusedrop._types import Array
from fusedrop.functional.operator import SAVE, output_only


class LSTMGradients(NamedTuple):
    """What `lstm_backward` returns: each array has the shape of its argument; None for what was skipped."""

    dx: Any
    dw_ih: Any
    dw_hh: Any
    db: Any
    dh0: Any
    dc0: Any


def lstm_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b: Array | None = None,
    *,
    h0: Array | None = None,
    c0: Array | None = None,
    input_p: float = 0.0,
    recurrent_p: float = 0.0,
    rng: Philox | None = None,
    time_constant: bool = True,
    gate_masks: bool | None = None,
    return_sequences: bool = True,
) -> tuple[Array, tuple[Array, Array], LSTMContext]:
    """An LSTM over whole sequences, and the context of its backward pass.

    z = drop(x_t) w_ihᵀ + drop(h_{t-1}) w_hhᵀ + b, c_t = f c_{t-1} + i tanh(z_c), h_t = o tanh(c_t), where i, f, o are
    the sigmoids of their parts of z. The module's documentation has the keys of the masks.

    Args:
        x: inputs [B, T, I], float32 or float64, as all arrays. Copied where it is not C-contiguous.
        w_ih, w_hh: weights [4H, I] and [4H, H], any strides: Keras's kernel [I, 4H] is passed as kernel.T.
        b: bias [4H], or None.
        h0, c0: the state before the first step, [B, H]; None for zeros.
        input_p: probability of dropping an element of x_t; kept ones are scaled by 1 / (1 - p).
        recurrent_p: probability of dropping an element of h_{t-1} in its product with w_hh; c is never dropped.
        rng: key of the masks; required where a probability is above 0. row0 counts sequences; col0 must be 0, repeat 1
            and period None.
        time_constant: one mask for all time steps of a sequence (Gal and Ghahramani 2016); False: a new mask at each
            time step.
        gate_masks: True for one mask per gate, False for one mask that the four gates share. None is Keras's rule:
            four masks where recurrent_p is not 0, for x too, else one.
        return_sequences: y is [B, T, H]; False: the last output [B, H].

    Returns:
        (y, (h, c), context): (h, c) is the last state, and `lstm_backward` takes the context. It refers to x, the
        weights and c0: change none of them before the backward pass. With T = 0 the last state is the initial one.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    Hochreiter and Schmidhuber 1997. Masks: Gal and Ghahramani, "A theoretically grounded application of dropout in
    recurrent neural networks", 1512.05287. A dropped element is 0 even where it is NaN or Inf.
    """
    return _core.lstm_forward(
        x,
        w_ih,
        w_hh,
        b,
        h0=h0,
        c0=c0,
        input_p=input_p,
        recurrent_p=recurrent_p,
        rng=rng,
        time_constant=time_constant,
        gate_masks=gate_masks,
        return_sequences=return_sequences,
        save=SAVE,
    )


lstm = output_only(
    lstm_forward, "tuple[Array, tuple[Array, Array]]", "An LSTM over whole sequences: y and the last state (h, c)."
)


def lstm_backward(
    dy: Array,
    saved: LSTMContext,
    *,
    dh: Array | None = None,
    dc: Array | None = None,
    dx: bool | Array = True,
    dw_ih: bool | Array = True,
    dw_hh: bool | Array = True,
    db: bool | Array = True,
) -> LSTMGradients:
    """The gradients of an LSTM, through all its time steps.

    Args:
        dy: gradient of the loss by y: [B, T, H], or [B, H] where y is the last output.
        saved: what `lstm_forward` returned; several calls may take it.
        dh, dc: gradients by the last state [B, H], or None.
        dx, dw_ih, dw_hh, db: each True for a new array, False to skip it, or a C-contiguous array of its shape that
            receives it.

    Returns:
        (dx, dw_ih, dw_hh, db, dh0, dc0), a named tuple.

    Raises:
        TypeError, ValueError: as `lstm_forward`.
    """
    return LSTMGradients(*_core.lstm_backward(dy, saved, dh=dh, dc=dc, dx=dx, dw_ih=dw_ih, dw_hh=dw_hh, db=db))
