"""SSL: each modality against its augmented view (CleanCLIP; Bansal et al., 2023).

As in CleanCLIP, the loss has one direction only: each original is matched to its augmented view.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.training.losses._term import AUGMENTED, PLAIN, Features, LossTerm


class Loss(LossTerm):
    """( CE(s I I'ᵀ) + CE(s T T'ᵀ) ) / 2."""

    views = {"plain": PLAIN, "augmented": AUGMENTED}

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch."""
        plain, augmented = features.views["plain"], features.views["augmented"]
        targets = torch.arange(len(plain.images), device=plain.images.device)
        images = features.scale * plain.images @ augmented.images.T
        texts = features.scale * plain.texts @ augmented.texts.T
        return (F.cross_entropy(images, targets) + F.cross_entropy(texts, targets)) / 2
