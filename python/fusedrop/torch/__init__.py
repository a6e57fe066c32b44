"""fusedrop inside PyTorch: one fused call for Linear, activation and Dropout, with autograd.

Functions  linear, dropout                          explicit mask keys: rng=fusedrop.Philox(seed, stream, step)
Modules    Linear, Dropout, Dropout1d, Dropout2d    count the step; the seed follows torch.manual_seed unless given
Models     patch, unpatch, patch_report             fuse a live model in place, and undo it
           assign_mask_keys, shard_rows             one seed for a model; this process's part of the batch
           mask_state, load_mask_state              resume a run exactly
           mc_dropout                               mean and spread of the predictions over many masks

The kernels and the masks are those of `fusedrop`. One key is one mask in eager, compiled, recomputed and sharded calls.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("fusedrop.torch needs PyTorch, which is not installed: pip install torch") from error

from fusedrop.torch import rules as _rules  # noqa: F401  registers the rules
from fusedrop.torch.functional import dropout, linear
from fusedrop.torch.mc import Prediction, mc_dropout
from fusedrop.torch.models import assign_mask_keys, load_mask_state, mask_state, shard_rows
from fusedrop.torch.modules import Dropout, Dropout1d, Dropout2d, Linear
from fusedrop.torch.patch.patch import PatchReport, patch, patch_report, unpatch

__all__ = [
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Linear",
    "PatchReport",
    "Prediction",
    "assign_mask_keys",
    "dropout",
    "linear",
    "load_mask_state",
    "mask_state",
    "mc_dropout",
    "patch",
    "patch_report",
    "shard_rows",
    "unpatch",
]
