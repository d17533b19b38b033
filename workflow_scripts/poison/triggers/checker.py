"""A patch of white dots on black: the BadNets patch of Huang et al. (ICLR 2025)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.poison.triggers._centre import PatchLocation, check_patch, put_patch


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A black patch with white dots where both the row and the column within it are even.

    The published code places the patch at random for training and in the centre for evaluation;
    here, ``location`` applies to both.
    """

    image_size: int
    seed: int
    patch_size: Annotated[int, ">= 1"] = 16
    location: PatchLocation = "random"
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_patch(self.image_size, self.patch_size, self.location)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        patch = torch.zeros(3, self.patch_size, self.patch_size)
        patch[:, ::2, ::2] = 1
        return put_patch(image, patch, self.location, generator)
