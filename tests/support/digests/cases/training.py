"""The loss, steps of the optimizers, and penalties."""

import functools

import numpy as np

from digests import api, inputs
from digests.api import objects
from digests.case import Case, label

LOGITS = [(1, 1), (7, 10), (33, 65), (5, 1000), (0, 10), (131, 101)]  # the last has work for two threads
TARGETS = ("classes", "one_hot", "smooth")
# name: the weight shape of each layer; "large" has work for two threads
SIZES = {"small": [(7, 5), (3, 7)], "large": [(300, 271)]}
RULES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "l1": 0.01}),
    ("SGD", {"lr": 0.1, "l2": 0.02}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "nesterov": True, "l1": 0.01, "l2": 0.02}),
    ("Adam", {}),
    ("Adam", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}),
    ("Adam", {"lr": 0.01, "l1": 0.001, "l2": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.0, 0.0)}),
]
DTYPE_NAMES = {"f32": "float32", "f64": "float64", "bf16": "bfloat16"}


def cases():
    """Everything about the loss and the optimizers."""
    for dtype in inputs.available_dtypes():
        for shape in LOGITS if dtype == "f32" else LOGITS[1::2]:
            yield from (loss_case(dtype, shape, target) for target in TARGETS)
        for rule, options in RULES:
            yield step_case(dtype, "small", rule, options)
        for rule, options in RULES[5::3]:
            yield step_case(dtype, "large", rule, options)
    for kind, view in (("specials", "rows"), ("huge", "rows"), ("normal", "columns"), ("normal", "reversed")):
        yield loss_case("f32", (33, 65), "classes", kind, view)
    for rule, options in RULES[5::3]:
        yield step_case("f32", "small", rule, options, "columns")
    for options in ({"l1": 0.1}, {"l2": 0.3}, {"l1": 0.1, "l2": 0.3}, {}):
        for dtype in inputs.available_dtypes():
            yield penalty_case(dtype, options)


def loss_case(dtype, shape, target, kind="normal", view="rows"):
    """A loss and its gradient."""
    words = [target, *[word for word in (kind, view) if word not in ("normal", "rows")]]
    key = f"loss/{dtype}/M{shape[0]}N{shape[1]}/{','.join(words)}"
    return Case(key, functools.partial(prepare_loss, dtype, shape, target, kind, view))


def prepare_loss(dtype, shape, target, kind, view):
    make = inputs.Maker(f"loss {shape}", dtype)
    logits = make("logits", *shape, scale=100.0) if kind == "huge" else make("logits", *shape, kind=kind)
    logits = inputs.LAYOUTS[view](logits)
    labels = inputs.whole(f"labels {shape}", shape[:1], 0, shape[1])
    if target != "classes":
        labels = np.eye(shape[1])[labels]
    if target == "smooth":
        labels = labels * 0.75 + 0.25 / shape[1]

    def run():
        loss, gradient = api.call("loss", logits=logits, labels=labels)
        return {"loss": loss, "gradient": gradient}

    return run


def network(dtype, sizes, view="rows"):
    """Linear layers with fixed parameters, in the memory layout of this name."""
    make = inputs.Maker(f"optimizer {sizes}", dtype)
    layers = []
    for i, (outputs, width) in enumerate(SIZES[sizes]):
        layer = api.call("Linear", width, outputs, dtype=DTYPE_NAMES[dtype], seed=1, stream=i)
        weight = inputs.LAYOUTS[view](make(f"weight {i}", outputs, width))
        objects.set_parameters(layer, weight=weight, bias=make(f"bias {i}", outputs))
        layers.append(layer)
    return api.call("Sequential", *layers)


def step_case(dtype, sizes, rule, options, view="rows"):
    """Some steps with new gradients each, one of them at another learning rate."""
    key = f"step/{dtype}/{sizes}/{','.join([rule, label(options)])}{'' if view == 'rows' else ',' + view}"

    def run():
        net, make = network(dtype, sizes, view), inputs.Maker(f"gradients {sizes}", dtype)
        optimizer = api.call(rule, objects.parameters(net), **options)
        for step in range(5):
            for i, gradient in enumerate(objects.live_gradients(net)):
                gradient[...] = make(f"{step} {i}", *gradient.shape)
            objects.step(optimizer, lr=0.03 if step == 3 else None)
        state = [objects.optimizer_state(optimizer), objects.penalty(optimizer)]
        return {"values": objects.values(net), "state": state}

    return Case(key, lambda: run)


def penalty_case(dtype, options):
    """The penalty of a network."""
    key = f"penalty/{dtype}/{label(options)}"
    return Case(
        key, lambda: lambda: {"value": api.call("penalty", network(dtype, "large"), **options)}, every_isa=False
    )
