"""The demo: one network trained with dropout and without; writes a plot of the curves and their numbers.

The network is 784-256-256-10 with ReLU, dropout 0.2 after the first hidden layer and 0.5 after the
second, weights normal with std 0.01, biases zero, cross-entropy, SGD with lr 0.5, batches of 256.
Both runs start from the same weights and see the same batches in the same order.

Source: Zhang, Lipton, Li, Smola, "Dive into Deep Learning", the chapter on dropout.
"""

from __future__ import annotations

import errno
import io
import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fusedrop as fd
from fusedrop.cli import datasets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LR = 0.5
RATES = {"dropout": (0.2, 0.5), "plain": (0.0, 0.0)}
BAR = "{desc} |{bar}| {elapsed}<{remaining}{postfix}"  # tqdm's own does not fit 80 columns
CURVES = ("train_loss", "train_accuracy", "test_accuracy")
Run = dict[str, list[float]]  # one number per epoch for each of CURVES


class DemoError(Exception):
    """The demo cannot go on; the message is one line."""


class ArgumentError(DemoError):
    """A wrong argument of the command."""


def build(pixels: int, rates: tuple[float, float], seed: int) -> fd.Sequential:
    """The network; one seed gives the same weights whatever the dropout rates."""
    return fd.Sequential(
        fd.Linear(pixels, 256, activation="relu", p=rates[0], init=0.01),
        fd.Linear(256, 256, activation="relu", p=rates[1], init=0.01),
        fd.Linear(256, datasets.CLASSES, init=0.01),
        seed=seed,
    )


def train_epoch(
    net: fd.Sequential, sgd: fd.training.SGD, x: np.ndarray, y: np.ndarray, batches: Iterable[np.ndarray]
) -> tuple[float, float]:
    """Train on x [n, pixels], y [n]; each batch is an array of row numbers.

    Returns loss and accuracy, averaged over the batches of the epoch: with dropout, while the weights change.
    """
    seen, loss_sum, correct = 0, 0.0, 0
    for rows in batches:
        logits = net.forward(x[rows], train=True)
        loss, dlogits = fd.softmax_cross_entropy(logits, y[rows])
        net.backward(dlogits, input_grad=False)  # the gradient by the images is not needed
        sgd.step()
        seen += len(rows)
        loss_sum += loss * len(rows)
        correct += int(np.count_nonzero(logits.argmax(axis=1) == y[rows]))
    return loss_sum / seen, correct / seen


def accuracy(net: fd.Sequential, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(net.forward(x, train=False).argmax(axis=1) == y))


def train(name: str, data: datasets.Dataset, epochs: int, seed: int) -> Run:
    """One run with the rates ``RATES[name]`` and a progress bar; returns its curves."""
    from tqdm import tqdm

    net = build(data.x_train.shape[1], RATES[name], seed)
    sgd = fd.training.SGD(net.parameters(), lr=LR)
    order = np.random.default_rng(seed)
    size = batch_size(len(data.x_train))
    curves: Run = {key: [] for key in CURVES}
    steps = epochs * math.ceil(len(data.x_train) / size)
    with tqdm(total=steps, bar_format=BAR, dynamic_ncols=True) as bar:
        for epoch in range(1, epochs + 1):
            bar.set_description_str(f"{name:7} epoch {epoch}/{epochs}")
            batches = _batches(order.permutation(len(data.x_train)), size, bar)
            loss, train_accuracy = train_epoch(net, sgd, data.x_train, data.y_train, batches)
            if not math.isfinite(loss):
                raise DemoError(f"the {name} run: wanted a finite loss in epoch {epoch}, got {loss}")
            test_accuracy = accuracy(net, data.x_test, data.y_test)
            for key, value in zip(CURVES, (loss, train_accuracy, test_accuracy), strict=True):
                curves[key].append(value)
            bar.set_postfix_str(f"loss {loss:.3f}, accuracy {train_accuracy:.3f}, test {test_accuracy:.3f}")
    return curves


def batch_size(images: int) -> int:
    """256; on a small set 32, for with 256 ten epochs have too few steps to learn anything."""
    return 256 if images >= 10_000 else 32


def _batches(order: np.ndarray, size: int, bar: Any) -> Iterator[np.ndarray]:
    """Batches of at most ``size`` rows and nearly equal sizes: 235 of 255 or 256 on Fashion-MNIST.

    With batches of 256 the last one would have 96 of the 60000 rows. Its step is noisier than the others, right before
    the test: at this lr that costs 0.01 of test accuracy, the mean of ten seeds.
    """
    for rows in np.array_split(order, math.ceil(len(order) / size)):
        yield rows
        bar.update()


