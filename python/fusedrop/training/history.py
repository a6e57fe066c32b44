"""The history of training: lists of numbers by name, and their plot."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fusedrop import checks

# Colors for color-blind readers (Okabe and Ito); lines and markers differ too, for print in black and white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
LINES, MARKERS = ("-", "--", "-.", ":"), ("o", "s", "^", "D", "v", "P", "X")
PLACES = ("best", "upper right", "upper left", "lower left", "lower right", "right", "center left", "center right")
MORE_PLACES = ("lower center", "upper center", "center", "none")


class History(dict[str, list[float]]):
    """A dictionary of lists with one number per epoch: history["train loss"][-1] is the last one.

    steps: the same with one number per training step; empty unless fit was called with record_steps=True.
    stopped: why training ended before its last epoch ("early stopping", "Ctrl-C", or a callback's own text); None if
        it reached its last epoch.
    unit: "epoch" or "step", the label of the plot's x axis.
    """

    def __init__(self, curves: Mapping[str, Sequence[float]] | None = None, *, unit: str = "epoch"):
        super().__init__({name: list(values) for name, values in (curves or {}).items()})
        self.unit = checks.choice(unit, "unit", ("epoch", "step"))
        self.stopped: str | None = None
        if unit == "epoch":
            self.steps = History(unit="step")

    def record(self, values: Mapping[str, float]) -> None:
        """Append one number to each named list; a new name makes a new list: record({"gap": 0.1})."""
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
        """Plot the curves into a file with matplotlib; the suffix of the file name selects the format.

        Args:
            path: the file, overwritten.
            panels: {label of the y axis: names of its curves}, from left to right. None: one panel for losses, one for
                accuracies, and one for each other name.
            title: above all panels.
            mark_every: a marker at the first number, and then at every n-th; 0 for none, None for about twenty.
            legend: its location in each panel, as in matplotlib ("lower right"), or "none".

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
            plot_curves(axes, curves, mark_every=mark_every)
            if legend != "none" and list(names) != [label]:
                axes.legend(loc=legend)
            axes.set(xlabel=self.unit, ylabel=label)
        figure.suptitle(title)
        figure.savefig(path, dpi=150)

    def _panels(self) -> dict[str, list[str]]:
        """Every curve that is not empty, under loss, accuracy or its own name."""
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
    """An empty figure. It is made without pyplot, which has global state and may open a window."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "History.plot needs matplotlib, which is not installed: pip install 'fusedrop[demo]'"
        ) from None
    return Figure(figsize=(1.5 + 5 * panels, 4.5), layout="constrained")


def plot_curves(axes: Any, curves: Mapping[str, Sequence[float]], *, mark_every: int | None = None) -> None:
    """Curves over 1, 2, 3 ...; the y axis is [0, 1] for accuracies, and starts at 0 where no number is negative."""
    for i, (name, values) in enumerate(curves.items()):
        style: dict[str, Any] = {"color": COLORS[i % len(COLORS)], "linestyle": LINES[i % len(LINES)]}
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
