"""A dropout schedule that follows overfitting; `schedules` has what all schedules share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fusedrop import checks
from fusedrop.layers.base import Layer
from fusedrop.training.callbacks import TrainingState
from fusedrop.training.schedules import RATE, Schedule, between


class AdaptiveSchedule(Schedule):
    """A rate that rises while the gap between training and validation accuracy grows, and falls while it shrinks.

        gap = train accuracy - validation accuracy, after each epoch
        first epoch                        rate = start, reference = gap
        gap > reference + tolerance        rate = min(rate + change, highest), reference = gap
        gap < reference - tolerance        rate = max(rate - change, lowest), reference = gap
        otherwise, and for NaN             rate and reference stay the same, so that a slow drift adds up

    The rate is a function of all accuracies so far, and nothing else: the same lists give the same rate. Both
    accuracies should be measured with dropout off: in a `Trainer`, fit(validation=..., train_measured="after"). There
    the rate changes between epochs.

    Args:
        start: the first rate.
        change: the size of one change of the rate, > 0.
        tolerance: the smallest change of the gap that counts, >= 0: the noise of the accuracies, about
            sqrt(accuracy * (1 - accuracy) / n) for n validation examples.
        lowest, highest: bounds of the rate; 0 <= lowest <= start <= highest <= 1.
        layers: the layers whose rate is set, see `Schedule`; None for all with a rate above 0.
        name: of the rate in the history.

    Raises:
        TypeError, ValueError: naming the argument and both sides.
    """

    def __init__(
        self,
        start: float = 0.2,
        *,
        change: float = 0.05,
        tolerance: float = 0.005,
        lowest: float = 0.0,
        highest: float = 0.8,
        layers: Iterable[Layer] | None = None,
        name: str = RATE,
    ):
        super().__init__(layers, name)
        self.start = checks.probability(start, "start")
        self.change = checks.number(change, "change", "a number in (0, 1]", math.nextafter(0, 1), math.nextafter(1, 2))
        self.tolerance = checks.number(tolerance, "tolerance", "a finite number >= 0")
        self.lowest = between(lowest, "lowest", 0.0, self.start)
        self.highest = between(highest, "highest", self.start, 1.0)

    def __call__(self, train_accuracies: Sequence[float], validation_accuracies: Sequence[float]) -> float:
        """The rate after these epochs. The two lists have one length and may be empty."""
        if len(train_accuracies) != len(validation_accuracies):
            got = f"{len(train_accuracies)} and {len(validation_accuracies)} numbers"
            raise ValueError(f"train_accuracies and validation_accuracies must be of one length; got {got}")
        rate, reference = self.start, None
        for train, validation in zip(train_accuracies, validation_accuracies, strict=True):
            gap = train - validation
            if reference is None:
                reference = None if math.isnan(gap) else gap
            elif gap > reference + self.tolerance:
                rate, reference = min(rate + self.change, self.highest), gap
            elif gap < reference - self.tolerance:
                rate, reference = max(rate - self.change, self.lowest), gap
        return rate

    def apply(self, net: Layer, train_accuracies: Sequence[float], validation_accuracies: Sequence[float]) -> float:
        """Set the rate after these epochs on the layers; returns the rate."""
        return self._set(net, self(train_accuracies, validation_accuracies))

    def before_fit(self, state: TrainingState) -> None:
        """Raise for a network without dropout, and for training without validation."""
        super().before_fit(state)
        if "validation accuracy" not in state.measured:
            measured = list(state.measured)
            raise ValueError(f"validation must be given to fit, with accuracies, for {self}; got {measured} alone")

    def before_step(self, state: TrainingState) -> None:
        """Set the first rate before the first step."""
        if state.step == 0:
            self.apply(state.net, [], [])

    def after_epoch(self, state: TrainingState) -> None:
        """Record the rate of this epoch, then `apply` the rate of the next."""
        self._record(state.history)
        self.apply(state.net, state.history["train accuracy"], state.history["validation accuracy"])

    def __repr__(self):
        bounds = f"lowest={self.lowest}, highest={self.highest}"
        return f"AdaptiveSchedule({self.start}, change={self.change}, tolerance={self.tolerance}, {bounds})"
