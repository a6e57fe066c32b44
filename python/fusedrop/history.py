"""What training measured: lists of numbers by name, and their picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fusedrop import checks

# Colours that colour-blind readers can tell apart (Okabe and Ito); line and marker differ, too, for print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
LINES, MARKERS = ("-", "--", "-.", ":"), ("o", "s", "^", "D", "v", "P", "X")
PLACES = ("best", "upper right", "upper left", "lower left", "lower right", "right", "center left", "center right")
MORE_PLACES = ("lower center", "upper center", "center", "none")


class History(dict[str, list[float]]):
    """A dictionary of lists, one number an epoch: history["train loss"][-1] is the last one.

    steps: the same with one number a training step; empty unless they were asked for.
    stopped: why training ended before its last epoch ("early stopping", "Ctrl-C", or a callback's own words);
        None if it did not.
    unit: what one number stands for, "epoch" or "step": the name of the picture's x axis.
    """

    def __init__(self, curves: Mapping[str, Sequence[float]] | None = None, *, unit: str = "epoch"):
        super().__init__({name: list(values) for name, values in (curves or {}).items()})
        self.unit = checks.choice(unit, "unit", ("epoch", "step"))
        self.stopped: str | None = None
        if unit == "epoch":
            self.steps = History(unit="step")

    def record(self, values: Mapping[str, float]) -> None:
        """Append one number to each list named, which may be new: record({"gap": 0.1})."""
        for name, value in values.items():
            self.setdefault(name, []).append(float(value))

    def plot(
        self,
        path: str | os.PathLike[str],
        *,
        panels: Mapping[str, Sequence[str]] | None = None,
        title: str = "",
        mark_every: int | None = None,
        legend: str = "best",
    ) -> None:
        """Draw the curves into a file, as matplotlib's savefig does: the ending of its name says the format.

        Args:
            path: the file, overwritten.
            panels: {label of the y axis: names of its curves}, from left to right. None: losses, accuracies and
                whatever else there is, each in a panel.
            title: above all panels.
            mark_every: a marker at the first, and then at every n-th number; 0 for none, None for about twenty.
            legend: its place in each panel, in matplotlib's words ("lower right"), or "none".

        Raises:
            ImportError: where matplotlib is not installed.
            TypeError, ValueError: naming the argument and both sides; no file is written.
        """
        panels = self._panels() if panels is None else panels
        for label, names in panels.items():
            self._check_names(label, names)
        if not panels:
            raise ValueError("panels must name a curve at least; got an empty history")
        if mark_every is not None:
            checks.size(mark_every, "mark_every")
        checks.choice(legend, "legend", (*PLACES, *MORE_PLACES))
        figure = _figure(len(panels))
        for axes, (label, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            curves = {name: self[name] for name in names}
            draw(axes, curves, mark_every=mark_every)
            if legend != "none" and list(names) != [label]:
                axes.legend(loc=legend)
            axes.set(xlabel=self.unit, ylabel=label)
        figure.suptitle(title)
        figure.savefig(path, dpi=150)

    def _panels(self) -> dict[str, list[str]]:
        """Every curve that is not empty, under what it is."""
        panels: dict[str, list[str]] = {}
        for name in filter(self.get, self):
            kind = next((kind for kind in ("loss", "accuracy") if kind in name), name)
            panels.setdefault(kind, []).append(name)
        return panels

    def _check_names(self, label, names):
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise TypeError(f"panels[{label!r}] must be a list of names; got {names!r}")
        for name in names:
            if not self.get(name):
                raise ValueError(f"panels[{label!r}] must name curves of {list(filter(self.get, self))}; got {name!r}")


def _figure(panels: int):
    """An empty figure without pyplot: no global state, no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "History.plot needs matplotlib, which is not installed: pip install 'fusedrop[demo]'"
        ) from None
    return Figure(figsize=(1.5 + 5 * panels, 4.5), layout="constrained")


def draw(axes: Any, curves: Mapping[str, Sequence[float]], *, mark_every: int | None = None) -> None:
    """Curves over 1, 2, 3 ...; accuracies from 0 to 1, what has no negative number from 0."""
    for i, (name, values) in enumerate(curves.items()):
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}
        every = max(1, len(values) // 20) if mark_every is None else mark_every
        if every:
            style |= {"marker": MARKERS[i % len(MARKERS)], "markevery": every, "markersize": 4}
        axes.plot(range(1, len(values) + 1), values, label=name, **style)
    if all("accuracy" in name for name in curves):
        axes.set_ylim(0, 1)
    elif all(value >= 0 for values in curves.values() for value in values if math.isfinite(value)):
        axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
