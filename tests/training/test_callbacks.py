"""Callbacks: their moments and states; early stopping, in a Trainer and in a written-out loop."""

import math

import fusedrop as fd
import numpy as np
import pytest
from refusals import assert_refused, name_rows

X, LABELS = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32), np.arange(20) % 3


def trainer(*callbacks):
    net = fd.Sequential(fd.Linear(4, 8, activation="relu", p=0.2), fd.Linear(8, 3), seed=1)
    return fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.1), callbacks=callbacks)


def fit(trained, epochs=3, **options):
    return trained.fit(X, LABELS, epochs=epochs, batch_size=10, progress=False, **options)


def weights(net):
    return [p.value.copy() for p in net.parameters()]


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


class Diary:
    """Writes down every moment with (epoch, step, epochs in the history)."""

    def __init__(self):
        self.seen = []
        for moment in ("before_fit", "before_step", "after_step", "after_epoch", "after_fit"):
            setattr(self, moment, lambda state, moment=moment: self.write(moment, state))

    def write(self, moment, state):
        self.seen.append((moment, state.epoch, state.step, len(state.history.get("train loss", []))))


def test_the_moments_and_their_state():
    diary = Diary()
    fit(trainer(diary), epochs=2)
    assert diary.seen == [
        ("before_fit", 0, 0, 0),
        ("before_step", 1, 0, 0),
        ("after_step", 1, 1, 0),
        ("before_step", 1, 1, 0),
        ("after_step", 1, 2, 0),
        ("after_epoch", 1, 2, 1),
        ("before_step", 2, 2, 1),
        ("after_step", 2, 3, 1),
        ("before_step", 2, 3, 1),
        ("after_step", 2, 4, 1),
        ("after_epoch", 2, 4, 2),
        ("after_fit", 2, 4, 2),
    ]


def test_a_callback_sees_the_network_as_it_is_trained():
    states = []
    trained = trainer(states.append)
    history = fit(trained, validation=0.2)
    (state,) = {id(s): s for s in states}.values()
    assert len(states) == 3
    assert (state.net, state.optimizer, state.history) == (trained.net, trained.optimizer, history)
    assert (state.epochs, state.steps, state.stop) == (3, 6, None)
    assert list(state.measured) == list(history)


def test_a_step_takes_what_callbacks_set_before_it():
    class Rate:
        def before_step(self, state):
            state.optimizer.lr = 0.0

    trained = trainer(Rate())
    before = weights(trained.net)
    fit(trained)
    assert same(weights(trained.net), before)


def test_callbacks_run_in_order_and_before_early_stopping():
    """The second callback reads the numbers of the first, and early stopping monitors them."""
    early = fd.training.EarlyStopping("double", patience=1, higher_is_better=True)
    history = fit(
        trainer(
            lambda state: state.history.record({"score": -state.epoch}),
            lambda state: state.history.record({"double": 2 * state.history["score"][-1]}),
        ),
        early_stopping=early,
    )
    assert history["double"] == [-2, -4]
    assert (early.best, early.best_epoch) == (-2, 1)


STOPS = [  # (numbers of the epochs, options, epochs until it stops or None, best epoch)
    ([3, 2, 1, 0], {}, None, 4),
    ([1, 2, 3, 4, 5], {"patience": 1}, 2, 1),
    ([1, 2, 3, 4, 5], {"patience": 3}, 4, 1),
    ([3, 4, 2, 3, 3, 1], {"patience": 2}, 5, 3),
    ([3, 3, 3], {"patience": 2}, 3, 1),
    ([3, 2.75, 2.5, 2.25], {"patience": 2, "min_delta": 0.5}, 3, 1),
    ([3, 2.75, 2.25, 2.25], {"patience": 2, "min_delta": 0.5}, None, 3),
    ([1, 2, 1, 1], {"patience": 2, "higher_is_better": True}, 4, 2),
    ([1, 1.25, 1.5, 1.75], {"patience": 2, "min_delta": 0.5, "higher_is_better": True}, 3, 1),
    ([math.nan, 5, math.nan, math.nan], {"patience": 2}, 4, 2),
    ([math.nan, math.nan, 1], {"patience": 2}, 2, 0),
    ([math.inf, 5, -math.inf, 0], {"patience": 1}, 4, 3),
]


