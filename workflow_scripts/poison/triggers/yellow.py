"""A plain yellow patch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.poison.triggers._place import check_patch, place


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A patch of (1, 1, 0)."""

    image_size: int
    seed: int
    patch_size: int = 16
    location: str = "random"

    def __post_init__(self):
        check_patch(self.location, self.patch_size, self.image_size)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Return the float32 [3, S, S] image, triggered."""
        yellow = torch.tensor([1.0, 1.0, 0.0])[:, None, None]
        patch = yellow.expand(3, self.patch_size, self.patch_size)
        return place(image, patch, self.location, generator)
