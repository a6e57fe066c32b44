"""`patch`: fuses the Linear, activation and Dropout of a live model, in place."""

from fusedrop.torch.patch.patch import PatchReport, patch, patch_report, unpatch

__all__ = ["PatchReport", "patch", "patch_report", "unpatch"]
