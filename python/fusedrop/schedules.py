"""Dropout schedules: the rate as a function of the step, or of how well training and validation data are known.

A schedule is a plain function that returns the rate, the same for the same arguments; `apply` also sets it as the
`dropout` (not input_dropout or recurrent_dropout) of the network's layers with dropout > 0, or of those in layers=. In
a loop of your own

    schedule = fd.StepSchedule(0.5, interval=100)
    schedule.apply(net, step)                           before each forward call

and in a `Trainer`, callbacks=[schedule] does that and records "dropout rate" in the history: the rate of each epoch's
last step, and in history.steps, where steps are recorded, that of each. A rate can be changed between steps at no
cost: the mask of a step is drawn for the rate of that step, see docs/mask-contract.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from fusedrop import checks
from fusedrop.callbacks import TrainingState
from fusedrop.history import History
from fusedrop.layers import Layer

RATE = "dropout rate"


class Schedule:
    """What the schedules share.

    layers: those whose `dropout` is set, whatever it was; None for all of the network's that have dropout > 0 when
        they are first seen. They stay the schedule's own when it sets them to 0. An LSTM's input_dropout and
        recurrent_dropout are left alone.
    name: a str, of the rate in the history; two schedules in one `Trainer` need two.
    """

    def __init__(self, layers: Iterable[Layer] | None, name: str):
        if not isinstance(name, str):
            raise TypeError(f"name must be a str; got {name!r}")
        self.name = name
        self.layers = None if layers is None else _with_dropout(layers)
        self.rate: float | None = None  # what was set last
        self._own: WeakSet[Layer] = WeakSet()

    def _set(self, net: Layer, rate: float) -> float:
        targets = self._targets(net)
        for layer in targets:
            layer.dropout = rate  # type: ignore[attr-defined]
        self._own.update(targets)
        self.rate = rate
        return rate

    def _targets(self, net: Layer) -> list[Layer]:
        if self.layers is not None:
            return self.layers
        if not isinstance(net, Layer):
            raise TypeError(f"net must be a fusedrop layer or network; got {type(net).__name__}")
        found = [leaf for leaf in net.leaves() if getattr(leaf, "dropout", 0) > 0 or leaf in self._own]
        if not found:
            raise ValueError(f"net must have a layer with dropout > 0 where no layers= were given; got {net}")
        return found

    def before_fit(self, state: TrainingState) -> None:
        """Refuse a network without dropout, and a second number under one name."""
        self._targets(state.net)
        if self.name in state.measured:
            raise ValueError(f"name must not be in the history already, {list(state.measured)}; got {self.name!r}")
        state.measured = (*state.measured, self.name)

    def after_step(self, state: TrainingState) -> None:
        """Record the step's rate."""
        if state.record_steps:
            self._record(state.history.steps)

    def _record(self, history: History) -> None:
        history.record({self.name: math.nan if self.rate is None else self.rate})


class StepwiseSchedule(Schedule):
    """A rate for each training step, counted from 0."""

    def __call__(self, step: int) -> float:
        raise NotImplementedError

    def apply(self, net: Layer, step: int) -> float:
        """Set the rate of this step on the layers; returns it."""
        return self._set(net, self(step))

    def before_step(self, state: TrainingState) -> None:
        """`apply`."""
        self.apply(state.net, state.step)

    def after_epoch(self, state: TrainingState) -> None:
        """Record the rate."""
        self._record(state.history)


class LinearSchedule(StepwiseSchedule):
    """rate(step) = start + (end - start) * min(step, steps) / steps: a line, then constant.

    From 0 up it is a curriculum (Morerio et al., "Curriculum Dropout", 1703.06229, has another curve), down to 0 it is
    annealed dropout (Rennie et al., "Annealed Dropout Training of Deep Networks", 2014).

    Args:
        start, end: rates in [0, 1].
        steps: 1 or more; from this step on the rate is `end`.
        layers: whose `dropout` (not input_dropout or recurrent_dropout) is set; None for all with dropout > 0.
        name: of the rate in the history.
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
        return self.start * (1 - done) + self.end * done  # start and end come out exactly, and nothing above 1

    def __repr__(self):
        return f"LinearSchedule({self.start}, {self.end}, {self.steps})"


class StepSchedule(StepwiseSchedule):
    """rate(step) = max(start - drop * (step // interval), lowest): it falls by `drop` every `interval` steps.

    Args:
        start: the rate of the first `interval` steps, in [0, 1].
        interval: steps, 1 or more.
        drop: >= 0.
        lowest: in [0, start].
        layers: whose `dropout` (not input_dropout or recurrent_dropout) is set; None for all with dropout > 0.
        name: of the rate in the history.
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


def _with_dropout(layers: Any) -> list[Layer]:
    """A list of layers that have a rate."""
    wanted = "a list of layers with dropout, such as Linear and Dropout"
    if isinstance(layers, Layer) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be {wanted}; got {type(layers).__name__}")
    layers = list(layers)
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer) or not hasattr(layer, "dropout"):
            raise TypeError(f"layers must be {wanted}; got {type(layer).__name__} at [{i}]")
    if not layers:
        raise ValueError(f"layers must be {wanted}; got an empty one")
    return layers
