"""Loss and accuracy over examples, added batch by batch."""

from __future__ import annotations

import numpy as np


class RunningMeans:
    """Means over the examples added so far: the loss and, with accuracy=True, the accuracy."""

    def __init__(self, accuracy: bool):
        self.accuracy, self.n, self.loss, self.correct = accuracy, 0, 0.0, 0

    def add(self, loss: float, outputs: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """Add one batch, with its mean loss; returns the means of this batch alone."""
        n, correct = len(outputs), correct_classes(outputs, y) if self.accuracy else 0
        self.n, self.loss, self.correct = self.n + n, self.loss + loss * n, self.correct + correct
        return self._named(loss, correct / n)

    def means(self) -> dict[str, float]:
        """{"loss": ..., "accuracy": ...}, over all examples added."""
        return self._named(self.loss / self.n, self.correct / self.n)

    def _named(self, loss, accuracy):
        return {"loss": loss, "accuracy": accuracy} if self.accuracy else {"loss": loss}


def correct_classes(outputs: np.ndarray, y: np.ndarray) -> int:
    """The number of rows of outputs [n, N] whose largest number is at their class; y is [n], or [n, N] as one-hot."""
    return int(np.count_nonzero(outputs.argmax(axis=1) == (y if y.ndim == 1 else y.argmax(axis=1))))


def part_of(part: str, measured: dict[str, float]) -> dict[str, float]:
    """The names of the history: {"train loss": ...} of {"loss": ...}."""
    return {f"{part} {name}": value for name, value in measured.items()}
