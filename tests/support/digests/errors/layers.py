"""Wrong calls of the layers and networks: options, arrays, the order of calls."""

import functools
import math

import numpy as np

from digests import api
from digests.api import objects
from digests.errors.calls import As, each, spoiled
from digests.errors.functions import floats, zeros

MAKERS = {
    "Linear": lambda: api.call("Linear", 4, 4, p=0.5, seed=1, stream=1),
    "Dropout": lambda: api.call("Dropout", p=0.5, seed=1, stream=1),
    "classic": lambda: api.call("Dropout", p=0.5, scaling="classic", seed=1, stream=1),
    "ReLU": lambda: api.call("ReLU"),
    "Flatten": lambda: api.call("Flatten"),
    "Sequential": lambda: api.call("Sequential", api.call("Linear", 4, 4, seed=1), api.call("ReLU"), seed=1),
}
LINEAR = [
    *each("in_features", -1, 1.5, "4", None),
    *each("out_features", -1, True),
    *each("p", math.nan, 1.1, "0.5", None, True),
    *each("input_p", -0.1, None),
    *each("activation", "ReLU", None),
    *each("granularity", "channel", 3),
    *each("dropout_first", 1, None),
    *each("bias", 1, None),
    *each("dtype", "float16", ">f4", As("int", int), "half a float", None),
    *each("init", "normal", -0.1, math.nan, True, [0.1]),
    *each("seed", -1, 2**64, 1.0),
    *each("stream", 2**32, "1"),
    {"color": "red"},
]
CONV2D = [
    *each("in_channels", -1),
    *each("out_channels", 2.0),
    *each("kernel_size", 0, (3, True), 2**31),
    *each("stride", (0, 1)),
    *each("padding", "same"),
    *each("layout", "CHW"),
    *each("activation", "rely"),
    *each("granularity", "unit"),
    *each("p", 2),
    *each("input_p", "a"),
    *each("dtype", "int8"),
    *each("bias", 1),
    *each("init", "normal"),
]
DROPOUT = [
    *each("p", math.nan, 1.1, "0.5"),
    *each("scaling", "none", None),
    *each("granularity", "channel"),
    *each("seed", -1),
    *each("stream", 2**32),
]
POOL = [*each("kernel_size", 0, "2"), *each("padding", 2), *each("ceil_mode", 1), *each("layout", None)]


def wrong_calls(folder):
    """All wrong calls; they need no folder."""
    yield from spoiled("Linear", lambda: {"in_features": 4, "out_features": 3, "seed": 1}, LINEAR)
    yield from spoiled("Conv2d", lambda: {"in_channels": 3, "out_channels": 4, "kernel_size": 3}, CONV2D)
    yield from spoiled("Dropout", lambda: {"p": 0.5}, DROPOUT)
    yield from spoiled("MaxPool2d", lambda: {"kernel_size": 3}, POOL)
    yield from spoiled("AvgPool2d", lambda: {"kernel_size": 3}, each("count_include_pad", 1) + each("stride", 0))
    for kind in MAKERS:
        for label, call in layer_calls(kind).items():
            yield f"{kind}/{label}", call
    for label, call in (network_calls() | live_calls()).items():
        yield label, call


def layer_calls(kind):
    """Arrays that a layer refuses, and backward before forward."""
    make, x = MAKERS[kind], np.ones((3, 4), np.float32)

    def gradient(dy):
        layer = make()
        objects.forward(layer, x)
        return objects.backward(layer, dy)

    calls = {
        "x=i8": lambda: objects.forward(make(), x.astype("i8")),
        "x=f2_test": lambda: objects.forward(make(), x.astype("f2"), False),
        "x=list": lambda: objects.forward(make(), [[1.0]]),
        "dy=i8": lambda: gradient(x.astype("i8")),
        "dy=f64": lambda: gradient(x.astype("f8")),
        "dy=transposed": lambda: gradient(np.ones((4, 3), np.float32)),
        "dy=None": lambda: gradient(None),
        "backward_first": lambda: objects.backward(make(), x),
    }
    return calls


def network_calls():
    """Networks with something that is no layer, or with one layer twice."""
    relu, linear = api.call("ReLU"), MAKERS["Linear"]()
    sequential = functools.partial(api.call, "Sequential")
    return {
        "Sequential/list": lambda: sequential([relu]),
        "Sequential/function": lambda: sequential(np.tanh),
        "Sequential/None": lambda: sequential(None),
        "Sequential/class": lambda: sequential(api.find("ReLU")),
        "Sequential/twice": lambda: sequential(linear, relu, linear),
        "Sequential/nested_twice": lambda: sequential(linear, sequential(linear)),
        "Sequential/seed": lambda: sequential(relu, seed=-1),
        "Flatten/scalar": lambda: objects.forward(api.call("Flatten"), np.array(1, np.float32)),
    }


def live_calls():
    """Rates set on a live layer, and calls of Linear and Conv2d."""
    conv2d = functools.partial(api.call, "Conv2d", 3, 4, 3, seed=1)
    linear, x = MAKERS["Linear"], floats(3, 4)
    return {
        "Linear/set_p": lambda: objects.set_option(linear(), "Linear", "p", 1.5),
        "Linear/set_input_p": lambda: objects.set_option(linear(), "Linear", "input_p", "0.1"),
        "Dropout/set_p": lambda: objects.set_option(MAKERS["Dropout"](), "Dropout", "p", math.nan),
        "Linear/x=narrow": lambda: objects.forward(linear(), x[:, :3]),
        "Linear/x=f64": lambda: objects.forward(linear(), x.astype("f8")),
        "Linear/x=row": lambda: objects.forward(linear(), x[0]),
        "Linear/residual": lambda: objects.forward(linear(), x, residual=zeros(3, 5)),
        "Linear/active_inputs": lambda: objects.forward(linear(), x, active_inputs=np.ones(3, bool)),
        "Linear/input_grad": lambda: objects.backward(linear(), x, 1),
        "Conv2d/x=channels": lambda: objects.forward(conv2d(), floats(2, 2, 5, 5)),
        "Conv2d/x=small": lambda: objects.forward(conv2d(), floats(2, 3, 2, 5)),
        "Conv2d/backward_first": lambda: objects.backward(conv2d(), floats(2, 4, 3, 3)),
    }
