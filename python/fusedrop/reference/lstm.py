"""The LSTM, with masks as arrays and one line per formula.

Notation, formula and keys of the masks: fusedrop/functional/lstm.py.
"""

from typing import Any, NamedTuple

import numpy as np

from fusedrop.reference.dropout import INPUT_STREAM, dropout_mask, scale
from fusedrop.reference.operator import output_only

GATES = 4  # i, f, c, o


class LSTMContext(NamedTuple):
    """Everything that `lstm_backward` needs. `states` and `gates` have an entry per time step, masks one per gate."""

    x: Any
    w_ih: Any
    w_hh: Any
    has_bias: bool
    keep_x: list
    keep_h: list
    input_p: float
    recurrent_p: float
    states: list  # (h, c) before time steps 0, 1, ... and after the last one
    gates: list  # (i, f, g, o), g = tanh(z_c)
    return_sequences: bool


def lstm_masks(shape, *, p, rng, time_constant, by_gate):
    """Four masks, bool [B, T, N] = `shape`, one per gate; by_gate=False: one array four times."""
    sequences, steps, columns = shape
    if rng is None:
        return [dropout_mask(shape, p=p)] * GATES
    repeat = steps if time_constant and steps else 1
    rng = type(rng)(rng.seed, rng.stream, rng.step, rng.row0 * steps, 0, repeat)
    keep = dropout_mask((sequences, steps, columns * (GATES if by_gate else 1)), p=p, rng=rng)
    return np.split(keep, GATES, axis=2) if by_gate else [keep] * GATES


def _sigmoid(z):
    return np.exp(-np.logaddexp(0, -z))


def _rows(w):
    """The rows of w, gate by gate."""
    return np.split(w, GATES)


def lstm_forward(
    x,
    w_ih,
    w_hh,
    b=None,
    *,
    h0=None,
    c0=None,
    input_p=0.0,
    recurrent_p=0.0,
    rng=None,
    time_constant=True,
    gate_masks=None,
    return_sequences=True,
):
    """(y, (h, c), context), as `fusedrop.lstm_forward`."""
    x, w_ih, w_hh = (np.asarray(a, np.float64) for a in (x, w_ih, w_hh))
    (B, T, _), H = x.shape, w_hh.shape[1]
    b_rows = _rows(np.zeros(4 * H) if b is None else np.asarray(b, np.float64))
    h, c = (np.zeros((B, H)) if s is None else np.asarray(s, np.float64) for s in (h0, c0))
    rule = {"time_constant": time_constant, "by_gate": recurrent_p != 0 if gate_masks is None else gate_masks}
    input_rng = None if rng is None else type(rng)(rng.seed, rng.stream ^ INPUT_STREAM, rng.step, rng.row0)
    keep_x = lstm_masks(x.shape, p=input_p, rng=input_rng, **rule)
    keep_h = lstm_masks((B, T, H), p=recurrent_p, rng=rng, **rule)
    states, gates = [(h, c)], []
    for t in range(T):
        z = [
            dropped(keep_x[g][:, t], x[:, t], input_p) @ _rows(w_ih)[g].T
            + b_rows[g]
            + dropped(keep_h[g][:, t], h, recurrent_p) @ _rows(w_hh)[g].T
            for g in range(GATES)
        ]
        i, f, o, g = _sigmoid(z[0]), _sigmoid(z[1]), _sigmoid(z[3]), np.tanh(z[2])
        c = f * c + i * g
        h = o * np.tanh(c)
        states.append((h, c))
        gates.append((i, f, g, o))
    saved = LSTMContext(
        x, w_ih, w_hh, b is not None, keep_x, keep_h, input_p, recurrent_p, states, gates, return_sequences
    )
    y = np.stack([h for h, _ in states[1:]], axis=1) if return_sequences and T else np.zeros((B, 0, H))
    return (y if return_sequences else h), (h, c), saved


lstm = output_only(lstm_forward)


def dropped(keep, values, p):
    """keep ? values * scale : 0."""
    return np.where(keep, values * scale(p), 0.0)


def lstm_backward(dy, saved, *, dh=None, dc=None):
    """(dx, dw_ih, dw_hh, db, dh0, dc0)."""
    (B, T, _), H = saved.x.shape, saved.w_hh.shape[1]
    dh, dc = (np.zeros((B, H)) if d is None else np.asarray(d, np.float64) for d in (dh, dc))
    dy = np.asarray(dy, np.float64)
    if not saved.return_sequences:
        dh = dh + dy
    dx, dw_ih, dw_hh, db = np.zeros(saved.x.shape), np.zeros(saved.w_ih.shape), np.zeros(saved.w_hh.shape), 0.0
    for t in reversed(range(T)):
        dh = dh + dy[:, t] if saved.return_sequences else dh
        dz, dc = _cell_backward(saved.gates[t], saved.states[t][1], saved.states[t + 1][1], dh, dc)
        dh = np.zeros((B, H))
        for g in range(GATES):
            keep_x, keep_h = saved.keep_x[g][:, t], saved.keep_h[g][:, t]
            dx[:, t] += dropped(keep_x, dz[g] @ _rows(saved.w_ih)[g], saved.input_p)
            dh += dropped(keep_h, dz[g] @ _rows(saved.w_hh)[g], saved.recurrent_p)
            _rows(dw_ih)[g][...] += dz[g].T @ dropped(keep_x, saved.x[:, t], saved.input_p)
            _rows(dw_hh)[g][...] += dz[g].T @ dropped(keep_h, saved.states[t][0], saved.recurrent_p)
        db = db + np.concatenate(dz, axis=1).sum(axis=0)
    return dx, dw_ih, dw_hh, (db + np.zeros(4 * H) if saved.has_bias else None), dh, dc


def _cell_backward(gates, c_prev, c, dh, dc):
    """(dz gate by gate, the gradient by c_prev)."""
    i, f, g, o = gates
    a = np.tanh(c)
    dc = dc + dh * o * (1 - a**2)
    dz = [dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g**2), dh * a * o * (1 - o)]
    return dz, dc * f
