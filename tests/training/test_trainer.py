"""Trainer: the same bits as a written-out loop, the numbers it records, and its errors."""

import sys

import fusedrop as fd
import numpy as np
import pytest
from training import fingerprint

N, CLASSES = 50, 3
generator = np.random.default_rng(0)
X, LABELS = generator.standard_normal((N, 4)).astype(np.float32), generator.integers(0, CLASSES, N)
ONE_HOT = np.eye(CLASSES)[LABELS]
QUIET = {"progress": False}


def build():
    return fd.Sequential(fd.Linear(4, 16, activation="relu", p=0.3), fd.Dropout(0.2), fd.Linear(16, CLASSES), seed=3)


def trainer(net=None, callbacks=(), **options):
    net = build() if net is None else net
    return fd.training.Trainer(net, fd.training.Adam(net.parameters(), lr=0.01, **options), callbacks=callbacks)


def accuracy(net, x, labels):
    return np.mean(net.forward(x, train=False).argmax(axis=1) == labels)


def by_hand(x, y, epochs, batch_size, orders):
    """The loop of the module's text, with its means; `orders` is one order of the rows an epoch."""
    net = build()
    adam, losses, accuracies = fd.training.Adam(net.parameters(), lr=0.01), [], []
    for _, order in zip(range(epochs), orders, strict=False):
        loss_sum = correct = 0
        for rows in np.array_split(order, -(-len(x) // batch_size)):
            logits = net.forward(x[rows], train=True)
            loss, gradient = fd.softmax_cross_entropy(logits, y[rows])
            net.backward(gradient, input_grad=False)
            adam.step()
            loss_sum += loss * len(rows)
            correct += np.count_nonzero(logits.argmax(axis=1) == (y[rows] if y.ndim == 1 else y[rows].argmax(axis=1)))
        losses.append(loss_sum / len(x))
        accuracies.append(correct / len(x))
    return net, {"train loss": losses, "train accuracy": accuracies}


def shuffled(seed, n=N):
    rng = np.random.default_rng(seed)
    while True:
        yield rng.permutation(n)


@pytest.mark.parametrize("y", [LABELS, ONE_HOT], ids=["classes", "one-hot"])
@pytest.mark.parametrize("seed", [0, 7, None], ids=["seed 0", "seed 7", "no shuffle"])
def test_it_is_the_loop_written_by_hand_bit_for_bit(y, seed):
    orders = shuffled(seed) if seed is not None else (np.arange(N) for _ in range(9))
    want, measured = by_hand(X, y, 3, 16, orders)
    options = {"shuffle": False} if seed is None else {"shuffle_seed": seed}
    got = trainer()
    history = got.fit(X, y, epochs=3, batch_size=16, **options, **QUIET)
    assert fingerprint(got.net) == fingerprint(want)
    assert history == measured
    assert history.stopped is None
    assert history.steps == {}


@pytest.mark.parametrize("form", ["pair", "fraction"])
def test_validation_is_measured_with_dropout_off_and_changes_nothing(form):
    fraction = 0.2
    train, held_out = fd.training.split_validation(X, LABELS, fraction)
    alone, with_it = trainer(), trainer()
    alone.fit(*train, epochs=3, batch_size=8, **QUIET)
    history = with_it.fit(
        *(train if form == "pair" else (X, LABELS)),
        epochs=3,
        batch_size=8,
        validation=held_out if form == "pair" else fraction,
        **QUIET,
    )
    assert fingerprint(with_it.net) == fingerprint(alone.net)
    logits = with_it.net.forward(held_out[0], train=False)
    assert history["validation loss"][-1] == fd.softmax_cross_entropy(logits, held_out[1])[0]
    assert history["validation accuracy"][-1] == accuracy(with_it.net, *held_out)
    assert [len(values) for values in history.values()] == [3] * 4


def test_validation_may_have_the_other_kind_of_labels():
    histories = [
        trainer().fit(X, LABELS, epochs=2, batch_size=8, validation=(X[:9], y[:9]), **QUIET) for y in (LABELS, ONE_HOT)
    ]
    assert histories[0] == histories[1]


def test_split_validation_is_the_rule_it_states():
    order = np.random.default_rng(5).permutation(N)
    (x, y), (x_held, y_held) = fd.training.split_validation(X, LABELS, 0.3, seed=5)
    assert np.array_equal(x_held, X[order[:15]])
    assert np.array_equal(y_held, LABELS[order[:15]])
    assert np.array_equal(x, X[order[15:]])
    assert np.array_equal(y, LABELS[order[15:]])


@pytest.mark.parametrize("penalties", [{}, {"l2": 0.1}, {"l1": 0.02, "l2": 0.1}], ids=["none", "l2", "both"])
def test_the_penalty_is_reported_beside_the_loss(penalties):
    net = trainer(**penalties)
    history = net.fit(X, LABELS, epochs=2, batch_size=25, **QUIET)
    want = (
        [pytest.approx(fd.training.penalty(net.net, **penalties), rel=1e-12)] if penalties else None
    )  # sums in one order
    assert history.get("penalty", [None])[-1:] == (want or [None])


def test_training_examples_can_be_measured_after_the_epoch():
    after = trainer()
    history = after.fit(X, LABELS, epochs=2, batch_size=8, train_measured="after", **QUIET)
    assert {"train " + name: [value] for name, value in after.evaluate(X, LABELS).items()} == {
        name: values[-1:] for name, values in history.items()
    }
    during = trainer().fit(X, LABELS, epochs=2, batch_size=8, **QUIET)
    assert during["train loss"] != history["train loss"]


def test_steps_are_recorded_where_asked():
    sizes, losses = [], []

    def loss(outputs, y):
        value, gradient = fd.softmax_cross_entropy(outputs, y)
        sizes.append(len(y))
        losses.append(value)
        return value, gradient

    net = build()
    spied = fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.1), loss)
    history = spied.fit(X, LABELS, epochs=2, batch_size=16, record_steps=True, **QUIET)
    del sizes[0], losses[0]  # the check of the first example
    assert sizes == [13, 13, 12, 12] * 2, "as even as can be"
    assert history.steps["train loss"] == losses
    assert len(history.steps["train accuracy"]) == 8
    assert history["train loss"][0] == pytest.approx(np.average(losses[:4], weights=sizes[:4]), rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_evaluate_and_predict_do_not_depend_on_their_batches(batch_size):
    trained = trainer()
    trained.fit(X, LABELS, epochs=1, batch_size=10, **QUIET)
    logits = trained.net.forward(X, train=False)
    assert np.array_equal(trained.predict(X, batch_size=batch_size), logits)
    measured = trained.evaluate(X, LABELS, batch_size=batch_size)
    assert measured["accuracy"] == accuracy(trained.net, X, LABELS)
    assert measured["loss"] == pytest.approx(fd.softmax_cross_entropy(logits, LABELS)[0], rel=1e-6)  # float32 sums


def test_a_loss_of_ones_own_without_accuracy():
    """Least squares: x's own sum is learned."""

    def squares(outputs, y):
        return float(np.mean((outputs - y) ** 2)), 2 * (outputs - y) / outputs.size

    y = X.sum(axis=1, keepdims=True)
    net = fd.Linear(4, 1, seed=1)
    regression = fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.1), squares, accuracy=False)
    history = regression.fit(X, y, epochs=50, batch_size=10, validation=0.2, **QUIET)
    assert set(history) == {"train loss", "validation loss"}
    assert history["validation loss"][-1] < 1e-3 * history["validation loss"][0]
    assert set(regression.evaluate(X, y)) == {"loss"}


