"""SSL: each modality against its own augmented view (CleanCLIP; Bansal et al., 2023).

CleanCLIP contrasts one way only: the original view picks its augmented one.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.training.losses._term import Features, LossTerm


class Loss(LossTerm):
    """( CE(s I I'ᵀ) + CE(s T T'ᵀ) ) / 2."""

    uses_augmented = True

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch."""
        targets = torch.arange(len(features.images), device=features.images.device)
        images = features.scale * features.images @ features.augmented_images.T
        texts = features.scale * features.texts @ features.augmented_texts.T
        return (F.cross_entropy(images, targets) + F.cross_entropy(texts, targets)) / 2
