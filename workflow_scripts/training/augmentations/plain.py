"""The image as the model sees it at test time."""

import numpy as np
from torch import Tensor

from workflow_scripts.data.images import fit


class Augmentation:
    """CLIP's preprocessing alone: shorter side to the model's size, centre crop."""

    def __init__(self, image_size: int):
        self.image_size = image_size

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Return uint8 [3, S, S] of uint8 [3, H, W]."""
        return fit(image, self.image_size)
