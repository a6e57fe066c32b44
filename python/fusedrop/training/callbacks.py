"""Callbacks of the training loop, their state, and early stopping.

A callback is a plain function, called with the state after each epoch, or an object with any of these methods, each
called with the state:

    before_fit      after the check of the arguments, before the first step
    before_step     before the forward pass of a batch
    after_step      after the optimizer's step; state.step counts it
    after_epoch     after the epoch's numbers are in the history
    after_fit       when training ends, for any reason; also where a before_fit raised

Callbacks run in the order in which they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusedrop import checks
from fusedrop.layers.base import Layer
from fusedrop.training.history import History
from fusedrop.training.optim import parameters_of

MOMENTS = ("before_fit", "before_step", "after_step", "after_epoch", "after_fit")
HIGHER_IS_BETTER = {
    "train loss": False,
    "train accuracy": True,
    "validation loss": False,
    "validation accuracy": True,
}


@dataclass
class TrainingState:
    """The state of training. Callbacks may change the network and the optimizer, append to the history, and set `stop`.

    net, optimizer: the trained network and its optimizer.
    history: the numbers measured so far.
    measured: the names that each epoch appends to the history, known before the first epoch.
    epochs, steps: the total numbers of epochs and steps, unless a callback stops training.
    epoch: the current epoch, from 1; 0 before the first.
    step: training steps done, over all epochs.
    record_steps: whether history.steps is recorded.
    stop: a reason (a text) to end training after this step or epoch, or before the first step; None to continue. An
        epoch that is stopped at its last step is complete: it is measured and recorded.
    """

    net: Layer
    optimizer: Any
    epochs: int
    steps: int
    measured: tuple[str, ...]
    record_steps: bool = False
    history: History = field(default_factory=History)
    epoch: int = 0
    step: int = 0
    stop: str | None = None


Listener = Callable[[TrainingState], Any]


def listeners(callbacks: Iterable[Any]) -> dict[str, list[Listener]]:
    """The functions to call at each moment, in order."""
    found: dict[str, list[Listener]] = {moment: [] for moment in MOMENTS}
    for callback in callbacks:
        methods = {moment: getattr(callback, moment) for moment in MOMENTS if hasattr(callback, moment)}
        for moment, call in (methods or {"after_epoch": callback}).items():
            found[moment].append(call)
    return found


def check_callbacks(callbacks: Any) -> list[Any]:
    """The callbacks as a list; an object that would never be called is an error."""
    wanted = f"functions, or objects with a method among {', '.join(MOMENTS)}"
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"callbacks must be a list of {wanted}; got {type(callbacks).__name__}")
    for i, callback in enumerate(callbacks):
        called = callable(callback) or any(hasattr(callback, moment) for moment in MOMENTS)
        if isinstance(callback, type) or not called:
            got = f"the class {callback.__name__}" if isinstance(callback, type) else type(callback).__name__
            raise TypeError(f"callbacks[{i}] must be one of {wanted}; got {got}")
    return list(callbacks)


class FinishedEpochs:
    """The lengths of the history's lists after the last finished epoch, after which all callbacks have run."""

    def __init__(self) -> None:
        self.lengths: dict[str, int] = {}

    def after_epoch(self, state: TrainingState) -> None:
        """Store the lengths: one more epoch is finished."""
        self.lengths = {name: len(values) for name, values in state.history.items()}

    def cut(self, history: History) -> None:
        """Remove what an unfinished epoch has appended, new names included."""
        for name in list(history):
            del history[name][self.lengths.get(name, 0) :]
            if name not in self.lengths:
                del history[name]


