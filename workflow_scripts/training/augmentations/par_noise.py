"""The image noise of PAR (Singh, Croce and Hein, 2024, arXiv 2412.00727)."""

import math
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.data.images import fit

# CLIP's mean colour in bytes, which CLIP's normalisation maps to 0.
_MEAN = torch.tensor([122.77, 116.75, 104.09]).round().to(torch.uint8)


class Augmentation:
    """Adds positive Gaussian noise and erases a small square, each with probability ``p``.

    Applied after CLIP's preprocessing. Noise clip(N(0, std²), 0, 1) is added and the sum clipped to
    [0, 1]; a square covering ``smallest`` to ``largest`` of the area is set to the mean colour,
    which normalisation maps to 0. Values are rounded to bytes.
    """

    def __init__(
        self,
        image_size: int,
        std: Annotated[float, ">= 0"] = 0.2,
        p: Annotated[float, ">= 0", "<= 1"] = 0.5,
        smallest: Annotated[float, "> 0", "<= 1"] = 0.005,
        largest: Annotated[float, "> 0", "<= 1"] = 0.01,
    ):
        self.image_size, self.std, self.p = image_size, std, p
        self.smallest, self.largest = smallest, largest

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Augment an image: uint8 [3, H, W] to uint8 [3, S, S]."""
        image = fit(image, self.image_size)
        if generator.random() < self.p:
            noise = generator.standard_normal(image.shape, dtype=np.float32) * self.std
            noisy = image.float() + 255 * torch.from_numpy(noise).clamp(0, 1)
            image = noisy.clamp(0, 255).round().to(torch.uint8)
        if generator.random() < self.p:
            area = self.image_size**2 * generator.uniform(self.smallest, self.largest)
            side = min(max(round(math.sqrt(area)), 1), self.image_size)
            top, left = generator.integers(0, self.image_size - side + 1, 2).tolist()
            image = image.clone()
            image[:, top : top + side, left : left + side] = _MEAN[:, None, None]
        return image