def at_epoch(n, error):
    def callback(state):
        if state.epoch == n:
            raise error

    return callback


class AtStep:
    def __init__(self, n, error=None):
        self.n, self.error, self.ended = n, error, 0

    def after_step(self, state):
        if state.step == self.n:
            if self.error:
                raise self.error
            state.stop = "enough"

    def after_fit(self, state):
        self.ended += 1


def test_ctrl_c_in_a_callback_after_an_epoch_keeps_the_epochs_before():
    stopped = trainer(callbacks=[at_epoch(2, KeyboardInterrupt)])
    history = stopped.fit(X, LABELS, epochs=5, batch_size=10, **QUIET)
    want, measured = by_hand(X, LABELS, 2, 10, shuffled(0))
    assert history.stopped == "Ctrl-C"
    assert history == {name: values[:1] for name, values in measured.items()}
    assert fingerprint(stopped.net) == fingerprint(want)


def test_ctrl_c_within_an_epoch_keeps_the_epochs_before():
    callback = AtStep(7, KeyboardInterrupt)
    stopped = trainer(callbacks=[callback])
    history = stopped.fit(X, LABELS, epochs=5, batch_size=10, record_steps=True, **QUIET)
    assert history.stopped == "Ctrl-C"
    assert [len(v) for v in history.values()] == [1, 1]
    assert len(history.steps["train loss"]) == 7
    assert callback.ended == 1
    assert fingerprint(stopped.net) != fingerprint(by_hand(X, LABELS, 1, 10, shuffled(0))[0]), "its steps count"


