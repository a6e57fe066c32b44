"""Trainer with every option, early stopping, dropout schedules, splits of examples."""

import functools
import math

import numpy as np

from digests import api, inputs
from digests.api import objects
from digests.case import Case, label, once
from digests.cases.networks import CLASSES, build, examples

NET = [
    ("Linear", (6, 24), {"activation": "relu", "p": 0.3}),
    ("Dropout", (), {"p": 0.2}),
    ("Linear", (24, CLASSES), {"input_p": 0.1}),
]
SIZES = {"epochs": 3, "batch_size": 16}
# Options of fit, and options of `parts` and `prepare` beside them.
FITS = [
    {},
    {"shuffle": False},
    {"shuffle_seed": 7},
    {"batch_size": 7},
    {"validation": 0.25},
    {"validation": "pair"},
    {"train_measured": "after", "validation": 0.25},
    {"record_steps": True},
    {"penalty": True, "validation": 0.25},
    {"one_hot": True},
    {"own_loss": True},
    {"callback": True},
    {"rule": "SGD"},
    {"epochs": 8, "validation": 0.25, "stop": {"patience": 2}},
    {"epochs": 8, "validation": 0.25, "stop": {"patience": 1, "min_delta": 0.05, "restore_best": False}},
    {"epochs": 6, "stop": {"monitor": "train accuracy", "patience": 1}},
    {"epochs": 4, "callback": True, "stop": {"monitor": "norm", "higher_is_better": True, "patience": 2}},
    {"schedule": ("LinearSchedule", {"start": 0.5, "end": 0.1, "steps": 7}), "record_steps": True},
    {"schedule": ("StepSchedule", {"start": 0.5, "interval": 3, "drop": 0.2, "lowest": 0.05, "name": "p"})},
    {
        "schedule": ("AdaptiveSchedule", {"start": 0.3, "change": 0.1, "tolerance": 0.01}),
        "validation": 0.25,
        "train_measured": "after",
        "epochs": 6,
    },
]
SCHEDULES = [
    ("LinearSchedule", {"start": 0.5, "end": 0.1, "steps": 4}),
    ("LinearSchedule", {"start": 0.0, "end": 1.0, "steps": 7}),
    ("LinearSchedule", {"start": 0.1, "end": 0.7, "steps": 199}),
    ("StepSchedule", {"start": 0.5, "interval": 2}),
    ("StepSchedule", {"start": 0.55, "interval": 1, "drop": 0.07, "lowest": 0.0}),
    ("StepSchedule", {"start": 1.0, "interval": 3, "drop": 1e308, "lowest": 0.2}),
]
ADAPTIVE = [
    {},
    {"start": 0.5, "change": 0.2, "tolerance": 0.0, "lowest": 0.1, "highest": 0.6},
    {"start": 0.0, "tolerance": 0.02},
]
TRAIN_ACCURACIES = [0.5, 0.6, 0.7, 0.8, 0.82, math.nan, 0.9, 0.9, 0.91, 0.95]
TEST_ACCURACIES = [0.5, 0.58, 0.6, 0.62, 0.66, 0.6, 0.8, 0.88, 0.7, 0.71]


def cases():
    """Everything around the training loop."""
    for options in FITS:
        yield Case(f"fit/{fit_label(options)}", functools.partial(prepare, options))
    for kind, options in SCHEDULES:
        yield Case(f"{kind}/{label(options)}", functools.partial(prepare_schedule, kind, options), every_isa=False)
    for options in ADAPTIVE:
        yield Case(f"AdaptiveSchedule/{label(options)}", functools.partial(prepare_adaptive, options), every_isa=False)
    for fraction in (0.25, 0.5, 0.9):
        yield once(f"split/fraction={fraction:g}", functools.partial(split, fraction), every_isa=False)
    yield once("EarlyStopping/loop", early_stopping, every_isa=False)


def fit_label(options):
    """The key: the options, with the options inside stop and schedule written out."""
    flat = {}
    for name, value in options.items():
        if name == "stop":
            flat |= {"stop": True, **value}
        elif name == "schedule":
            flat |= {"schedule": value[0], **value[1]}
        else:
            flat[name] = value
    return label(flat).replace(" ", "_")


def squares(outputs, y):
    """A loss function of the user."""
    difference = outputs - y
    return float(np.mean(difference * difference)), (2 * difference / difference.size).astype(outputs.dtype)


