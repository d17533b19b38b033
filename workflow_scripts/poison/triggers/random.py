"""A patch of Gaussian noise around the image's mean colour."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.poison.triggers._place import check_patch, put_patch


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A patch of the image's mean colour plus N(0, 1) noise, drawn separately for each image.

    Most values are outside [0, 1]. The code published with CleanCLIP (Bansal et al., 2023) converts
    them to bytes modulo 256, which corresponds to ``overflow: wrap``.
    """

    image_size: int
    seed: int
    patch_size: Annotated[int, ">= 1"] = 16
    location: Literal["random", "four_corners"] = "random"
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_patch(self.image_size, self.patch_size, self.location)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        noise = generator.standard_normal((3, self.patch_size, self.patch_size), dtype=np.float32)
        # The sum is exact in float64 and does not depend on the summation order.
        mean = image.double().mean((1, 2), keepdim=True).float()
        return put_patch(image, mean + torch.from_numpy(noise), self.location, generator)
