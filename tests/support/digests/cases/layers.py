"""Every layer by itself: initial parameters, training calls, gradients, test time, keys of masks."""

import functools

import numpy as np

from digests import api, inputs
from digests.api import objects
from digests.case import Case, label, once
from digests.cases.training import DTYPE_NAMES

UNIT, CHANNEL, LAST = {"granularity": "unit"}, {"granularity": "channel"}, {"layout": "NHWC"}
# kind, sizes, options, shape of x
LAYERS = [
    ("Linear", (13, 70), {}, (9, 13)),
    ("Linear", (13, 70), {"bias": False, "init": "xavier", "activation": "tanh", "p": 0.4}, (9, 13)),
    (
        "Linear",
        (13, 70),
        {"activation": "gelu", "p": 0.4, "input_p": 0.2, "dropout_first": True, "init": 0.05},
        (9, 13),
    ),
    ("Linear", (40, 70), {"activation": "silu", "p": 0.5, "input_p": 0.3, **UNIT}, (9, 40)),
    ("Linear", (40, 70), {"activation": "relu", "p": 0.5, "init": "he", "stream": 9}, (0, 40)),
    ("Conv2d", (3, 8, 3), {"stride": 2, "padding": 1, "activation": "relu", "p": 0.3, "init": 0.1}, (2, 3, 7, 6)),
    ("Conv2d", (3, 8, (3, 2)), {"input_p": 0.2, "p": 0.3, "dropout_first": True, "bias": False, **LAST}, (2, 7, 6, 3)),
    ("Conv2d", (5, 4, 1), {"p": 0.5, "input_p": 0.25, "activation": "sigmoid", **CHANNEL}, (3, 5, 4, 4)),
    ("LSTM", (7, 9), {}, (4, 5, 7)),
    ("LSTM", (7, 9), {"input_p": 0.3, "recurrent_p": 0.2, "sequences": True, "forget_bias": 0.5}, (4, 5, 7)),
    ("LSTM", (7, 9), {"input_p": 0.3, "recurrent_p": 0.2, "constant": False, "apart": False}, (4, 5, 7)),
    ("LSTM", (7, 9), {"input_p": 0.3, "apart": True, "sequences": True}, (4, 5, 7)),
    ("Dropout", (), {"p": 0.4}, (5, 3, 40)),
    ("Dropout", (), {"p": 0.4, "scaling": "classic"}, (5, 3, 40)),
    ("Dropout", (), {"p": 0.4, "scaling": "classic", **UNIT}, (15, 40)),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, (2, 3, 8, 7)),
    ("MaxPool2d", ((2, 3),), LAST, (2, 8, 7, 3)),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}, (2, 3, 8, 7)),
    ("AvgPool2d", (2,), LAST, (2, 8, 7, 3)),
    ("Flatten", (), {}, (3, 4, 5)),
    *((kind, (), {}, (3, 4, 5)) for kind in ("ReLU", "GELU", "SiLU", "Tanh", "Sigmoid")),
]
MASKED = ("Linear", "Conv2d", "LSTM", "Dropout")
TRAINED = ("Linear", "Conv2d", "LSTM")


def cases():
    """Every layer: float32 with all options, the other dtypes with some."""
    for dtype in inputs.available_dtypes():
        for kind, sizes, options, shape in LAYERS[:: 1 if dtype == "f32" else 3]:
            if (kind, dtype) != ("LSTM", "bf16"):
                yield case(dtype, kind, sizes, options, shape)
    yield once("f32/Linear/rates_change", live_rates)
    yield once("f32/Linear/residual,active_inputs", linear_options)
    yield once("f32/LSTM/initial_state,shard", lstm_state)
    yield once("f32/LSTM/layouts", lstm_layouts, every_isa=False)


def case(dtype, kind, sizes, options, shape):
    """One layer."""
    numbers = ",".join(str(size).replace(" ", "") for size in sizes)
    return Case(
        f"{dtype}/{kind}({numbers})/{label(options)}",
        functools.partial(prepare, dtype, kind, sizes, options, shape),
    )


