"""Dropout schedules: their values at every step, the adaptive rule on hand-made histories, and what they set."""

import copy
import math

import fusedrop as fd
import numpy as np
import pytest
from refusals import assert_refused, name_rows, not_a_probability

X, LABELS = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32), np.arange(40) % 3


def build(*rates):
    """Linear, Dropout and an output layer without dropout."""
    first, second = rates or (0.5, 0.5)
    return fd.Sequential(
        fd.Linear(4, 8, activation="relu", p=first), fd.Sequential(fd.Dropout(second)), fd.Linear(8, 3), seed=1
    )


def rates_of(net):
    return [net[0].p, net[1][0].p, net[2].p]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (fd.training.StepSchedule(0.5, 2), [0.5, 0.5, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]),
        (fd.training.StepSchedule(0.55, 1), [0.55, 0.45, 0.35, 0.25, 0.15, 0.1, 0.1]),
        (fd.training.StepSchedule(0.5, 3, drop=0.25, lowest=0.0), [0.5] * 3 + [0.25] * 3 + [0.0] * 5),
        (fd.training.StepSchedule(1.0, 1, drop=1e308, lowest=0.2), [1.0] + [0.2] * 4),
        (fd.training.StepSchedule(0.1, 1), [0.1] * 4),
        (fd.training.LinearSchedule(0.5, 0.1, 4), [0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1]),
        (fd.training.LinearSchedule(0.0, 1.0, 2), [0.0, 0.5, 1.0, 1.0]),
        (fd.training.LinearSchedule(0.3, 0.3, 3), [0.3] * 5),
        (fd.training.LinearSchedule(0.2, 0.7, 1), [0.2, 0.7, 0.7]),
    ],
    ids=repr,
)
def test_the_rate_of_every_step(schedule, rates):
    assert [schedule(step) for step in range(len(rates))] == pytest.approx(rates, abs=1e-15)  # a rounding or two
    assert schedule(np.int64(0)) == rates[0]
    assert schedule(10**9) == rates[-1], "the floor, exactly"
    net = build()
    for step, rate in enumerate(rates):
        assert schedule.apply(net, step) == schedule(step)
        assert rates_of(net) == [schedule(step)] * 2 + [0.0]
        assert rates_of(net)[0] == pytest.approx(rate, abs=1e-15)


def test_linear_rates_never_leave_their_range():
    """A rate above 1 by a rounding would be refused by the layer."""
    for steps in range(1, 200):
        schedule = fd.training.LinearSchedule(1.0, 1.0, steps)
        assert all(0.999 < schedule(step) <= 1.0 for step in range(steps + 1))
        assert fd.training.LinearSchedule(0.1, 0.7, steps)(steps) == 0.7


TRAIN = [0.50, 0.60, 0.70, 0.80, 0.80]
ADAPTIVE = [  # (options, train, validation, the rate after each epoch, from before the first)
    ({}, TRAIN, [0.50, 0.55, 0.60, 0.60, 0.60], [0.3, 0.3, 0.4, 0.5, 0.6, 0.6]),  # gaps 0, .05, .1, .2, .2
    ({}, TRAIN, [0.30, 0.50, 0.65, 0.80, 0.80], [0.3, 0.3, 0.2, 0.1, 0.0, 0.0]),  # gaps .2, .1, .05, 0, 0
    ({"lowest": 0.15}, TRAIN, [0.30, 0.50, 0.65, 0.80, 0.80], [0.3, 0.3, 0.2, 0.15, 0.15, 0.15]),
    ({"highest": 0.45}, TRAIN, [0.50, 0.55, 0.60, 0.60, 0.60], [0.3, 0.3, 0.4, 0.45, 0.45, 0.45]),
    ({}, [0.5] * 5, [0.5, 0.4, 0.5, 0.4, 0.5], [0.3, 0.3, 0.4, 0.3, 0.4, 0.3]),  # and back
    ({}, [0.5] * 4, [0.50, 0.4925, 0.485, 0.4775], [0.3, 0.3, 0.3, 0.4, 0.4]),  # a slow drift adds up
    ({}, [0.5] * 4, [0.40, 0.4075, 0.415, 0.4225], [0.3, 0.3, 0.3, 0.2, 0.2]),  # and so does one back
    ({"tolerance": 0.0}, [0.5] * 3, [0.5, 0.5, 0.499], [0.3, 0.3, 0.3, 0.4]),
    ({"tolerance": 0.25}, TRAIN, [0.50, 0.55, 0.60, 0.60, 0.60], [0.3] * 6),
    ({}, [0.5] * 4, [0.5, 0.6, 0.7, 0.6], [0.3, 0.3, 0.2, 0.1, 0.2]),  # validation ahead: negative gaps
    ({}, [math.nan, 0.5, math.nan, 0.5], [0.5, 0.5, 0.5, 0.4], [0.3, 0.3, 0.3, 0.3, 0.4]),
]


