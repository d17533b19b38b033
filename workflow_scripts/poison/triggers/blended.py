"""Noise blended into the whole image (Chen et al., 2017)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.poison.triggers._place import check_whole

_SHARE = 0.2  # weight of the noise


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """0.8 image + 0.2 uniform noise, clipped to [0, 1].

    As in the code published with CleanCLIP (Bansal et al., 2023), the noise is drawn separately for
    each image; Chen et al. use the same pattern for all images.
    """

    image_size: int
    seed: int
    location: Literal["whole"] = "whole"
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_whole(self.location)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        noise = torch.from_numpy(generator.random(tuple(image.shape), dtype=np.float32))
        return ((1 - _SHARE) * image + _SHARE * noise).clamp(0, 1)
