"""Progress of training, as callbacks: a tqdm bar, or one line per epoch where tqdm is not installed."""

from __future__ import annotations

from typing import Any

from fusedrop import checks
from fusedrop.training.callbacks import TrainingState
from fusedrop.training.history import History

BAR = "{desc} |{bar}| {elapsed}<{remaining}{postfix}"  # tqdm's own does not fit 80 columns


def progress_callbacks(wanted: bool) -> list[ProgressBar | ProgressLines]:
    """[a bar], [lines] where tqdm is not installed, or [] where progress is not wanted."""
    if not checks.flag(wanted, "progress"):
        return []
    try:
        import tqdm
    except ImportError:
        return [ProgressLines()]
    return [ProgressBar(tqdm.tqdm)]


class ProgressBar:
    """One bar for all epochs, on stderr: the epoch, its steps, and the numbers of the last epoch."""

    def __init__(self, tqdm: Any):
        self.tqdm = tqdm
        self.bar: Any = None  # before_fit sets it, unless Ctrl-C interrupts that

    def before_fit(self, state: TrainingState) -> None:
        self.bar = self.tqdm(total=state.steps, bar_format=BAR, dynamic_ncols=True)

    def before_step(self, state: TrainingState) -> None:
        self.bar.set_description_str(f"epoch {state.epoch}/{state.epochs}", refresh=False)

    def after_step(self, state: TrainingState) -> None:
        self.bar.update()

    def after_epoch(self, state: TrainingState) -> None:
        self.bar.set_postfix_str(in_short(state.history))

    def after_fit(self, state: TrainingState) -> None:
        if self.bar is None:
            return
        if state.stop:
            self.bar.set_description_str(stopped(state))
        self.bar.close()


class ProgressLines:
    """One line per epoch, on stdout."""

    def after_epoch(self, state: TrainingState) -> None:
        print(f"epoch {state.epoch:{len(str(state.epochs))}}/{state.epochs}  {last_numbers(state.history)}")

    def after_fit(self, state: TrainingState) -> None:
        if state.stop:
            print(stopped(state))


def in_short(history: History) -> str:
    """ "loss train/validation, accuracy train/validation": short, for a bar has 80 columns."""
    kinds = {kind: (history.get(f"train {kind}"), history.get(f"validation {kind}")) for kind in ("loss", "accuracy")}
    texts = {kind: "/".join(f"{values[-1]:.3f}" for values in pair if values) for kind, pair in kinds.items()}
    return ", ".join(f"{kind} {text}" for kind, text in texts.items() if text)


def last_numbers(history: History) -> str:
    return ", ".join(f"{name} {values[-1]:.4f}" for name, values in history.items())


def stopped(state: TrainingState) -> str:
    return f"stopped in epoch {state.epoch}/{state.epochs}: {state.stop}"
