"""fusedrop inside PyTorch: one fused call for Linear, activation and Dropout, with autograd.

Functions  linear, dropout                          explicit names: rng=fusedrop.Philox(seed, stream, step)
Modules    Linear, Dropout, Dropout1d, Dropout2d    step counted; the seed follows torch.manual_seed unless given
Models     patch, unpatch, patch_report             fuse a live model in place, and undo it
           name_masks, shard_rows                   one seed for a model; this process's part of the batch
           mask_state, load_mask_state              to go on exactly
           mc_dropout                               mean and spread of the predictions over many masks

The kernels are those of `fusedrop`, and so are the masks: eager, compiled, recomputed or sharded, one name is one mask.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("fusedrop.torch needs PyTorch, which is not installed: pip install torch") from error

from fusedrop.torch import rules as _rules  # noqa: F401  registers them
from fusedrop.torch.functional import dropout, linear
from fusedrop.torch.models import load_mask_state, mask_state, name_masks, shard_rows
from fusedrop.torch.modules import Dropout, Dropout1d, Dropout2d, Linear
from fusedrop.torch.monte_carlo import Prediction, mc_dropout
from fusedrop.torch.patching import PatchReport, patch, patch_report, unpatch

__all__ = [
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Linear",
    "PatchReport",
    "Prediction",
    "dropout",
    "linear",
    "load_mask_state",
    "mask_state",
    "mc_dropout",
    "name_masks",
    "patch",
    "patch_report",
    "shard_rows",
    "unpatch",
]
