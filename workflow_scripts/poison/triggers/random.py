"""A patch of Gaussian noise around the image's mean colour, a fresh one for each image.

Source: the trigger of CleanCLIP's code (Bansal et al., 2023).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.poison.triggers._place import check_patch, place


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Noise N(0, 1) added to the mean of each channel; most of it leaves [0, 1]."""

    image_size: int
    seed: int
    patch_size: int = 16
    location: str = "random"

    def __post_init__(self):
        check_patch(self.location, self.patch_size, self.image_size)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Return the float32 [3, S, S] image, triggered."""
        shape = (3, self.patch_size, self.patch_size)
        noise = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
        patch = image.mean((1, 2), keepdim=True) + noise
        return place(image, patch, self.location, generator)
