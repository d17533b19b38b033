"""The SimCLR image augmentation, as used by RoCLIP (Yang, Gao and Mirzasoleiman, 2023)."""

from typing import Annotated

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

_GREY = (0.2989, 0.587, 0.114)


class Augmentation:
    """Flip, random crop, colour jitter, greyscale and blur, in this order.

    A horizontal flip with probability 0.5; a crop of ``smallest_crop`` to 1 of the area with an
    aspect ratio of 3/4 to 4/3, resized to the model's input size; with probability 0.8, brightness,
    contrast and saturation multiplied by U(0.5, 1.5) and hue shifted by U(-0.1, 0.1), in random
    order; greyscale with probability 0.2; Gaussian blur with a standard deviation of U(0.1, 2)
    pixels and a kernel size of about a tenth of the image's side (21 pixels at 224, at least 3).
    """

    def __init__(self, image_size: int, smallest_crop: Annotated[float, "> 0", "<= 1"] = 0.08):
        self.image_size, self.smallest_crop = image_size, smallest_crop

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Augment an image: uint8 [3, H, W] to uint8 [3, S, S]."""
        if generator.random() < 0.5:
            image = transforms.hflip(image)
        height, width = image.shape[1:]
        image = transforms.resized_crop(
            image,
            *_crop(height, width, self.smallest_crop, generator),
            [self.image_size, self.image_size],
            InterpolationMode.BICUBIC,
            antialias=True,
        )
        if generator.random() < 0.8:
            image = _jittered(image, generator)
        if generator.random() < 0.2:
            grey = torch.einsum("c,chw->hw", torch.tensor(_GREY), image.float())
            image = grey.round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1)
        kernel = max((self.image_size // 10 - 1) | 1, 3)
        return transforms.gaussian_blur(image, [kernel, kernel], [generator.uniform(0.1, 2.0)])


def _crop(
    height: int, width: int, smallest: float, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop; the whole image after ten failures."""
    for _ in range(10):
        area = height * width * generator.uniform(smallest, 1.0)
        ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < wide <= width and 0 < high <= height:
            top = int(generator.integers(0, height - high + 1))
            return top, int(generator.integers(0, width - wide + 1)), high, wide
    return 0, 0, height, width


def _jittered(image: Tensor, generator: np.random.Generator) -> Tensor:
    changes = [
        (transforms.adjust_brightness, generator.uniform(0.5, 1.5)),
        (transforms.adjust_contrast, generator.uniform(0.5, 1.5)),
        (transforms.adjust_saturation, generator.uniform(0.5, 1.5)),
        (transforms.adjust_hue, generator.uniform(-0.1, 0.1)),
    ]
    for number in generator.permutation(len(changes)):
        change, amount = changes[number]
        image = change(image, float(amount))
    return image
