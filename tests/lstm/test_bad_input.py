"""Every wrong argument of the LSTM's functions and layer is refused before any work; a refused call changes nothing."""

import fusedrop as fd
import numpy as np
import pytest
from lstm_by_hand import random_case
from refusals import assert_refused, name_rows, not_a_probability

RNG = fd.Philox(seed=1, stream=2, step=3)
B, T, K, H = 3, 4, 5, 6
CASE = random_case(B, T, K, H, "float32")
SAVED = fd.lstm_forward(CASE.x, CASE.w_ih, CASE.w_hh, CASE.b, recurrent_p=0.5, rng=RNG)[2]
LAST = 2**32 - 1


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


def good_forward():
    rates = {"input_p": 0.5, "recurrent_p": 0.25, "rng": RNG, "time_constant": True, "gate_masks": None}
    arrays = {name: getattr(CASE, name) for name in ("x", "w_ih", "w_hh", "b", "h0", "c0")}
    return arrays | rates | {"return_sequences": True}


def good_backward():
    destinations = {"dx": zeros(B, T, K), "dw_ih": zeros(4 * H, K), "dw_hh": zeros(4 * H, H), "db": zeros(4 * H)}
    return {"dy": CASE.dy, "saved": SAVED, "dh": CASE.dh, "dc": CASE.dc} | destinations


FORWARD_ROWS = [
    ("x", zeros(B, K), ValueError, "[B, T, I], an array of rank 3", "rank 2, shape [3, 5]"),
    ("x", zeros(B, T, K, dtype="int64"), TypeError, "NumPy array of float32, float64 or bfloat16", "int64"),
    ("x", CASE.x.tolist(), TypeError, "NumPy array of float32, float64 or bfloat16", "list"),
    ("w_ih", zeros(4 * H, K + 1), ValueError, "[4H, I] = [24, 5] to match x and w_hh", "[24, 6]"),
    ("w_ih", zeros(K, 4 * H), ValueError, "[4H, I] = [24, 5] to match x and w_hh", "[5, 24]"),
    ("w_ih", zeros(4 * H, K, dtype="float64"), TypeError, "float32 to match x", "float64"),
    ("w_hh", zeros(H, 4 * H), ValueError, "[4H, H], the gates i, f, c, o below each other", "[6, 24]"),
    ("w_hh", zeros(4 * H), ValueError, "[4H, H]", "[24]"),
    ("w_hh", None, TypeError, "NumPy array", "NoneType"),
    ("b", zeros(H), ValueError, "[4H] = [24] to match w_hh", "[6]"),
    ("b", 0.0, TypeError, "NumPy array", "float"),
    ("h0", zeros(B, H + 1), ValueError, "[B, H] = [3, 6] to match x and w_hh", "[3, 7]"),
    ("h0", zeros(1, B, H), ValueError, "[B, H] = [3, 6]", "[1, 3, 6]"),
    ("c0", zeros(H), ValueError, "[B, H] = [3, 6] to match x and w_hh", "[6]"),
    ("c0", zeros(B, H, dtype="float64"), TypeError, "float32 to match x", "float64"),
    *not_a_probability("input_p"),
    *not_a_probability("recurrent_p"),
    ("rng", None, ValueError, "is required where input_p > 0", "None"),
    ("rng", 7, TypeError, "a fusedrop.Philox or None", "int"),
    ("rng", RNG.tied(repeat=2), ValueError, "repeat 1, period None and col0 0", "repeat=2"),
    ("rng", RNG.tied(period=2), ValueError, "repeat 1, period None and col0 0", "period=2"),
    ("rng", RNG.at(col0=32), ValueError, "repeat 1, period None and col0 0", "col0=32"),
    ("rng", RNG.at(row0=LAST - B + 1), ValueError, f"+ B must not exceed {LAST} sequences", f"row0 = {LAST - B + 1}"),
    ("time_constant", 1, TypeError, "True or False", "1"),
    ("gate_masks", "keras", TypeError, "True or False", "'keras'"),
    ("return_sequences", None, TypeError, "True or False", "None"),
]
BACKWARD_ROWS = [
    ("dy", zeros(B, H), ValueError, "[B, T, H] = [3, 4, 6] to match y", "[3, 6]"),
    ("dy", zeros(B, T, H, dtype="float64"), TypeError, "float32 to match y", "float64"),
    ("dy", None, TypeError, "NumPy array", "NoneType"),
    ("saved", None, TypeError, "what lstm_forward returned", "NoneType"),
    ("saved", fd.linear_forward(zeros(2, 2), zeros(2, 2))[1], TypeError, "what lstm_forward returned", "LinearContext"),
    ("dh", zeros(H), ValueError, "[B, H] = [3, 6] to match h", "[6]"),
    ("dc", zeros(B, T, H), ValueError, "[B, H] = [3, 6] to match c", "[3, 4, 6]"),
    ("dx", zeros(B, T, H), ValueError, "[B, T, I] = [3, 4, 5]", "[3, 4, 6]"),
    ("dx", None, TypeError, "True, False or an array", "None"),
    ("dw_ih", zeros(4 * H, H), ValueError, "[4H, I] = [24, 5]", "[24, 6]"),
    ("dw_hh", zeros(4 * H, 2 * H)[:, ::2], ValueError, "C-contiguous", "other strides"),
    ("db", zeros(4 * H, dtype="float64"), TypeError, "float32", "float64"),
]