def prepare(options):
    x, labels = examples((6,), "f32", count=60)
    held_out = inputs.normal("held out", (21, 6), "f32"), inputs.whole("held out labels", (21,), 0, CLASSES)

    def run():
        given = SIZES | options
        y = labels
        if given.pop("one_hot", False):
            y = np.eye(CLASSES)[labels]
        own = given.pop("own_loss", False)
        if own:
            y = np.eye(CLASSES, dtype=np.float32)[labels]
        if given.get("validation") == "pair":
            given["validation"] = held_out
        trainer, schedule = parts(given, own)
        numbers, net = objects.fit(trainer, x, y, **given), objects.trained(trainer)
        results = {"history": numbers, "values": [objects.values(net), objects.next_keys(net)]}
        results["predict"] = objects.predict(trainer, held_out[0], batch_size=5)
        if not own:
            results["evaluate"] = objects.evaluate(trainer, *held_out, batch_size=8)
        if schedule is not None:
            results["rate"] = objects.rate(schedule)
        return results

    return run


def parts(given, own):
    """(a trainer of a new network, its schedule or None); removes from `given` what is no option of fit."""
    net = build(NET, seed=3)
    penalty = {"l1": 0.001, "l2": 0.01} if given.pop("penalty", False) else {}
    rule = given.pop("rule", "Adam")
    optimizer = api.call(rule, objects.parameters(net), lr=0.1 if rule == "SGD" else 0.01, **penalty)
    callbacks = [objects.norm_callback] if given.pop("callback", False) else []
    schedule = None
    if "schedule" in given:
        kind, options = given.pop("schedule")
        schedule = api.call(kind, **options)
        callbacks.append(schedule)
    if "stop" in given:
        given["early_stopping"] = api.call("EarlyStopping", **given.pop("stop"))
    loss = {"loss": squares, "accuracy": False} if own else {}
    return api.call("Trainer", net, optimizer, callbacks=callbacks, **loss), schedule


def prepare_schedule(kind, options):
    """The rate of every step, and the rates that it sets on a network and on chosen layers."""

    def run():
        schedule, net = api.call(kind, **options), build(NET, seed=3)
        rates = [objects.rate(schedule, step) for step in [*range(12), 1000]]
        set_to = [objects.apply(schedule, net, step) for step in (0, 5)]
        own = api.call(kind, **options, layers=[objects.layer(net, 2)])
        set_to += [objects.apply(own, net, 3), objects.rate(schedule), objects.rate(own), *rates_of(net)]
        return {"rates": rates, "applied": set_to}

    return run


def rates_of(net):
    """The rate of every layer of NET."""
    kinds = ("Linear", "Dropout", "Linear")
    return [objects.get_option(layer, kind, "p") for layer, kind in zip(objects.layers(net), kinds, strict=True)]


def prepare_adaptive(options):
    """The rate after each epoch of a given history."""

    def run():
        schedule, net = api.call("AdaptiveSchedule", **options), build(NET, seed=3)
        count = range(len(TRAIN_ACCURACIES) + 1)
        rates = [objects.rate(schedule, TRAIN_ACCURACIES[:n], TEST_ACCURACIES[:n]) for n in count]
        applied = [objects.apply(schedule, net, TRAIN_ACCURACIES[:n], TEST_ACCURACIES[:n]) for n in count]
        return {"rates": rates, "applied": [*applied, *rates_of(net)]}

    return run


def split(fraction):
    """Training and validation examples, split with two seeds."""
    x, labels = examples((6,), "f32", count=60)
    two = [api.call("split_validation", x, labels, fraction, seed=seed) for seed in (0, 5)]
    return {"parts": [[list(train), list(held_out)] for train, held_out in two]}


def early_stopping():
    """EarlyStopping in a loop without Trainer: the network changes, and the numbers get better and worse."""
    net, stopping = build(NET, seed=3), api.call("EarlyStopping", patience=3, min_delta=0.01)
    stops = []
    for value in (1.0, 0.8, math.nan, 0.795, 0.7, 0.75, 0.9, 0.71):
        for array in objects.live_values(net):
            array += array.dtype.type(0.25)
        stops.append(objects.update(stopping, value, net))
    return {"stops": stops, "best": objects.restore(stopping, net), "values": objects.values(net)}