@pytest.mark.parametrize(("options", "train", "validation", "rates"), ADAPTIVE)
def test_the_adaptive_rule(options, train, validation, rates):
    schedule = fd.training.AdaptiveSchedule(0.3, **{"change": 0.1, "tolerance": 0.01} | options)
    got = [schedule(train[:epoch], validation[:epoch]) for epoch in range(len(train) + 1)]
    assert got == pytest.approx(rates, abs=1e-15)  # a rounding of each change
    assert [schedule(train[:epoch], validation[:epoch]) for epoch in range(len(train) + 1)] == got, "no hidden state"
    net = build()
    assert schedule.apply(net, train, validation) == got[-1]
    assert rates_of(net) == [got[-1]] * 2 + [0.0]


def test_a_schedule_keeps_the_layers_that_it_has_set_to_zero():
    schedule, net = fd.training.LinearSchedule(0.0, 0.6, 2), build(0.5, 0.0)
    for step in range(3):
        schedule.apply(net, step)
        assert rates_of(net) == [schedule(step), 0.0, 0.0]
    twin = copy.deepcopy((schedule, net))
    twin[0].apply(twin[1], 0)
    assert (twin[0].apply(twin[1], 1), rates_of(twin[1])[0]) == (0.3, 0.3)
    assert rates_of(net)[0] == 0.6


def test_a_schedule_sets_the_layers_given_and_no_others():
    net = build(0.5, 0.2)
    schedule = fd.training.StepSchedule(0.9, 1, layers=[net[0], net[2]])
    schedule.apply(net, 0)
    assert rates_of(net) == [0.9, 0.2, 0.9]


def test_a_schedule_leaves_the_other_rates_of_a_layer_alone():
    layer = fd.Linear(4, 8, p=0.5, input_p=0.3)
    net = fd.Sequential(layer, fd.Linear(8, 8, input_p=0.2))
    fd.training.StepSchedule(0.9, 1).apply(net, 0)
    assert (layer.p, layer.input_p) == (0.9, 0.3)
    assert (net[1].p, net[1].input_p) == (0.0, 0.2)


def test_a_schedule_serves_a_layer_on_its_own_and_several_networks():
    schedule, layer, net = fd.training.StepSchedule(0.9, 1), fd.Linear(2, 2, p=0.1), build()
    schedule.apply(layer, 0)
    schedule.apply(net, 1)
    assert layer.p == 0.9
    assert rates_of(net) == pytest.approx([0.8, 0.8, 0.0], abs=1e-15)


def test_a_rate_changed_between_steps_draws_the_contracts_mask_for_it():
    """Same key, new threshold; forward and backward of one step use one rate, whatever is set in between."""
    layer = fd.Linear(6, 64, p=0.5, dtype="float64", seed=9, stream=4)
    x, dy = np.ones((33, 6)), np.ones((33, 64))
    schedule = fd.training.StepSchedule(0.9, 1, drop=0.2)
    for step in range(5):
        rate = schedule.apply(layer, step)
        y = layer.forward(x)
        keep = fd.reference.dropout_mask((33, 64), p=rate, rng=fd.Philox(9, 4, step))
        layer.p = 0.0
        layer.backward(dy)
        layer.p = rate
        assert np.array_equal(y != 0, keep)
        scale = fd.reference.scale(rate)
        want = dy.T * keep.T @ x * scale
        assert layer.grads["weight"] == pytest.approx(want, rel=33 * 2**-52)  # a sum of 33 products


