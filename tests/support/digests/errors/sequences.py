"""Wrong calls of the LSTM functions and the LSTM layer."""

import functools

from digests import api, inputs
from digests.api import objects
from digests.errors.calls import As, each, spoiled
from digests.errors.functions import RNG, floats, placed, zeros

B, T, K, H = 3, 4, 5, 6
LAST = 2**32 - 1


def forward():
    """Arguments that lstm_forward accepts."""
    arrays = {"x": floats(B, T, K), "w_ih": floats(4 * H, K), "w_hh": floats(4 * H, H), "b": floats(4 * H)}
    return arrays | {"h0": floats(B, H), "c0": floats(B, H), "input_p": 0.5, "recurrent_p": 0.25, "rng": RNG}


def backward():
    y, _, saved = api.call("lstm_forward", **forward())
    return {"dy": y, "saved": saved}


FORWARD = [
    *each("x", floats(B, K), zeros(B, T, K, dtype="i8"), [[[1.0]]], None),
    *each("w_ih", floats(4 * H, K + 1), floats(4 * H, K, dtype="f64")),
    *each("w_hh", floats(H, 4 * H), floats(4 * H), None),
    *each("b", floats(H), 0.0),
    *each("h0", floats(B, H + 1), floats(1, B, H)),
    *each("c0", floats(H), floats(B, H, dtype="f64")),
    *each("input_p", 1.1, "0.5", None),
    *each("recurrent_p", -0.1, True),
    *each("rng", None, 7, placed(repeat=2), placed(period=2), placed(col0=32), placed(row0=LAST - B + 1)),
    {"rng": placed(row0=2**30), "constant": False},
    *each("constant", 1),
    *each("apart", "keras"),
    *each("sequences", None),
]
BACKWARD = [
    *each("dy", floats(B, H), floats(B, T, H, dtype="f64"), None),
    *each("saved", None, 3),
    *each("dh", floats(H)),
    *each("dc", floats(B, T, H)),
    *each("dx", zeros(B, T, H), None),
    *each("dw_ih", zeros(4 * H, H)),
    *each("dw_hh", As("strided", zeros(4 * H, 2 * H)[:, ::2])),
    *each("db", zeros(4 * H, dtype="f8")),
]
LAYER = [
    *each("input_size", -1),
    *each("hidden_size", 2.0),
    *each("input_p", 1.5),
    *each("recurrent_p", "a"),
    *each("constant", None),
    *each("apart", 4),
    *each("sequences", 1),
    *each("forget_bias", float("-inf"), "1"),
    *each("dtype", "int8", "bfloat16"),
    *each("seed", -1),
]


def wrong_calls(folder):
    """All wrong calls; they need no folder."""
    yield from spoiled("lstm_forward", forward, FORWARD)
    yield from spoiled("lstm", forward, FORWARD)
    yield from spoiled("lstm_backward", backward, BACKWARD)
    yield "lstm_backward/dw_hh=dw_ih", shared_gradients
    yield "lstm_backward/db_without_bias", without_bias
    if inputs.BFLOAT16 is not None:
        yield from spoiled("lstm_forward", forward, each("x", As("bf16", floats(B, T, K, dtype="bf16"))))
    yield from spoiled("LSTM", lambda: {"input_size": 2, "hidden_size": 3}, LAYER)
    for key, call in layer_calls().items():
        yield f"LSTM/{key}", call


def shared_gradients():
    arrays = forward() | {"w_ih": floats(4 * H, H), "x": floats(B, T, H)}
    y, _, saved = api.call("lstm_forward", **arrays)
    both = zeros(4 * H, H)
    return api.call("lstm_backward", dy=y, saved=saved, dw_ih=both, dw_hh=both)


def without_bias():
    y, _, saved = api.call("lstm_forward", **forward() | {"b": None})
    return api.call("lstm_backward", dy=y, saved=saved, db=zeros(4 * H))


def layer_calls():
    """Calls of a layer in the wrong order, or with wrong states and weights."""
    layer = functools.partial(api.call, "LSTM", K, H, seed=1, stream=1)
    x, h = floats(B, T, K), floats(B, H)
    weights = objects.lstm_to(layer(), "pytorch")
    renamed = {f"{name}_reverse": a for name, a in weights.items()} | weights
    calls = {
        "backward_first": lambda: objects.backward(layer(), h),
        "states_first": lambda: objects.lstm_states(layer()),
        "initial_state=array": lambda: objects.forward(layer(), x, initial_state=h),
        "initial_state=short": lambda: objects.forward(layer(), x, initial_state=(h[1:], h)),
        "x=list": lambda: objects.forward(layer(), x.tolist()),
        "x=narrow": lambda: objects.forward(layer(), x[:, :, 1:]),
        "pytorch=list": lambda: objects.lstm_from(layer(), "pytorch", [1]),
        "pytorch=empty": lambda: objects.lstm_from(layer(), "pytorch", {}),
        "pytorch=reverse": lambda: objects.lstm_from(layer(), "pytorch", renamed),
        "pytorch=f64": lambda: objects.lstm_from(
            layer(), "pytorch", {name: a.astype("f8") for name, a in weights.items()}
        ),
        "keras=two": lambda: objects.lstm_from(layer(), "keras", [x, x]),
        "keras=shapes": lambda: objects.lstm_from(layer(), "keras", [h, h, h]),
    }
    return calls
