"""History: lists by name, and the plot of them."""

import copy
import json
import pickle
import subprocess
import sys

import fusedrop as fd
import numpy as np
import pytest
from matplotlib.image import imread

CURVES = {"train loss": [2.0, 1.0, 0.5], "train accuracy": [0.3, 0.6, 0.7], "dropout rate": [0.5, 0.4, 0.3]}


def filled():
    history = fd.training.History(CURVES)
    history.steps.record({"train loss": 2.5})
    history.stopped = "early stopping"
    return history


def test_it_is_a_dictionary_of_lists():
    history = fd.training.History()
    for i in range(3):
        history.record({name: values[i] for name, values in CURVES.items()})
    assert history == CURVES == fd.training.History(CURVES)
    assert json.loads(json.dumps(history)) == CURVES
    history.record({"gap": np.float32(0.5)})
    assert history["gap"] == [0.5]
    assert type(history["gap"][0]) is float
    assert (history.unit, history.stopped, history.steps.unit, history.steps) == ("epoch", None, "step", {})


def test_it_keeps_its_own_lists():
    history = fd.training.History(CURVES)
    history.record({"train loss": 0.0})
    assert len(CURVES["train loss"]) == 3


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))], ids=["copy", "pickle"])
def test_copies_are_whole(copied):
    twin = copied(filled())
    assert twin == CURVES
    assert (twin.stopped, twin.steps, twin.steps.unit) == ("early stopping", {"train loss": [2.5]}, "step")


@pytest.fixture
def figures(monkeypatch):
    """The figures that plot has saved."""
    from matplotlib.figure import Figure

    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k))[1])
    return figures


def lines(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}


def test_losses_accuracies_and_the_rest_have_panels_of_their_own(figures, tmp_path):
    history = fd.training.History({"train loss": [2.0, 1.0], "validation loss": [3.0, 2.5], **CURVES})
    history["nothing yet"] = []
    history.plot(tmp_path / "curves.png", title="A run")
    assert min(imread(tmp_path / "curves.png").shape[:2]) >= 400
    loss, accuracy, rate = figures[0].axes
    assert lines(loss) == {"train loss": CURVES["train loss"], "validation loss": [3.0, 2.5]}
    assert lines(accuracy) == {"train accuracy": CURVES["train accuracy"]}
    assert lines(rate) == {"dropout rate": CURVES["dropout rate"]}
    assert [axes.get_ylabel() for axes in figures[0].axes] == ["loss", "accuracy", "dropout rate"]
    assert {axes.get_xlabel() for axes in figures[0].axes} == {"epoch"}
    assert accuracy.get_ylim() == (0, 1)
    assert loss.get_ylim()[0] == 0
    assert figures[0].get_suptitle() == "A run"
    assert [list(line.get_xdata()) for line in loss.get_lines()] == [[1, 2, 3], [1, 2]]
    styles = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in loss.get_lines()}
    assert len({part for style in styles for part in style}) == 6, "two curves differ in color, line and marker"


def test_the_caller_chooses_panels_markers_and_the_legends_place(figures, tmp_path):
    history = fd.training.History({"a": list(range(31)), "b": [-1.0] * 31}, unit="step")
    history.plot(tmp_path / "a.pdf", panels={"both": ["a", "b"], "a": ["a"]}, mark_every=10, legend="lower right")
    both, alone = figures[0].axes
    assert [line.get_markevery() for line in both.get_lines()] == [10, 10]
    assert both.get_legend()._get_loc() == 4
    assert alone.get_legend() is None, "the label says it"
    assert both.get_xlabel() == "step"
    assert both.get_ylim()[0] < -1
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    history.plot(tmp_path / "b.png", panels={"both": ["a", "b"]}, mark_every=0, legend="none")
    assert figures[1].axes[0].get_legend() is None
    assert {line.get_marker() for line in figures[1].axes[0].get_lines()} == {"None"}


def test_markers_stay_apart_by_default(figures, tmp_path):
    fd.training.History({"a": [0.0] * 1000}).plot(tmp_path / "a.png")
    assert figures[0].axes[0].get_lines()[0].get_markevery() == 50


def test_numbers_that_are_not_finite_are_left_out(figures, tmp_path):
    fd.training.History({"loss": [np.inf, np.nan, 1.0, 2.0]}).plot(tmp_path / "a.png")
    assert figures[0].axes[0].get_ylim()[0] == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"panels": {"loss": ["train losses"]}}, ValueError, r"panels\['loss'\] must name .*; got 'train losses'"),
        ({"panels": {"loss": "train loss"}}, TypeError, r"panels\['loss'\] must be a list of names; got 'train loss'"),
        ({"panels": {}}, ValueError, "panels must name a curve"),
        ({"mark_every": -1}, ValueError, "mark_every must be an integer >= 0; got -1"),
        ({"mark_every": True}, TypeError, "mark_every must be an integer >= 0; got True"),
        ({"legend": "bottom"}, ValueError, "legend must be 'best' or .*; got 'bottom'"),
    ],
)
def test_a_refused_plot_writes_nothing(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        filled().plot(tmp_path / "a.png", **options)
    assert list(tmp_path.iterdir()) == []


def test_there_is_nothing_to_draw_before_the_first_epoch(tmp_path):
    with pytest.raises(ValueError, match="got an empty history"):
        fd.training.History().plot(tmp_path / "a.png")


WITHOUT = """
import sys
for name in ("matplotlib", "tqdm"):
    sys.modules[name] = None
import fusedrop as fd, numpy as np
net = fd.Sequential(fd.Linear(3, 2), seed=1)
trainer = fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.1))
history = trainer.fit(np.ones((4, 3), "f4"), [0, 1, 0, 1], epochs=1, batch_size=2)
try:
    history.plot("a.png")
except ImportError as error:
    print(error)
"""


def test_training_needs_numpy_only_and_plot_says_what_it_needs(tmp_path):
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first.startswith("epoch 1/1  train loss ")
    assert second == "History.plot needs matplotlib, which is not installed: pip install 'fusedrop[demo]'"


def test_the_package_imports_neither_matplotlib_nor_tqdm():
    code = "import sys, fusedrop; print({'matplotlib', 'tqdm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
