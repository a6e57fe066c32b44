"""The training loop: the Trainer, its callbacks, optimizers, dropout schedules, data and checkpoints.

Optimizers      SGD, Adam, their base Optimizer; penalty
Training loop   Trainer, TrainingState, EarlyStopping, History, split_validation
Dropout rate    LinearSchedule, StepSchedule, AdaptiveSchedule
Checkpoints     save, load; also fusedrop.save, fusedrop.load
"""

from fusedrop.training.adaptive import AdaptiveSchedule
from fusedrop.training.callbacks import EarlyStopping, TrainingState
from fusedrop.training.checkpoint import load, save
from fusedrop.training.data import split_validation
from fusedrop.training.history import History
from fusedrop.training.optim import SGD, Adam, Optimizer, penalty
from fusedrop.training.schedules import LinearSchedule, StepSchedule
from fusedrop.training.trainer import Trainer

__all__ = [
    "SGD",
    "Adam",
    "AdaptiveSchedule",
    "EarlyStopping",
    "History",
    "LinearSchedule",
    "Optimizer",
    "StepSchedule",
    "Trainer",
    "TrainingState",
    "load",
    "penalty",
    "save",
    "split_validation",
]
