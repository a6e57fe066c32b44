"""Dropout schedules: the rate as a function of the step, or of training and validation accuracy.

A schedule is a plain function that returns the rate, the same for the same arguments; `apply` also sets the rate on the
network's layers whose rate is above 0, or on those in layers=. A layer's rate is the attribute that
`layer.scheduled_rate` names: p, and input_p of an LSTM. In a loop of your own:

    schedule = fd.training.StepSchedule(0.5, interval=100)
    schedule.apply(net, step)                           before each forward call

In a `Trainer`, callbacks=[schedule] does the same and records "dropout rate" in the history: the rate of each epoch's
last step, and in history.steps, where steps are recorded, the rate of each step. A change of the rate between steps
costs nothing: the mask of a step is drawn for the rate of that step, see docs/mask-contract.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from fusedrop import checks
from fusedrop.layers.base import Layer
from fusedrop.training.callbacks import TrainingState
from fusedrop.training.history import History

RATE = "dropout rate"


class Schedule:
    """Base of the schedules.

    layers: the layers whose rate is set, whatever it was; None for all layers of the network whose rate is above 0 at
        the first `apply`. These layers stay scheduled after the schedule has set their rate to 0. The rate of a layer
        is its `p`; of an LSTM it is `input_p`. No other rate is changed.
    name: a str, of the rate in the history; two schedules in one `Trainer` need two names.
    """

    def __init__(self, layers: Iterable[Layer] | None, name: str):
        if not isinstance(name, str):
            raise TypeError(f"name must be a str; got {name!r}")
        self.name = name
        self.layers = None if layers is None else _with_dropout(layers)
        self.rate: float | None = None  # the last rate set
        self._scheduled: WeakSet[Layer] = WeakSet()

    def _set(self, net: Layer, rate: float) -> float:
        targets = self._targets(net)
        for layer in targets:
            setattr(layer, layer.scheduled_rate, rate)
        self._scheduled.update(targets)
        self.rate = rate
        return rate

    def _targets(self, net: Layer) -> list[Layer]:
        if self.layers is not None:
            return self.layers
        if not isinstance(net, Layer):
            raise TypeError(f"net must be a fusedrop layer or network; got {type(net).__name__}")
        found = [leaf for leaf in net.leaves() if _rate_of(leaf) > 0 or leaf in self._scheduled]
        if not found:
            raise ValueError(f"net must have a layer with p > 0 where no layers= were given; got {net}")
        return found

    def before_fit(self, state: TrainingState) -> None:
        """Raise for a network without dropout, and for a name that the history has already."""
        self._targets(state.net)
        if self.name in state.measured:
            raise ValueError(f"name must not be in the history already, {list(state.measured)}; got {self.name!r}")
        state.measured = (*state.measured, self.name)

    def after_step(self, state: TrainingState) -> None:
        """Record the rate of the step."""
        if state.record_steps:
            self._record(state.history.steps)

    def _record(self, history: History) -> None:
        history.record({self.name: math.nan if self.rate is None else self.rate})


class StepwiseSchedule(Schedule):
    """A rate for each training step, counted from 0."""

    def __call__(self, step: int) -> float:
        raise NotImplementedError

    def apply(self, net: Layer, step: int) -> float:
        """Set the rate of this step on the layers; returns the rate."""
        return self._set(net, self(step))

    def before_step(self, state: TrainingState) -> None:
        """`apply` the rate of this step."""
        self.apply(state.net, state.step)

    def after_epoch(self, state: TrainingState) -> None:
        """Record the rate of the epoch's last step."""
        self._record(state.history)


class LinearSchedule(StepwiseSchedule):
    """rate(step) = start + (end - start) * min(step, steps) / steps: linear, then constant.

    A rate that rises from 0 is a curriculum (Morerio et al., "Curriculum Dropout", 1703.06229, has another curve); a
    rate that falls to 0 is annealed dropout (Rennie et al., "Annealed Dropout Training of Deep Networks", 2014).

    Args:
        start, end: rates in [0, 1].
        steps: 1 or more; from this step on the rate is `end`.
        layers: the layers whose rate is set, see `Schedule`; None for all with a rate above 0.
        name: of the rate in the history.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(
        self, start: float, end: float, steps: int, *, layers: Iterable[Layer] | None = None, name: str = RATE
    ):
        super().__init__(layers, name)
        self.start, self.end = checks.probability(start, "start"), checks.probability(end, "end")
        self.steps = checks.count(steps, "steps")

    def __call__(self, step: int) -> float:
        """The rate of this step."""
        done = min(checks.size(step, "step"), self.steps) / self.steps
        return self.start * (1 - done) + self.end * done  # exact at start and end, and never above 1

    def __repr__(self):
        return f"LinearSchedule({self.start}, {self.end}, {self.steps})"


class StepSchedule(StepwiseSchedule):
    """rate(step) = max(start - drop * (step // interval), lowest): it falls by `drop` every `interval` steps.

    Args:
        start: the rate of the first `interval` steps, in [0, 1].
        interval: steps, 1 or more.
        drop: >= 0.
        lowest: in [0, start].
        layers: the layers whose rate is set, see `Schedule`; None for all with a rate above 0.
        name: of the rate in the history.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(
        self,
        start: float,
        interval: int,
        drop: float = 0.1,
        lowest: float = 0.1,
        *,
        layers: Iterable[Layer] | None = None,
        name: str = RATE,
    ):
        super().__init__(layers, name)
        self.start, self.interval = checks.probability(start, "start"), checks.count(interval, "interval")
        self.drop = checks.number(drop, "drop", "a finite number >= 0")
        self.lowest = between(lowest, "lowest", 0.0, self.start)

    def __call__(self, step: int) -> float:
        """The rate of this step."""
        return max(self.start - self.drop * (checks.size(step, "step") // self.interval), self.lowest)

    def __repr__(self):
        return f"StepSchedule({self.start}, {self.interval}, drop={self.drop}, lowest={self.lowest})"


def between(value: Any, name: str, low: float, high: float) -> float:
    """A number in [low, high]."""
    return checks.number(value, name, f"a number in [{low}, {high}]", low=low, below=math.nextafter(high, 2))


def _rate_of(layer: Layer) -> float:
    return getattr(layer, layer.scheduled_rate, 0.0)


def _with_dropout(layers: Any) -> list[Layer]:
    """The layers as a list, each of which must have a rate."""
    wanted = "a list of layers with dropout, such as Linear and Dropout"
    if isinstance(layers, Layer) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be {wanted}; got {type(layers).__name__}")
    layers = list(layers)
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer) or not hasattr(layer, layer.scheduled_rate):
            raise TypeError(f"layers must be {wanted}; got {type(layer).__name__} at [{i}]")
    if not layers:
        raise ValueError(f"layers must be {wanted}; got an empty one")
    return layers