@pytest.mark.parametrize(("numbers", "options", "stops", "best"), STOPS)
@pytest.mark.parametrize("where", ["Trainer", "loop"])
def test_patience_is_counted_from_the_best_epoch(where, numbers, options, stops, best):
    early = fd.training.EarlyStopping("number", **{"higher_is_better": False} | options)
    after = []  # weights after each epoch
    if where == "Trainer":
        feed = iter(numbers)
        trained = trainer(lambda s: (s.history.record({"number": next(feed)}), after.append(weights(s.net))))
        net, start = trained.net, weights(trained.net)
        history = fit(trained, epochs=len(numbers), early_stopping=early)
        assert history.stopped == ("early stopping" if stops else None)
    else:
        net = fd.Linear(2, 2, seed=1)
        start = weights(net)
        for number in numbers:
            net.params["weight"][...] += 1
            after.append(weights(net))
            if early.update(number, net):
                break
        early.restore(net)
    assert len(after) == (stops or len(numbers))
    assert early.best_epoch == best
    assert early.best == (numbers[best - 1] if best else None)
    assert same(weights(net), after[best - 1])
    assert not same(weights(net), start)


def worse_after(best, error_at):
    """Validation that is best after one epoch, then a Ctrl-C."""

    def callback(state):
        if state.epoch == best:
            callback.weights = weights(state.net)
        state.history.record({"number": abs(state.epoch - best)})
        if state.epoch == error_at:
            raise KeyboardInterrupt

    return callback


def test_ctrl_c_restores_the_best_weights_too():
    callback = worse_after(best=2, error_at=4)
    trained = trainer(callback)
    early = fd.training.EarlyStopping("number", patience=5, higher_is_better=False)
    history = fit(trained, epochs=9, early_stopping=early)
    assert history.stopped == "Ctrl-C"
    assert early.best_epoch == 2
    assert same(weights(trained.net), callback.weights)


def test_the_last_weights_stay_where_the_best_are_not_wanted():
    last = []
    trained = trainer(lambda s: (s.history.record({"number": s.epoch}), last.append(weights(s.net))))
    early = fd.training.EarlyStopping("number", patience=2, restore_best=False, higher_is_better=False)
    fit(trained, epochs=9, early_stopping=early)
    assert len(last) == 3
    assert same(weights(trained.net), last[-1])


def test_restored_weights_are_the_arrays_that_the_optimizer_knows():
    trained = trainer(lambda s: s.history.record({"number": s.epoch}))
    arrays = [p.value for p in trained.net.parameters()]
    fit(trained, early_stopping=fd.training.EarlyStopping("number", patience=1, higher_is_better=False))
    for p, array in zip(trained.net.parameters(), arrays, strict=True):
        assert p.value is array


@pytest.mark.parametrize(
    ("monitor", "better", "worse"),
    [("train loss", 0.1, 0.2), ("validation loss", 0.1, 0.2), ("validation accuracy", 0.2, 0.1)],
)
def test_which_way_is_better(monitor, better, worse):
    net = fd.Linear(1, 1, seed=1)
    early = fd.training.EarlyStopping(monitor, patience=1)
    assert not early.update(worse, net)
    assert not early.update(better, net)
    assert early.update(worse, net)


def test_each_fit_starts_afresh():
    trained, early = trainer(), fd.training.EarlyStopping("train loss", patience=1, min_delta=100)
    for _ in range(2):
        assert len(fit(trained, epochs=5, early_stopping=early)["train loss"]) == 2


def test_a_number_that_nobody_records_is_an_error():
    with pytest.raises(ValueError, match=r"monitor must be one of \['train loss', 'train accuracy'\].*; got 'f1'"):
        fit(trainer(), early_stopping=fd.training.EarlyStopping("f1", higher_is_better=True))


BAD = [
    ("monitor", "val_loss", ValueError, "higher_is_better=", "'val_loss'"),
    ("monitor", None, ValueError, "'validation loss'", "None"),
    ("patience", 0, ValueError, "an integer >= 1", "0"),
    ("patience", 2.0, TypeError, "an integer >= 1", "2.0"),
    ("patience", True, TypeError, "an integer >= 1", "True"),
    ("min_delta", -0.1, ValueError, ">= 0", "-0.1"),
    ("min_delta", math.nan, ValueError, ">= 0", "nan"),
    ("min_delta", True, TypeError, ">= 0", "True"),
    ("restore_best", 1, TypeError, "True or False", "1"),
    ("higher_is_better", "yes", TypeError, "True or False", "'yes'"),
]


@pytest.mark.parametrize("row", BAD, ids=name_rows(BAD))
def test_early_stopping_refuses(row):
    argument, value, error, wanted, got = row
    assert_refused(fd.training.EarlyStopping, {argument: value}, error, argument, wanted, got)