def fit(net, schedule, epochs=3, **options):
    trainer = fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.1), callbacks=[schedule])
    return trainer.fit(X, LABELS, epochs=epochs, batch_size=10, progress=False, record_steps=True, **options)


def test_a_stepwise_schedule_in_a_trainer_is_one_line_of_a_loop():
    schedule, net, twin = fd.training.StepSchedule(0.5, 3), build(), build()
    history = fit(net, schedule, shuffle=False)
    sgd = fd.training.SGD(twin.parameters(), lr=0.1)
    for step in range(12):
        schedule.apply(twin, step)
        rows = slice(step % 4 * 10, step % 4 * 10 + 10)
        twin.backward(fd.softmax_cross_entropy(twin.forward(X[rows]), LABELS[rows])[1])
        sgd.step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert np.array_equal(p.value, q.value)
    assert history.steps["dropout rate"] == [schedule(step) for step in range(12)]
    assert history["dropout rate"] == [schedule(3), schedule(7), schedule(11)]


def test_two_schedules_need_two_names():
    def trainer(second):
        net = build()
        first = fd.training.StepSchedule(0.5, 3, layers=[net[0]])
        schedules = [first, second(layers=[net[1][0]])]
        return fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.1), callbacks=schedules)

    arguments = {"epochs": 2, "batch_size": 10, "validation": 0.5, "progress": False}
    history = trainer(lambda layers: fd.training.AdaptiveSchedule(layers=layers, name="second rate")).fit(
        X, LABELS, **arguments
    )
    assert (history["dropout rate"], history["second rate"][0]) == ([0.5, 0.4], 0.2)
    with pytest.raises(ValueError, match=r"name must not be in the history already, .*; got 'dropout rate'"):
        trainer(lambda layers: fd.training.LinearSchedule(0, 1, 2, layers=layers)).fit(X, LABELS, **arguments)


def test_an_adaptive_schedule_in_a_trainer_changes_the_rate_between_epochs():
    schedule, net = fd.training.AdaptiveSchedule(0.4, change=0.1, tolerance=0.0), build()
    history = fit(net, schedule, epochs=8, validation=0.5, train_measured="after")
    train, validation = history["train accuracy"], history["validation accuracy"]
    rates = [schedule(train[:epoch], validation[:epoch]) for epoch in range(9)]
    assert history["dropout rate"] == rates[:-1]
    assert history.steps["dropout rate"] == [rate for rate in rates[:-1] for _ in range(2)]
    assert len(set(rates)) > 1
    assert rates_of(net)[:2] == [rates[-1]] * 2


@pytest.mark.parametrize(
    "schedule", [fd.training.StepSchedule(0.5, 1), fd.training.LinearSchedule(0, 1, 2), fd.training.AdaptiveSchedule()]
)
def test_a_network_without_dropout_is_refused(schedule):
    with pytest.raises(ValueError, match=r"net must have a layer with p > 0.*; got Sequential"):
        fit(build(0.0, 0.0), schedule, validation=0.5)


@pytest.mark.parametrize("early_stopping", [None, fd.training.EarlyStopping("train loss")])
def test_an_adaptive_schedule_needs_validation(early_stopping):
    net = build()
    with pytest.raises(ValueError, match=r"validation must be given to fit.*; got"):
        fit(net, fd.training.AdaptiveSchedule(), early_stopping=early_stopping)
    assert rates_of(net) == [0.5, 0.5, 0.0]


def test_a_refused_fit_leaves_the_rates_alone():
    net = build()
    with pytest.raises(ValueError, match="monitor must be"):
        fit(net, fd.training.StepSchedule(0.9, 1), early_stopping=fd.training.EarlyStopping())
    assert rates_of(net) == [0.5, 0.5, 0.0]


