"""Wrong calls of optimizers, penalties, Trainer, early stopping, schedules and splits."""

import functools
import math

import numpy as np

from digests import api, inputs
from digests.api import objects
from digests.cases.networks import build
from digests.errors.calls import As, each, spoiled

N = 50
X, LABELS = inputs.normal("errors x", (N, 4), "f32"), np.arange(N) % 3
ONE_HOT = np.eye(3)[LABELS]
NET = [("Linear", (4, 16), {"activation": "relu", "p": 0.3}), ("Linear", (16, 3), {})]
BAD = [math.nan, -0.1, math.inf, "0.1", None, True]


def net():
    return build(NET, seed=3)


def optimizer(rule="Adam", of=None):
    return api.call(rule, objects.parameters(net() if of is None else of), lr=0.1)


SGD = [
    *each("lr", *BAD),
    *each("momentum", 1.0, -0.1, "0.9"),
    *each("nesterov", True, 1),
    *each("l1", -0.1),
    *each("l2", "1"),
]
ADAM = [
    *each("lr", -1.0),
    *each("betas", (0.9, 1.0), (0.9, "0.9"), 0.9, (0.9,)),
    *each("eps", -1e-8, None),
    *each("l1", math.nan),
]
FIT = [
    *each("x", X.tolist(), X.astype(int), X[:0], np.array(1, np.float32), X.astype("f8"), X[:, :3]),
    *each("y", LABELS[:-1], LABELS[:0], 3, LABELS + 1, LABELS.astype(float), As("twice", 2 * ONE_HOT)),
    *each("y", np.eye(4)[LABELS]),
    *each("epochs", 0, 1.0, True),
    *each("batch_size", 0, "8"),
    *each("validation", 0.0, 1, True, (X,), "0.2", X, 0.001, (X, LABELS[:3]), (X[:, :3], LABELS), (X, LABELS + 1)),
    *each("shuffle", 1),
    *each("shuffle_seed", -1, None),
    *each("train_measured", "later"),
    *each("record_steps", 1),
    *each("early_stopping", 5),
]
SPLIT = [*each("fraction", 0, 1.0, True, 0.995), *each("seed", -1), *each("x", X[:3]), *each("y", LABELS[:0])]
STOPPING = [
    *each("monitor", "loss", 3),
    {"monitor": 3, "higher_is_better": True},
    *each("patience", 0, 1.5),
    *each("min_delta", -1.0, "0"),
    *each("restore_best", 1),
    *each("higher_is_better", 1),
]
LINEAR_SCHEDULE = [
    *each("start", 1.1, "0.5"),
    *each("end", -0.1),
    *each("steps", 0, 1.5),
    *each("layers", 3, [], [1]),
    *each("name", 3),
]
STEP_SCHEDULE = [*each("start", 2), *each("interval", 0), *each("drop", -1), *each("lowest", 0.6, "a")]
ADAPTIVE_SCHEDULE = [*each("change", 0, 1.5), *each("tolerance", -1), *each("lowest", 0.3), *each("highest", 0.1)]
WIDE = np.zeros((1, 3))
RETURNED = {  # what a loss may not return
    "float": 0.5,
    "array": np.zeros((2, 3), np.float32),
    "one": (0.5,),
    "no_number": (None, WIDE.astype(np.float32)),
    "no_array": (0.5, None),
    "f64": (0.5, WIDE),
    "flat": (0.5, WIDE[0].astype(np.float32)),
}


def wrong_calls(folder):
    """All wrong calls; they need no folder."""
    parameters = objects.parameters(net())
    yield from spoiled("SGD", lambda: {"parameters": parameters, "lr": 0.1}, SGD)
    yield from spoiled("Adam", lambda: {"parameters": parameters}, ADAM)
    wrong = [
        As("array", [np.zeros(3)]),
        As("network", net()),
        As("None", None),
        As("twice", [*parameters, *parameters]),
    ]
    yield from spoiled("SGD", lambda: {"lr": 0.1}, each("parameters", *wrong))
    yield from spoiled("penalty", lambda: {"net": parameters}, each("l1", -1.0) + each("l2", "a") + each("net", 3))
    yield from optimizer_calls().items()
    yield from trainer_calls()
    yield from spoiled("split_validation", lambda: {"x": X, "y": LABELS, "fraction": 0.2}, SPLIT)
    yield from spoiled("EarlyStopping", dict, STOPPING)
    yield from spoiled("LinearSchedule", lambda: {"start": 0.5, "end": 0.1, "steps": 4}, LINEAR_SCHEDULE)
    yield from spoiled("StepSchedule", lambda: {"start": 0.5, "interval": 4}, STEP_SCHEDULE)
    yield from spoiled("AdaptiveSchedule", dict, ADAPTIVE_SCHEDULE)
    yield from schedule_calls()