class EarlyStopping:
    """Ends training when a monitored number no longer improves, and restores the best weights.

    An epoch is an improvement if its number is better than the best so far by more than min_delta; NaN never is.
    Training ends after `patience` epochs in a row without improvement. The weights of the best epoch are restored
    whenever training ends: stopped early, at its last epoch, or by Ctrl-C. The optimizer's state is not restored.

    Args:
        monitor: a name in the history. A name that a callback records is checked only after the first epoch.
        patience: epochs, 1 or more.
        min_delta: the smallest difference that counts as an improvement, >= 0.
        restore_best: False leaves the last weights.
        higher_is_better: for a monitor of your own; losses have False, accuracies True.

    best, best_epoch: the best number and its epoch, from 1; None and 0 before the first.

    In a loop of your own: `if early.update(value, net): break`, and `early.restore(net)` after the loop.

    Raises:
        TypeError, ValueError: naming the argument and both sides.

    Prechelt, "Early Stopping - But When?", 1998.
    """

    def __init__(
        self,
        monitor: str = "validation loss",
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
        *,
        higher_is_better: bool | None = None,
    ):
        if higher_is_better is None and (not isinstance(monitor, str) or monitor not in HIGHER_IS_BETTER):
            known = ", ".join(map(repr, HIGHER_IS_BETTER))
            raise ValueError(f"monitor must be one of {known}, or come with higher_is_better=; got {monitor!r}")
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a str, a name in the history; got {type(monitor).__name__}")
        self.monitor = monitor
        self.higher_is_better = (
            HIGHER_IS_BETTER[monitor] if higher_is_better is None else checks.flag(higher_is_better, "higher_is_better")
        )
        self.patience = checks.count(patience, "patience")
        self.min_delta = checks.number(min_delta, "min_delta", "a finite number >= 0")
        self.restore_best = checks.flag(restore_best, "restore_best")
        self.reset()

    def reset(self) -> None:
        """Clear the best number, its epoch and its weights; each fit starts with this."""
        self.best: float | None = None
        self.best_epoch = self.epoch = 0
        self._weights: list[np.ndarray] = []

    def update(self, value: float, net) -> bool:
        """Add one epoch's number, and copy the weights of `net` if it is the best; returns whether to stop."""
        value, epoch = float(value), self.epoch + 1
        if self._improves(value):
            weights = [p.value.copy() for p in parameters_of(net)] if self.restore_best else []
            # One assignment, after the copy: Ctrl-C may interrupt the copy.
            self._weights, self.best, self.best_epoch = weights, value, epoch
        self.epoch = epoch
        return self.epoch - self.best_epoch >= self.patience

    def _improves(self, value):
        if self.best is None:
            return value == value
        return value > self.best + self.min_delta if self.higher_is_better else value < self.best - self.min_delta

    def restore(self, net) -> None:
        """Copy the best epoch's weights into `net`; before the first epoch, or without restore_best, do nothing."""
        for p, best in zip(parameters_of(net), self._weights, strict=False):
            p.value[...] = best

    def before_fit(self, state: TrainingState) -> None:
        """Raise for a monitor that this fit does not measure."""
        self.reset()  # first: after_fit follows an error here too, and must not restore the weights of an earlier fit
        if self.monitor in HIGHER_IS_BETTER and self.monitor not in state.measured:
            raise ValueError(f"monitor must be one of {list(state.measured)}, what fit measures; got {self.monitor!r}")

    def after_epoch(self, state: TrainingState) -> None:
        """`update` with the monitored number, and set `stop`."""
        if not state.history.get(self.monitor):
            raise ValueError(f"monitor must be one of {list(state.history)}, the history; got {self.monitor!r}")
        if self.update(state.history[self.monitor][-1], state.net):
            state.stop = "early stopping"

    def after_fit(self, state: TrainingState) -> None:
        """`restore` the best weights."""
        self.restore(state.net)


def check_early_stopping(early_stopping: Any) -> list[EarlyStopping]:
    """fit's early_stopping= as a list of callbacks."""
    if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
        raise TypeError(f"early_stopping must be an EarlyStopping or None; got {type(early_stopping).__name__}")
    return [] if early_stopping is None else [early_stopping]