LINEAR, STEP = {"start": 0.5, "end": 0.1, "steps": 4}, {"start": 0.5, "interval": 2}
BAD = [
    *((fd.training.LinearSchedule, LINEAR, *row) for row in not_a_probability("start") + not_a_probability("end")),
    *((fd.training.StepSchedule, STEP, *row) for row in not_a_probability("start")),
    *((fd.training.AdaptiveSchedule, {}, *row) for row in not_a_probability("start")),
    (fd.training.LinearSchedule, LINEAR, "steps", 0, ValueError, "an integer >= 1", "0"),
    (fd.training.LinearSchedule, LINEAR, "steps", 2.0, TypeError, "an integer >= 1", "2.0"),
    (fd.training.StepSchedule, STEP, "interval", 0, ValueError, "an integer >= 1", "0"),
    (fd.training.StepSchedule, STEP, "interval", True, TypeError, "an integer >= 1", "True"),
    (fd.training.StepSchedule, STEP, "drop", -0.1, ValueError, ">= 0", "-0.1"),
    (fd.training.StepSchedule, STEP, "drop", math.inf, ValueError, ">= 0", "inf"),
    (fd.training.StepSchedule, STEP, "lowest", 0.6, ValueError, "in [0.0, 0.5]", "0.6"),
    (fd.training.StepSchedule, STEP, "lowest", math.nan, ValueError, "in [0.0, 0.5]", "nan"),
    (fd.training.AdaptiveSchedule, {}, "change", 0.0, ValueError, "in (0, 1]", "0.0"),
    (fd.training.AdaptiveSchedule, {}, "change", True, TypeError, "in (0, 1]", "True"),
    (fd.training.AdaptiveSchedule, {}, "tolerance", -1e-9, ValueError, ">= 0", "-1e-09"),
    (fd.training.AdaptiveSchedule, {}, "lowest", 0.3, ValueError, "in [0.0, 0.2]", "0.3"),
    (fd.training.AdaptiveSchedule, {}, "highest", 0.1, ValueError, "in [0.2, 1.0]", "0.1"),
    (fd.training.AdaptiveSchedule, {}, "highest", 1.1, ValueError, "in [0.2, 1.0]", "1.1"),
    *(
        (fd.training.StepSchedule, STEP, "layers", value, error, "with dropout", got)
        for value, error, got in (
            (build(), TypeError, "Sequential"),
            (3, TypeError, "int"),
            ([fd.ReLU()], TypeError, "ReLU at [0]"),
            ([build()[0], None], TypeError, "NoneType at [1]"),
            ([], ValueError, "an empty one"),
        )
    ),
    (fd.training.StepSchedule, STEP, "name", 3, TypeError, "a str", "3"),
    (fd.training.AdaptiveSchedule, {}, "name", None, TypeError, "a str", "None"),
    (fd.training.StepSchedule(0.5, 2), {}, "step", -1, ValueError, "an integer >= 0", "-1"),
    (fd.training.LinearSchedule(0.5, 0, 2), {}, "step", 1.0, TypeError, "an integer >= 0", "1.0"),
    (fd.training.StepSchedule(0.5, 2).apply, {"step": 0}, "net", None, TypeError, "layer or network", "NoneType"),
]


@pytest.mark.parametrize(
    "row",
    BAD,
    ids=[f"{getattr(r[0], '__name__', r[0])} {n}" for r, n in zip(BAD, name_rows([r[2:] for r in BAD]), strict=True)],
)
def test_what_is_refused(row):
    call, good, argument, value, error, wanted, got = row
    assert_refused(call, {**good, argument: value}, error, argument, wanted, got)


def test_accuracies_come_in_pairs():
    with pytest.raises(ValueError, match="of one length; got 2 and 1 numbers"):
        fd.training.AdaptiveSchedule()([0.1, 0.2], [0.1])


@pytest.mark.parametrize(
    "schedule",
    [fd.training.StepSchedule(0.5, 3), fd.training.LinearSchedule(0.5, 0.1, 4), fd.training.AdaptiveSchedule()],
)
def test_repr_shows_how_to_build_it(schedule):
    assert repr(eval(repr(schedule), dict(vars(fd.training)))) == repr(schedule)
