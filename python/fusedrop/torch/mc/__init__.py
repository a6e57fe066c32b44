"""Monte-Carlo dropout: mean and spread of the predictions over many masks."""

from fusedrop.torch.mc.monte_carlo import Prediction, mc_dropout

__all__ = ["Prediction", "mc_dropout"]
