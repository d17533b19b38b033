"""No augmentation: the image as preprocessed at test time."""

import numpy as np
from torch import Tensor

from workflow_scripts.data.images import fit


class Augmentation:
    """CLIP's preprocessing: resize the shorter side to the model's input size, then centre crop."""

    def __init__(self, image_size: int):
        self.image_size = image_size

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Preprocess an image: uint8 [3, H, W] to uint8 [3, S, S]."""
        return fit(image, self.image_size)
