"""MMCL, the multimodal contrastive loss of CLIP between images and texts (Radford et al., 2021)."""

from torch import Tensor

from workflow_scripts.training.losses._term import Features, LossTerm, contrast


class Loss(LossTerm):
    """( CE(s I Tᵀ) + CE(s T Iᵀ) ) / 2."""

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch."""
        plain = features.views["plain"]
        return contrast(plain.images, plain.texts, features.scale)
