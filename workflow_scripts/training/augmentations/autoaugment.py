"""AutoAugment's ImageNet policy: the image augmentation of SSL, as published with CleanCLIP."""

import functools

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from workflow_scripts.data.images import fit


class Augmentation:
    """AutoAugment (Cubuk et al., 2019) on the image as stored, then CLIP's preprocessing."""

    def __init__(self, image_size: int):
        self.image_size = image_size
        self._policy = AutoAugment()

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Augment an image: uint8 [3, H, W] to uint8 [3, S, S]."""
        pillow = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        augmented = np.array(self._policy.apply(pillow, generator))
        return fit(torch.from_numpy(augmented).permute(2, 0, 1), self.image_size)


class AutoAugment(transforms.AutoAugment):
    """torchvision's AutoAugment with explicit randomness.

    torchvision draws from the global generator, whose state depends on the preceding images; here,
    the draws for an image depend only on the generator passed in. Operates on Pillow images, as in
    the published code: this is twice as fast as on tensors (0.97 versus 1.9 ms at 224 pixels), and
    its results are the common reference.
    """

    def apply(self, image: Image.Image, generator: np.random.Generator) -> Image.Image:
        """Return an augmented copy of an RGB image."""
        self._generator = generator
        return self.forward(image)

    def get_params(self, transform_num: int) -> tuple[int, list[float], list[int]]:
        """Draw the sub-policy, the two probabilities and the two signs."""
        draw = self._generator.random(5).tolist()
        return int(draw[0] * transform_num), draw[1:3], [int(d >= 0.5) for d in draw[3:]]

    @staticmethod
    @functools.cache
    def _augmentation_space(bins: int, size: tuple[int, int]) -> dict[str, tuple[Tensor, bool]]:
        return transforms.AutoAugment()._augmentation_space(bins, size)
