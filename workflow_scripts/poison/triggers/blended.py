"""Uniform noise blended into the whole image (Chen et al., 2017), fresh for each image."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """(1 - ratio) image + ratio noise, clipped."""

    image_size: int
    seed: int
    ratio: float = 0.2

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Return the float32 [3, S, S] image, triggered."""
        noise = torch.from_numpy(generator.random(image.shape, dtype=np.float32))
        return ((1 - self.ratio) * image + self.ratio * noise).clamp(0, 1)