def optimizer_calls():
    """Parameters that no longer fit; the state of another kind of optimizer."""

    def step_with(**arrays):
        network = net()
        used = optimizer("SGD", network)
        objects.step(used)
        objects.set_parameters(objects.layer(network, 0), **arrays)
        objects.step(used)

    read_only = np.zeros((16, 4), np.float32)
    read_only.flags.writeable = False
    return {
        "step/weight=f64": lambda: step_with(weight=np.zeros((16, 4))),
        "step/weight=shape": lambda: step_with(weight=np.zeros((15, 4), np.float32)),
        "step/weight=read_only": lambda: step_with(weight=read_only),
        "step/weight=read_only_columns": lambda: step_with(weight=read_only.reshape(4, 16).T),
        "step/lr": lambda: objects.step(optimizer(), lr="fast"),
        "load_state/rule": lambda: objects.take_state(optimizer("Adam"), optimizer("SGD")),
    }


def trainer_calls():
    """The constructor, fit, evaluate and predict."""
    network = net()
    sgd = optimizer("SGD", network)

    def trainer(**changes):
        return api.call("Trainer", **{"net": network, "optimizer": sgd} | changes)

    wrong = [
        *each("net", 3),
        *each("optimizer", None, As("class", api.find("SGD")), As("of_another", optimizer())),
        *each("loss", None, 3),
        *each("accuracy", 1),
        *each("callbacks", As("function", print), [3], As("class", [api.find("EarlyStopping")])),
    ]
    yield from spoiled("Trainer", lambda: {"net": network, "optimizer": sgd}, wrong)
    good = {"x": X, "y": LABELS, "epochs": 1, "batch_size": 8}
    for key, call in spoiled("fit", dict, FIT):
        (changes,) = call.args[2:]
        yield key, functools.partial(fit, trainer, good | changes)
    yield "fit/early_stopping=without_validation", lambda: fit(trainer, good, early_stopping=api.call("EarlyStopping"))
    for label, returned in RETURNED.items():
        loss = functools.partial(lambda returned, outputs, y: returned, returned)
        yield f"fit/loss_returns={label}", functools.partial(fit, functools.partial(trainer, loss=loss), good)
    own = functools.partial(trainer, loss=lambda outputs, y: (0.0, np.zeros_like(outputs)))
    yield "fit/y=floats,own_loss", lambda: fit(own, good, y=LABELS.astype(float))
    yield "evaluate/x=empty", lambda: objects.evaluate(trainer(), X[:0], LABELS[:0], 8)
    yield "evaluate/batch_size=0", lambda: objects.evaluate(trainer(), X, LABELS, 0)
    yield "predict/x=empty", lambda: objects.predict(trainer(), X[:0], 8)
    yield "predict/x=list", lambda: objects.predict(trainer(), X.tolist(), 8)


def fit(make, given, **changes):
    arguments = {name: value.value if isinstance(value, As) else value for name, value in (given | changes).items()}
    return objects.fit(make(), arguments.pop("x"), arguments.pop("y"), **arguments)


def schedule_calls():
    """Steps and networks that a schedule refuses."""
    schedule = functools.partial(api.call, "LinearSchedule", start=0.5, end=0.1, steps=4)
    adaptive, dry = functools.partial(api.call, "AdaptiveSchedule"), build(NET[1:], seed=3)
    good = {"x": X, "y": LABELS, "epochs": 1, "batch_size": 8}

    def trained(network, *schedules):
        return lambda: api.call("Trainer", network, optimizer("SGD", network), callbacks=list(schedules))

    yield "LinearSchedule/step=-1", lambda: objects.rate(schedule(), -1)
    yield "LinearSchedule/step=1.5", lambda: objects.rate(schedule(), 1.5)
    yield "LinearSchedule/apply,net=3", lambda: objects.apply(schedule(), 3, 0)
    yield "LinearSchedule/apply,net=dry", lambda: objects.apply(schedule(), dry, 0)
    yield "AdaptiveSchedule/lengths", lambda: objects.rate(adaptive(), [0.5], [])
    yield "fit/schedule=twice", lambda: fit(trained(net(), schedule(), schedule()), good)
    yield "fit/schedule=adaptive,no_validation", lambda: fit(trained(net(), adaptive()), good)
