"""Networks in training: losses, parameters, gradients and keys of masks after some steps."""

import functools

from digests import api, inputs
from digests.api import objects
from digests.case import Case, label
from digests.cases.training import DTYPE_NAMES

# A network is a list of layers (kind, sizes, options); a list in the list is a nested network.
UNIT = {"granularity": "unit"}
DENSE = [
    ("Flatten", (), {}),
    ("Linear", (12, 40), {"activation": "relu", "p": 0.2, "input_p": 0.1}),
    ("Linear", (40, 33), {"activation": "gelu", "p": 0.5, "dropout_first": True}),
    ("Dropout", (), {"p": 0.3}),
    ("Linear", (33, 4), {"init": "xavier"}),
]
NESTED = [
    [("Flatten", (), {}), ("Linear", (12, 20), {"activation": "tanh", "p": 0.4}), ("Sigmoid", (), {})],
    ("Linear", (20, 20), {"p": 0.25, "stream": 1}),
    [[("GELU", (), {}), ("Dropout", (), {"p": 0.3, "scaling": "classic"})], ("SiLU", (), {})],
    ("Linear", (20, 4), {"bias": False, "seed": 99}),
]
CHAIN = [
    ("Flatten", (), {}),
    ("Linear", (12, 90), {"activation": "gelu", "p": 0.5, **UNIT}),
    ("Linear", (90, 90), {"activation": "relu", "p": 0.4, **UNIT}),
    ("Dropout", (), {"p": 0.3, **UNIT}),
    ("Tanh", (), {}),
    ("Linear", (90, 90), {"p": 0.5, "input_p": 0.2, **UNIT}),
    ("ReLU", (), {}),
    [("Linear", (90, 20), {"p": 0.02, **UNIT}), ("Linear", (20, 4), {})],
]


def images(order):
    """A convolutional network of either layout."""
    layout = {"layout": order}
    return [
        ("Conv2d", (3, 8, 3), {"padding": 1, "activation": "relu", "p": 0.2, **layout}),
        ("MaxPool2d", (2,), layout),
        ("Conv2d", (8, 6, 3), {"padding": 1, "activation": "tanh", "p": 0.3, "granularity": "channel", **layout}),
        ("AvgPool2d", (2,), layout),
        ("Flatten", (), {}),
        ("Linear", (24, 4), {"input_p": 0.25}),
    ]


SEQUENCES = [
    ("LSTM", (5, 9), {"input_p": 0.3, "recurrent_p": 0.2, "sequences": True}),
    ("LSTM", (9, 11), {"input_p": 0.2, "recurrent_p": 0.3, "constant": False, "apart": False}),
    ("Linear", (11, 4), {"input_p": 0.4}),
]
# name: network, shape of an example
NETWORKS = {
    "dense": (DENSE, (3, 4)),
    "nested": (NESTED, (3, 4)),
    "chain": (CHAIN, (12,)),
    "images_first": (images("NCHW"), (3, 8, 8)),
    "images_last": (images("NHWC"), (8, 8, 3)),
    "sequences": (SEQUENCES, (6, 5)),
}
RULES = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "l2": 0.001}),
    ("Adam", {"lr": 0.01, "l1": 0.0001}),
]
EXAMPLES, CLASSES, STEPS = 40, 4, 6


def cases():
    """Every network with both optimizers, in the dtypes that its layers accept."""
    for dtype in inputs.available_dtypes():
        for i, name in enumerate(NETWORKS):
            if (name, dtype) != ("sequences", "bf16"):
                yield from (case(dtype, name, *rule) for rule in (RULES if dtype == "f32" else RULES[i % 2 :][:1]))


def case(dtype, name, rule, options):
    """One run."""
    return Case(f"{dtype}/{name}/{rule},{label(options)}", functools.partial(prepare, dtype, name, rule, options))


def build(spec, dtype="f32", seed=None):
    """The network of a list, with layers of this dtype."""
    layers = []
    for entry in spec:
        if isinstance(entry, list):
            layers.append(build(entry, dtype))
            continue
        kind, sizes, options = entry
        width = {"dtype": DTYPE_NAMES[dtype]} if kind in ("Linear", "Conv2d", "LSTM") else {}
        layers.append(api.call(kind, *sizes, **width, **options))
    return api.call("Sequential", *layers, seed=seed)


def examples(shape, dtype, count=EXAMPLES):
    """(x, labels)"""
    x = inputs.normal(f"examples {shape}", (count, *shape), dtype)
    return x, inputs.whole(f"labels of {shape}", (count,), 0, CLASSES)


def prepare(dtype, name, rule, options):
    spec, shape = NETWORKS[name]
    x, labels = examples(shape, dtype)

    def run():
        net = build(spec, dtype, seed=3)
        start = [objects.values(net), objects.next_keys(net)]
        losses = train(net, api.call(rule, objects.parameters(net), **options), x, labels)
        end = objects.forward(net, x, False)
        gradients = [*objects.gradients(net), objects.backward(net, api.call("loss", logits=end, labels=labels)[1])]
        return {
            "losses": losses,
            "values": [*start, objects.values(net), objects.next_keys(net)],
            "gradients": gradients,
            "test": end,
        }

    return run


def train(net, optimizer, x, labels, steps=STEPS):
    """The losses of some steps over all examples."""
    losses = []
    for _ in range(steps):
        loss, gradient = api.call("loss", logits=objects.forward(net, x), labels=labels)
        objects.backward(net, gradient, False)
        objects.step(optimizer)
        losses.append(loss)
    return losses
