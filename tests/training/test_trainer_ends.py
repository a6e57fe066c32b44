"""The end of training: Ctrl-C at any moment, or a callback's stop; the history and early stopping after it."""

import runpy
import subprocess
import sys
from types import SimpleNamespace

import fusedrop as fd
import numpy as np
import pytest
from fusedrop.training.progress import ProgressLines
from repository import ROOT
from training import fingerprint

X, LABELS = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32), np.arange(20) % 3
EXAMPLES = ROOT / "examples" / "textbooks"


def trainer(*callbacks):
    net = fd.Sequential(fd.Linear(4, 8, activation="relu", p=0.2), fd.Linear(8, 3), seed=1)
    return fd.training.Trainer(net, fd.training.SGD(net.parameters(), lr=0.1), callbacks=callbacks)


def fit(trained, epochs=3, **options):
    return trained.fit(X, LABELS, **{"epochs": epochs, "batch_size": 10, "progress": False} | options)


class At:
    """At a moment, from an epoch and a step on, raises an error or sets `stop`."""

    def __init__(self, moment, epoch=0, step=0, error=None):
        self.epoch, self.step, self.error, self.ended = epoch, step, error, 0
        setattr(self, moment, self.end)

    def end(self, state):
        if state.epoch >= self.epoch and state.step >= self.step:
            if self.error:
                raise self.error
            state.stop = "enough"

    def after_fit(self, state):
        self.ended += 1


def weights(net):
    return [p.value.tobytes() for p in net.parameters()]


def interrupt(optimizer):
    raise KeyboardInterrupt


def record_epoch(state):
    state.history.record({f"epochs from {first}": state.epoch for first in range(1, state.epoch + 1)})


@pytest.mark.parametrize("at", [1, 2, 3])
def test_ctrl_c_in_a_callback_after_an_epoch_cuts_all_lists_to_the_finished_epochs(at):
    seen = []
    ctrl_c = At("after_epoch", at, error=KeyboardInterrupt)
    interrupted = trainer(record_epoch, lambda state: seen.append(weights(state.net)), ctrl_c)
    early = fd.training.EarlyStopping("epochs from 1", higher_is_better=True)  # each epoch is the best
    history = fit(interrupted, early_stopping=early, validation=0.2)
    whole = fit(trainer(record_epoch), epochs=at - 1, validation=0.2) if at > 1 else {}
    assert history.stopped == "Ctrl-C"
    assert history == whole
    assert early.best_epoch == at - 1
    assert weights(interrupted.net) == seen[max(at - 2, 0)], "of the best epoch; where there is none, the last"


def test_ctrl_c_while_progress_is_shown_keeps_what_early_stopping_has_seen(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(ProgressLines, "after_epoch", At("after_epoch", 2, 0, KeyboardInterrupt).end)
    early = fd.training.EarlyStopping("epochs from 1", higher_is_better=True)
    history = fit(trainer(record_epoch), early_stopping=early, progress=True)
    assert (history.stopped, len(history["train loss"]), early.best_epoch) == ("Ctrl-C", 2, 2)


def test_ctrl_c_before_the_first_step_ends_training_in_the_same_way():
    first, later = At("before_fit", error=KeyboardInterrupt), At("after_step")
    interrupted = trainer(first, later)
    before = fingerprint(interrupted.net)
    history = fit(interrupted, progress=True)
    assert (history, history.stopped) == ({}, "Ctrl-C")
    assert (first.ended, later.ended) == (1, 0), "after_fit, of those whose before_fit has been called"
    assert fingerprint(interrupted.net) == before


def test_a_refusal_before_the_first_step_ends_what_has_begun_and_restores_nothing():
    early, begun = fd.training.EarlyStopping(), At("after_step", epoch=9)
    fit(trainer(), early_stopping=early, validation=0.2)
    refused = trainer(begun)
    before = fingerprint(refused.net)
    with pytest.raises(ValueError, match=r"^monitor must be"):
        fit(refused, early_stopping=early)
    assert begun.ended == 1
    assert fingerprint(refused.net) == before


@pytest.mark.parametrize(("step", "epochs"), [(1, 0), (2, 1), (3, 1), (4, 2), (6, 3)])
def test_an_epoch_stopped_at_its_last_step_is_whole(step, epochs):
    seen = []
    history = fit(trainer(At("after_step", step=step), lambda state: seen.append(state.epoch)), validation=(X, LABELS))
    assert history.stopped == "enough"
    assert history == (fit(trainer(), epochs=epochs, validation=(X, LABELS)) if epochs else {})
    assert seen == list(range(1, epochs + 1))


def test_a_stop_before_training_trains_no_step():
    stopped = trainer(At("before_fit"))
    before = fingerprint(stopped.net)
    history = fit(stopped, record_steps=True)
    assert (history, history.steps, history.stopped) == ({}, {}, "enough")
    assert fingerprint(stopped.net) == before


@pytest.mark.parametrize(("ends", "said"), [("by Ctrl-C", "0: Ctrl-C"), ("with NaN", "2: no number")])
def test_the_example_says_that_there_is_no_best_epoch(monkeypatch, tmp_path, ends, said):
    example = runpy.run_path(str(EXAMPLES / "08_early_stopping.py"))
    x = np.full_like(X, np.nan) if ends == "with NaN" else X
    data = SimpleNamespace(name="small", x_train=x, y_train=LABELS, x_test=x, y_test=LABELS)
    if ends == "by Ctrl-C":
        monkeypatch.setattr(fd.training.SGD, "step", interrupt)
    with pytest.raises(SystemExit, match=f"^no best epoch after {said}$"):
        example["main"](data, 2, tmp_path / "picture.png")


@pytest.mark.parametrize("steps", ["0", "-1"])
def test_the_example_of_a_scheduled_rate_refuses_no_steps(steps, tmp_path):
    command = [sys.executable, str(EXAMPLES / "10_scheduled_rate.py"), f"--steps={steps}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith(f"argument --steps: must be 1 or more; got {steps}")
    assert "Traceback" not in ended.stderr
