"""Trainer: the training loop, with validation, early stopping, history and progress.

Without callbacks it computes what this loop computes, bit for bit:

    shuffle = np.random.default_rng(shuffle_seed)
    for epoch in range(epochs):
        for rows in np.array_split(shuffle.permutation(n), -(-n // batch_size)):
            loss, gradient = loss_function(net.forward(x[rows], train=True), y[rows])
            net.backward(gradient, input_grad=False)
            optimizer.step()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fusedrop import checks
from fusedrop.functional.loss import softmax_cross_entropy
from fusedrop.layers.base import Layer
from fusedrop.training.callbacks import (
    EarlyStopping,
    FinishedEpochs,
    TrainingState,
    check_callbacks,
    check_early_stopping,
    listeners,
)
from fusedrop.training.data import EpochBatches, Examples, check_array, check_validation, slices
from fusedrop.training.history import History
from fusedrop.training.measures import RunningMeans, part_of
from fusedrop.training.optim import Optimizer
from fusedrop.training.progress import progress_callbacks
from fusedrop.training.trainer_checks import check_data, check_parts

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


class Trainer:
    """Trains a network: trainer.fit(x, y, epochs=10, batch_size=256).

    Args:
        net: a layer or network, such as a `Sequential`.
        optimizer: changes the parameters; its step() is called after each backward pass.
        loss: loss(outputs, y) -> (mean loss, its gradient by the outputs: an array of their shape and dtype);
            `softmax_cross_entropy` or a function of your own, which is first called once with one example, to check it.
        accuracy: False where y are not classes: only losses are recorded.
        callbacks: functions called with a `TrainingState` after each epoch, or objects with some of the methods
            before_fit, before_step, after_step, after_epoch, after_fit; dropout schedules are such objects.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(
        self,
        net: Layer,
        optimizer: Any,
        loss: Loss = softmax_cross_entropy,
        *,
        accuracy: bool = True,
        callbacks: Iterable[Any] = (),
    ):
        check_parts(net, optimizer, loss)
        self.net, self.optimizer, self.loss = net, optimizer, loss
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
        """Train; returns the history, one number per epoch under each name.

        The names are "train loss" and "train accuracy" of the training examples, "validation loss" and "validation
        accuracy" after the epoch with dropout off, and "penalty" if the optimizer has l1 or l2 (the losses do not
        include it).

        Ctrl-C ends training and is not passed on: history.stopped is then "Ctrl-C", and the history has the finished
        epochs, after which all callbacks have run. It does not have an epoch that a callback stopped before its last
        step.

        A second fit continues with the weights, the optimizer's state and the mask keys. It starts the orders of the
        examples (shuffle_seed), the count of steps, and with it schedules, and early stopping anew: two fits of 5
        epochs differ from one fit of 10. To resume with the same bits, write the loop yourself, with `save` and `load`.

        Args:
            x: [n, ...], in the network's dtype.
            y: [n] classes, or [n, N] one-hot rows or probabilities; with a loss of your own, what it takes.
            epochs, batch_size: 1 or more. An epoch has the fewest batches of at most batch_size, of nearly equal sizes.
            validation: (x, y), or a fraction in (0, 1) of the examples, split off by `split_validation` with seed 0.
            early_stopping: an `EarlyStopping`, called after all other callbacks. A monitor that a callback records is
                checked only after the first epoch.
            progress: True: a bar if tqdm is installed, else one line per epoch; False: neither.
            shuffle: True takes the rows in a new order each epoch, False in their own order.
            shuffle_seed: an integer >= 0, the seed of those orders.
            train_measured: "during": the mean over the epoch's batches, with dropout and changing weights; or "after":
                a second pass after the epoch with dropout off, whose numbers are comparable with validation.
            record_steps: also record "train loss" and "train accuracy" of each batch, in history.steps.

        Raises:
            TypeError, ValueError: naming the argument and both sides. Only the error for a monitor that a callback
                records comes after the first step.
        """
        x, y = check_data(self, x, y)
        train, held_out = check_validation(x, y, validation)
        if held_out is not None:
            check_data(self, *held_out, "validation x", "validation y")
        batches = EpochBatches(len(train[0]), batch_size, shuffle, shuffle_seed)
        epochs = checks.count(epochs, "epochs")
        after = checks.choice(train_measured, "train_measured", ("during", "after")) == "after"
        state = TrainingState(self.net, self.optimizer, epochs, epochs * len(batches), self._names(held_out))
        state.record_steps = checks.flag(record_steps, "record_steps")
        finished = FinishedEpochs()  # after the callbacks that may change the history, before those that only show it
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
        """{"loss": ..., "accuracy": ...}: means over the examples with dropout off; batch_size bounds the memory."""
        x, y = check_data(self, x, y)
        return self._evaluate(x, y, checks.count(batch_size, "batch_size"))

    def _evaluate(self, x, y, batch_size=1024):
        means = RunningMeans(self.accuracy)
        for rows in slices(len(x), batch_size):
            outputs = self.net.forward(x[rows], train=False)
            means.add(self.loss(outputs, y[rows])[0], outputs, y[rows])
        return means.means()

    def predict(self, x: np.ndarray, *, batch_size: int = 1024) -> np.ndarray:
        """The network's outputs [n, ...] with dropout off: logits, where the loss contains the softmax."""
        check_array(checks.floating_array(x, "x"), "x")
        parts = slices(len(x), checks.count(batch_size, "batch_size"))
        return np.concatenate([self.net.forward(x[rows], train=False) for rows in parts])

    def _train_epochs(self, train, held_out, after, batches, called, state):
        """All epochs, or the epochs before a callback stops."""
        while state.epoch < state.epochs and not state.stop:
            state.epoch += 1
            measured = self._train_epoch(*train, batches, called, state)
            if state.step == state.epoch * len(batches):  # complete, even if a callback stopped at its last step
                state.history.record(self._measure(train if after else None, held_out, measured))
                _call(called["after_epoch"], state)

    def _train_epoch(self, x, y, batches, called, state):
        """One epoch of steps, or its first steps if a callback stops it; returns the means over them."""
        means = RunningMeans(self.accuracy)
        for rows in batches:
            _call(called["before_step"], state)
            outputs = self.net.forward(x[rows], train=True)
            loss, gradient = self.loss(outputs, y[rows])
            self.net.backward(gradient, input_grad=False)  # the gradient by the examples is not needed
            self.optimizer.step()
            measured = means.add(loss, outputs, y[rows])
            state.step += 1
            if state.record_steps:
                state.history.steps.record(part_of("train", measured))
            _call(called["after_step"], state)
            if state.stop:
                break
        return part_of("train", means.means())

    def _measure(self, train, held_out, measured):
        """The numbers of an epoch for the history; `train` is None where its numbers are `measured` already."""
        if train is not None:
            measured = part_of("train", self._evaluate(*train))
        if held_out is not None:
            measured |= part_of("validation", self._evaluate(*held_out))
        if self._penalized():
            measured["penalty"] = self.optimizer.penalty()
        return measured

    def _names(self, held_out):
        """The keys of `_measure`."""
        kinds = ("loss", "accuracy") if self.accuracy else ("loss",)
        parts = ("train",) if held_out is None else ("train", "validation")
        return (*(f"{part} {kind}" for part in parts for kind in kinds), *["penalty"] * self._penalized())

    def _penalized(self):
        return isinstance(self.optimizer, Optimizer) and bool(self.optimizer.l1 or self.optimizer.l2)


def _begin(callbacks, state, begun):
    """Call each before_fit; `begun` gets the callbacks whose after_fit must be called, also after an error."""
    for callback in callbacks:
        begun.append(callback)
        _call(listeners([callback])["before_fit"], state)


def _call(calls, state):
    for call in calls:
        call(state)