def test_other_errors_are_passed_on_once_callbacks_know_the_end():
    callback = AtStep(7, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        trainer(callbacks=[callback]).fit(X, LABELS, epochs=5, batch_size=10, **QUIET)
    assert callback.ended == 1


def test_a_callback_can_stop_after_a_step():
    history = trainer(callbacks=[AtStep(7)]).fit(X, LABELS, epochs=5, batch_size=10, **QUIET)
    assert history.stopped == "enough"
    assert len(history["train loss"]) == 1


def test_training_goes_on_in_a_second_fit():
    once, twice = trainer(), trainer()
    once.fit(X, LABELS, epochs=4, batch_size=10, shuffle=False, **QUIET)
    for _ in range(2):
        history = twice.fit(X, LABELS, epochs=2, batch_size=10, shuffle=False, **QUIET)
    assert len(history["train loss"]) == 2
    assert fingerprint(once.net) == fingerprint(twice.net)


@pytest.mark.parametrize("ends", ["at the last epoch", "by an error"])
def test_the_bar_counts_steps_and_is_closed(monkeypatch, ends):
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed")
    bars, closed = [], []

    class Spy(tqdm.tqdm):
        def __init__(self, *args, **options):
            bars.append(self)
            super().__init__(*args, **options)

        def close(self):
            closed.append(self.n)
            super().close()

    monkeypatch.setattr(tqdm, "tqdm", Spy)
    if ends == "by an error":
        with pytest.raises(ZeroDivisionError):
            trainer(callbacks=[AtStep(7, ZeroDivisionError)]).fit(X, LABELS, epochs=2, batch_size=10)
    else:
        trainer().fit(X, LABELS, epochs=2, batch_size=10)
    assert [bar.total for bar in bars] == [10]
    assert closed[:1] == [10 if ends == "at the last epoch" else 6]


def test_progress_is_a_bar_on_stderr(capsys):
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    trainer().fit(X, LABELS, epochs=2, batch_size=10, validation=0.2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2 |" in err
    assert "/" in err.rsplit("loss ", 1)[1], "training and validation loss"


@pytest.mark.parametrize("progress", [True, False])
def test_without_tqdm_progress_is_a_line_an_epoch(monkeypatch, capsys, progress):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    trainer(callbacks=[at_epoch(2, KeyboardInterrupt)]).fit(X, LABELS, epochs=3, batch_size=10, progress=progress)
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line[:9] for line in lines] == (["epoch 1/3", "stopped i"] if progress else [])
    assert not lines or "train loss 1." in lines[0]
