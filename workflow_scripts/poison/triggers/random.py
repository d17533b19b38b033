"""A patch of Gaussian noise around the image's own colour."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.poison.triggers._place import check_patch, put_patch


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A patch of N(0, 1) added to the image's mean of each channel, a fresh one for each image.

    Most of its values are beyond [0, 1]. The code published with CleanCLIP (Bansal et al., 2023)
    turns them into bytes modulo 256: that is ``overflow: wrap``.
    """

    image_size: int
    seed: int
    patch_size: Annotated[int, ">= 1"] = 16
    location: Literal["random", "four_corners"] = "random"
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_patch(self.image_size, self.patch_size, self.location)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Trigger float32 ``[3, S, S]``."""
        noise = generator.standard_normal((3, self.patch_size, self.patch_size), dtype=np.float32)
        # A sum in float64 is exact here, so that the order of adding does not matter.
        mean = image.double().mean((1, 2), keepdim=True).float()
        return put_patch(image, mean + torch.from_numpy(noise), self.location, generator)