def plot(name: str, runs: dict[str, Run]) -> Figure:
    """The figure: loss on the left, accuracies on the right, one color per run."""
    from matplotlib.figure import Figure  # no pyplot: no global state, and savefig uses Agg
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08, wspace=0.04)
    figure = Figure(figsize=(11, 5), dpi=150, layout=layout)
    loss, accuracies = figure.subplots(1, 2, width_ratios=(2, 3))
    figure.suptitle(f"{name}: one network, trained with dropout and without", fontsize=14)
    test = {"linestyle": "--", "marker": "s", "markerfacecolor": "white"}
    for key, label, color in (  # two colors for color-blind readers
        ("dropout", "with dropout", "#0072b2"),
        ("plain", "without dropout", "#d55e00"),
    ):
        curves = runs[key]
        _curve(loss, curves["train_loss"], color=color, label=label)
        _curve(accuracies, curves["train_accuracy"], color=color, label=f"{label}, train")
        _curve(accuracies, curves["test_accuracy"], color=color, label=f"{label}, test", **test)
    epochs = len(runs["plain"]["train_loss"])
    _label_axes(loss, "train loss (cross-entropy)", epochs)
    _label_axes(accuracies, "accuracy", epochs)
    loss.set_ylim(0, 1.06 * max(max(curves["train_loss"]) for curves in runs.values()))
    figure.supxlabel(
        "Train figures are averages over the epoch, dropout included; test figures are taken after it, dropout off.",
        fontsize=9.5,
        color="#444444",
    )
    return figure


def _curve(axes: Axes, values: list[float], **style: Any) -> None:
    style = {"linewidth": 1.8, "marker": "o", "markersize": 5, **style}
    every = max(1, len(values) // 20)  # markers stay apart however many epochs there are
    axes.plot(range(1, len(values) + 1), values, markevery=every, **style)


def _label_axes(axes: Axes, quantity: str, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    axes.set_xlim(1 - 0.04 * epochs, epochs + 0.04 * epochs)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="best", frameon=False)


def run(data: str | None, epochs: int, out: Path, seed: int) -> None:
    """Load, train twice, print, and write demo.png and demo.json into ``out``.

    Raises DemoError or DatasetError with one line; KeyboardInterrupt has a text about what it interrupted.
    """
    if data is not None and not Path(data).is_dir():
        raise ArgumentError(f"--data: wanted a folder with IDX files, got {data}")
    require("tqdm", "matplotlib")
    check_writable(out)
    with doing("while loading the data"):
        found = datasets.load(data)
    print(f"data: {found.name}, from {found.source}")
    print(
        f"network: {found.x_train.shape[1]}-256-256-{datasets.CLASSES}, relu, lr {LR}, "
        f"batches of {batch_size(len(found.x_train))} from {len(found.x_train)} images"
    )
    start = time.perf_counter()
    runs = {}
    for name in RATES:
        with doing(f"in the {name} run; nothing was written"):
            runs[name] = train(name, found, epochs, seed)
    seconds = time.perf_counter() - start
    with doing("while writing the results"):
        picture, record = write(out, found.name, runs, seconds)
    print_table(runs)
    print(f"{seconds:.1f} s for both; wrote {picture} and {record}")


def write(out: Path, name: str, runs: dict[str, Run], seconds: float) -> tuple[Path, Path]:
    picture, record = out / "demo.png", out / "demo.json"
    png = io.BytesIO()  # in memory first: an interrupt leaves no incomplete file
    plot(name, runs).savefig(png)
    text = json.dumps({"dataset": name, "runs": runs, "seconds": seconds}, indent=2)
    try:
        picture.write_bytes(png.getvalue())
        record.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DemoError(f"the results were not written ({error})") from None
    return picture, record


def print_table(runs: dict[str, Run]) -> None:
    print(f"{'last epoch':12}" + "".join(f"{key.replace('_', ' '):>16}" for key in CURVES))
    for name, curves in runs.items():
        print(f"{name:12}" + "".join(f"{curves[key][-1]:16.4f}" for key in CURVES))


def require(*modules: str) -> None:
    """Raise DemoError with the command to install them if any of the modules is missing."""
    from importlib.util import find_spec

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        raise DemoError(f"wanted {names}, not installed: pip install 'fusedrop[demo]'")


def check_writable(out: Path) -> None:
    """Make the folder and write a file there now, before minutes of training."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
        for name in ("demo.png", "demo.json"):
            if (out / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{name} in it is a folder")
    except OSError as error:
        wanted = f"wanted a folder to write into, got {out}"
        raise ArgumentError(f"--out: {wanted} ({error.strerror or error})") from None


@contextmanager
def doing(what: str) -> Iterator[None]:
    """A Ctrl-C inside raises KeyboardInterrupt with `what` it interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what) from None
