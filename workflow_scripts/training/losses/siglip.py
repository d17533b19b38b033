"""SigLIP's pairwise loss (Zhai et al., 2023), in the variant of the published ablation.

Unlike the original, it averages over all n x n pairs instead of dividing the sum by n, and has no
bias.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.training.losses._term import Features, LossTerm


class Loss(LossTerm):
    """Mean over i, j of -log sigmoid(± s I_i · T_j), + on the diagonal and - elsewhere."""

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch."""
        plain = features.views["plain"]
        logits = features.scale * plain.images @ plain.texts.T
        signs = 2 * torch.eye(len(logits), device=logits.device) - 1
        return -F.logsigmoid(signs * logits).mean()