def build(dtype, kind, sizes, options):
    """The layer, with a seed if it takes one."""
    key = {"seed": 5, "stream": 2} if kind in MASKED else {}
    width = {"dtype": DTYPE_NAMES[dtype]} if kind in TRAINED else {}
    return api.call(kind, *sizes, **{**key, **width, **options})


def prepare(dtype, kind, sizes, options, shape):
    make = inputs.Maker(f"layer {shape}", dtype)
    x = make("x", *shape)

    def run():
        layer = build(dtype, kind, sizes, options)
        state = [objects.values(layer), objects.next_keys(layer)]
        outputs = [objects.forward(layer, x), objects.forward(layer, x)]
        dy = make("dy", *outputs[0].shape)
        results = {"dx": objects.backward(layer, dy)}
        if kind in TRAINED:
            results["gradients"] = [
                *objects.gradients(layer),
                objects.backward(layer, dy, False),
                *objects.gradients(layer),
            ]
        if kind == "LSTM":
            results["states"] = objects.lstm_states(layer)
        outputs += [objects.forward(layer, x, False), objects.backward(layer, dy), objects.forward(layer, x)]
        if kind in MASKED:
            results["state"] = [*state, objects.next_keys(layer)]
        return {**results, "y": outputs}

    return run


def live_rates():
    """A layer whose rates change between calls, and whose masks then begin at another row."""
    layer = build("f32", "Linear", (13, 70), {"p": 0.4})
    x, dy = inputs.normal("rates x", (9, 13), "f32"), inputs.normal("rates dy", (9, 70), "f32")
    outputs = [objects.forward(layer, x)]
    for name, value in (("p", 0.0), ("input_p", 0.7), ("p", 0.2)):
        objects.set_option(layer, "Linear", name, value)
        outputs += [objects.forward(layer, x), objects.backward(layer, dy), objects.get_option(layer, "Linear", name)]
    objects.shard(layer, 100)
    return {"y": [*outputs, objects.forward(layer, x), objects.next_keys(layer)]}


def linear_options():
    """The arguments of the forward method of Linear beside x."""
    layer = build("f32", "Linear", (40, 70), {"p": 0.4, "activation": "gelu"})
    x, dy = inputs.normal("options x", (9, 40), "f32"), inputs.normal("options dy", (9, 70), "f32")
    active = inputs.flags("options active", 40)
    first = [objects.forward(layer, x, residual=dy), objects.backward(layer, dy)]
    second = [
        objects.forward(layer, x, True, active_inputs=active),
        objects.backward(layer, dy),
        *objects.gradients(layer),
    ]
    return {"residual": first, "active_inputs": second}


def lstm_state():
    """An LSTM that starts from its last state, and then takes sequences out of a larger batch."""
    layer = build("f32", "LSTM", (7, 9), {"input_p": 0.3, "recurrent_p": 0.2, "sequences": True})
    x, dy = inputs.normal("lstm x", (4, 5, 7), "f32"), inputs.normal("lstm dy", (4, 5, 9), "f32")
    outputs = [objects.forward(layer, x)]
    dx = objects.backward(layer, dy)
    h, c, *_ = objects.lstm_states(layer)
    outputs.append(objects.forward(layer, x, True, initial_state=(h, c)))
    more = [dx, objects.backward(layer, dy), *objects.lstm_states(layer), *objects.gradients(layer)]
    objects.shard(layer, 4)
    return {"y": [*outputs, objects.forward(layer, x)], "gradients": more}


def lstm_layouts():
    """Weights in the layouts of other libraries: exported, then loaded."""
    layer = build("f32", "LSTM", (7, 9), {})
    first = {name: np.asarray(a) for name, a in objects.lstm_to(layer, "pytorch").items()}
    second = objects.lstm_to(layer, "keras")
    other = build("f32", "LSTM", (7, 9), {"seed": 8})
    objects.lstm_from(other, "pytorch", first)
    loaded = [objects.values(other)]
    objects.lstm_from(other, "keras", [a * np.float32(0.5) for a in second])
    return {"pytorch": first, "keras": second, "loaded": [*loaded, objects.values(other)]}