@pytest.mark.parametrize("row", FORWARD_ROWS, ids=name_rows(FORWARD_ROWS))
def test_forward_refuses(row):
    name, value, *expected = row
    assert_refused(fd.lstm_forward, good_forward() | {name: value}, *expected[:1], name, *expected[1:])


@pytest.mark.parametrize("row", BACKWARD_ROWS, ids=name_rows(BACKWARD_ROWS))
def test_backward_refuses(row):
    name, value, *expected = row
    assert_refused(fd.lstm_backward, good_backward() | {name: value}, *expected[:1], name, *expected[1:])


def test_the_unspoiled_arguments_are_accepted():
    fd.lstm_forward(**good_forward())
    fd.lstm_backward(**good_backward())
    fd.lstm_forward(**good_forward() | {"rng": RNG.at(row0=LAST - B)})
    with pytest.raises(ValueError, match=r"^rng.row0 \+ B must not exceed 1073741823 sequences"):
        fd.lstm_forward(**good_forward() | {"rng": RNG.at(row0=2**30), "time_constant": False})


def test_bfloat16_is_refused():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    arguments = good_forward() | {"x": CASE.x.astype(ml_dtypes.bfloat16)}
    assert_refused(fd.lstm_forward, arguments, TypeError, "x", "float32 or float64 in an LSTM", "bfloat16")
    with pytest.raises(TypeError, match=r"^dtype must be float32 or float64 for an LSTM; got bfloat16"):
        fd.LSTM(2, 3, dtype="bfloat16")


def test_gradients_may_not_share_memory():
    both = zeros(4 * H, H)
    square = random_case(B, T, H, H, "float32")
    _, _, saved = fd.lstm_forward(square.x, square.w_ih, square.w_hh)
    with pytest.raises(ValueError, match=r"^dw_hh must not overlap dw_ih"):
        fd.lstm_backward(square.dy, saved, dw_ih=both, dw_hh=both)
    with pytest.raises(ValueError, match=r"^dw_hh must not overlap w_hh"):
        fd.lstm_backward(square.dy, saved, dw_hh=square.w_hh)
    with pytest.raises(TypeError, match=r"^db must be True or False for an LSTM without bias"):
        fd.lstm_backward(square.dy, saved, db=zeros(4 * H))


SETTINGS = [
    ({"input_size": -1}, ValueError, "input_size must be an integer >= 0; got -1"),
    ({"hidden_size": 2.0}, TypeError, "hidden_size must be an integer >= 0; got 2.0"),
    ({"input_p": 1.5}, ValueError, r"input_p must be a number in \[0, 1\]; got 1.5"),
    ({"recurrent_p": "a"}, TypeError, r"recurrent_p must be a number in \[0, 1\]; got 'a'"),
    ({"time_constant": None}, TypeError, "time_constant must be True or False; got None"),
    ({"gate_masks": 4}, TypeError, "gate_masks must be True or False; got 4"),
    ({"return_sequences": 1}, TypeError, "return_sequences must be True or False; got 1"),
    ({"forget_bias": float("-inf")}, ValueError, "forget_bias must be a finite number; got -inf"),
    ({"dtype": "int8"}, TypeError, "dtype must be float32, float64 or bfloat16; got int8"),
    ({"seed": -1}, ValueError, "seed must be in"),
]


@pytest.mark.parametrize(("setting", "error", "message"), SETTINGS, ids=[next(iter(row[0])) for row in SETTINGS])
def test_layer_refuses_wrong_settings(setting, error, message):
    with pytest.raises(error, match=message):
        fd.LSTM(**{"input_size": 2, "hidden_size": 3} | setting)


def test_a_refused_call_of_the_layer_changes_nothing():
    layer = fd.LSTM(K, H, input_p=0.5, recurrent_p=0.5, return_sequences=True, seed=1)
    layer.forward(CASE.x)
    state, step = layer.last_state, layer.mask_key.rng
    layer.backward(CASE.dy)
    want = {name: a.copy() for name, a in layer.grads.items()}
    for x in (CASE.x[0], CASE.x.astype("f8"), CASE.x[:, :, 1:], None):
        with pytest.raises((TypeError, ValueError), match=r"^(x|w_ih|w_hh) must be"):
            layer.forward(x)
    for wrong in (CASE.h0, (CASE.h0,), {"h": CASE.h0}):
        with pytest.raises(TypeError, match=r"^initial_state must be a pair \(h, c\)"):
            layer.forward(CASE.x, initial_state=wrong)
    with pytest.raises(ValueError, match=r"^h0 must be \[B, H\]"):
        layer.forward(CASE.x, initial_state=(CASE.h0[1:], CASE.c0))
    with pytest.raises(ValueError, match=r"^dy must be \[B, T, H\]"):
        layer.backward(CASE.dy[:, 0])
    with pytest.raises(TypeError, match=r"^input_grad must be True or False"):
        layer.backward(CASE.dy, input_grad=None)
    assert layer.last_state is state
    assert layer.mask_key.rng == step
    assert all(np.array_equal(layer.grads[name], want[name]) for name in want)


def test_what_needs_a_call_first_says_so():
    layer = fd.LSTM(2, 3)
    with pytest.raises(RuntimeError, match=r"LSTM\.backward needs a forward call first"):
        layer.backward(CASE.dy)
    with pytest.raises(RuntimeError, match=r"LSTM\.last_state needs a forward call first"):
        layer.last_state  # noqa: B018 the property raises
    with pytest.raises(RuntimeError, match=r"LSTM\.initial_state_grads needs a backward call first"):
        layer.initial_state_grads  # noqa: B018
