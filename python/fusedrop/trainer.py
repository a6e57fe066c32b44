"""Trainer: the training loop, with validation, early stopping, history and progress.

It does what this loop does, bit for bit, and adds nothing that the loop could not:

    shuffle = np.random.default_rng(shuffle_seed)
    for epoch in range(epochs):
        for rows in np.array_split(shuffle.permutation(n), -(-n // batch_size)):
            loss, gradient = loss_function(net.forward(x[rows], train=True), y[rows])
            net.backward(gradient, input_grad=False)
            optimiser.step()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fusedrop import checks
from fusedrop.batches import EpochBatches, Examples, check_array, check_validation, slices
from fusedrop.callbacks import (
    EarlyStopping,
    FinishedEpochs,
    TrainingState,
    check_callbacks,
    check_early_stopping,
    listeners,
)
from fusedrop.history import History
from fusedrop.layers import Layer
from fusedrop.losses import softmax_cross_entropy
from fusedrop.measures import RunningMeans, part_of
from fusedrop.optim import Optimizer
from fusedrop.progress import progress_callbacks
from fusedrop.trainer_checks import check_data, check_parts

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


class Trainer:
    """Trains a network: trainer.fit(x, y, epochs=10, batch_size=256).

    Args:
        net: a layer or network, such as a `Sequential`.
        optimiser: what changes its parameters; its step() is called after each backward.
        loss: loss(outputs, y) -> (mean loss, its gradient by the outputs: an array of their shape and dtype);
            `softmax_cross_entropy` or your own, which is also called once with the first example before anything is
            done with all of them.
        accuracy: False where y are not classes: losses alone are recorded then.
        callbacks: functions called with a `TrainingState` after each epoch, or objects with some of the methods
            before_fit, before_step, after_step, after_epoch, after_fit; dropout schedules are such objects.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(
        self,
        net: Layer,
        optimiser: Any,
        loss: Loss = softmax_cross_entropy,
        *,
        accuracy: bool = True,
        callbacks: Iterable[Any] = (),
    ):
        check_parts(net, optimiser, loss)
        self.net, self.optimiser, self.loss = net, optimiser, loss
        self.accuracy = checks.flag(accuracy, "accuracy")
        self.callbacks = check_callbacks(callbacks)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        epochs: int,
        batch_size: int,
        validation: Examples | float | None = None,
        early_stopping: EarlyStopping | None = None,
        progress: bool = True,
        shuffle: bool = True,
        shuffle_seed: int = 0,
        train_measured: str = "during",
        record_steps: bool = False,
    ) -> History:
        """Train; returns the history, one number an epoch under each name.

        "train loss", "train accuracy" of the training examples, "validation loss", "validation accuracy" after the
        epoch with dropout off, and "penalty" if the optimiser has l1 or l2 (the losses are without it).

        Ctrl-C ends training and is not passed on: history.stopped is then "Ctrl-C", and the history has the epochs
        that were finished, those after which all callbacks have run. An epoch that a callback stopped before its last
        step is not in it either.

        A second fit goes on with the weights, the optimiser's state and the masks, but starts its orders
        (shuffle_seed), its count of steps, and with it schedules, and early stopping again: two fits of 5 epochs are
        not one of 10, bit for bit. To resume with the same bits, write the loop yourself, with `save` and `load`.

        Args:
            x: [n, ...], in the network's dtype.
            y: [n] classes, or [n, N] one-hot rows or probabilities; with a loss of your own, what that takes.
            epochs, batch_size: 1 or more. An epoch has the fewest batches of at most batch_size, as even as can be.
            validation: (x, y), or a fraction in (0, 1) of the examples, set aside by `split_validation` with seed 0.
            early_stopping: an `EarlyStopping`, called after all other callbacks. A monitor that a callback records is
                looked for only after the first epoch.
            progress: a bar if tqdm is installed, or a line an epoch; False for neither.
            shuffle: False takes the rows in their order, True in a new one each epoch.
            shuffle_seed: an integer >= 0 that names those orders.
            train_measured: "during", the mean over the epoch as it goes, with dropout and while the weights move; or
                "after", a pass of its own after the epoch with dropout off, which can be compared with validation.
            record_steps: also record "train loss" and "train accuracy" of each batch, in history.steps.

        Raises:
            TypeError, ValueError: naming the argument and both sides, before any step but for such a monitor.
        """
        x, y = check_data(self, x, y)
        train, held_out = check_validation(x, y, validation)
        if held_out is not None:
            check_data(self, *held_out, "validation x", "validation y")
        batches = EpochBatches(len(train[0]), batch_size, shuffle, shuffle_seed)
        epochs = checks.count(epochs, "epochs")
        after = checks.choice(train_measured, "train_measured", ("during", "after")) == "after"
        state = TrainingState(self.net, self.optimiser, epochs, epochs * len(batches), self._names(held_out))
        state.record_steps = checks.flag(record_steps, "record_steps")
        finished = FinishedEpochs()  # after whatever may change the history, before what only shows it
        callbacks = [
            *self.callbacks,
            *check_early_stopping(early_stopping),
            finished,
            *progress_callbacks(progress),
        ]
        begun: list[Any] = []
        try:
            _begin(callbacks, state, begun)
            self._train_epochs(train, held_out, after, batches, listeners(callbacks), state)
        except KeyboardInterrupt:
            state.stop = "Ctrl-C"
            finished.cut(state.history)
        finally:
            state.history.stopped = state.stop
            _call(listeners(begun)["after_fit"], state)
        return state.history

    def evaluate(self, x: np.ndarray, y: np.ndarray, *, batch_size: int = 1024) -> dict[str, float]:
        """{"loss": ..., "accuracy": ...} of examples: means over them with dropout off; batch_size bounds memory."""
        x, y = check_data(self, x, y)
        return self._evaluate(x, y, checks.count(batch_size, "batch_size"))

    def _evaluate(self, x, y, batch_size=1024):
        means = RunningMeans(self.accuracy)
        for rows in slices(len(x), batch_size):
            outputs = self.net.forward(x[rows], train=False)
            means.add(self.loss(outputs, y[rows])[0], outputs, y[rows])
        return means.means()

    def predict(self, x: np.ndarray, *, batch_size: int = 1024) -> np.ndarray:
        """The network's outputs [n, ...] with dropout off: logits, where the loss has the softmax inside."""
        check_array(checks.floating_array(x, "x"), "x")
        parts = slices(len(x), checks.count(batch_size, "batch_size"))
        return np.concatenate([self.net.forward(x[rows], train=False) for rows in parts])

    def _train_epochs(self, train, held_out, after, batches, called, state):
        """All epochs, or those until a callback stops."""
        while state.epoch < state.epochs and not state.stop:
            state.epoch += 1
            measured = self._train_epoch(*train, batches, called, state)
            if state.step == state.epoch * len(batches):  # whole, though a callback may have stopped at its last step
                state.history.record(self._measure(train if after else None, held_out, measured))
                _call(called["after_epoch"], state)

    def _train_epoch(self, x, y, batches, called, state):
        """One epoch of steps, or the start of one if a callback stops it; the means as it went."""
        means = RunningMeans(self.accuracy)
        for rows in batches:
            _call(called["before_step"], state)
            outputs = self.net.forward(x[rows], train=True)
            loss, gradient = self.loss(outputs, y[rows])
            self.net.backward(gradient, input_grad=False)  # nobody needs the gradient of the examples
            self.optimiser.step()
            measured = means.add(loss, outputs, y[rows])
            state.step += 1
            if state.record_steps:
                state.history.steps.record(part_of("train", measured))
            _call(called["after_step"], state)
            if state.stop:
                break
        return part_of("train", means.means())

    def _measure(self, train, held_out, measured):
        """What an epoch adds to the history; `train` is None where its numbers stand as `measured`."""
        if train is not None:
            measured = part_of("train", self._evaluate(*train))
        if held_out is not None:
            measured |= part_of("validation", self._evaluate(*held_out))
        if self._penalised():
            measured["penalty"] = self.optimiser.penalty()
        return measured

    def _names(self, held_out):
        """The keys of `_measure`."""
        kinds = ("loss", "accuracy") if self.accuracy else ("loss",)
        parts = ("train",) if held_out is None else ("train", "validation")
        return (*(f"{part} {kind}" for part in parts for kind in kinds), *["penalty"] * self._penalised())

    def _penalised(self):
        return isinstance(self.optimiser, Optimizer) and bool(self.optimiser.l1 or self.optimiser.l2)


def _begin(callbacks, state, begun):
    """before_fit of each; `begun` gets those whose after_fit is due, however this ends."""
    for callback in callbacks:
        begun.append(callback)
        _call(listeners([callback])["before_fit"], state)


def _call(calls, state):
    for call in calls:
        call(state)
