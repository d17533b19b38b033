"""SIG: a horizontal sine wave blended into the whole image (Barni et al., 2019)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """(1 - ratio) image + ratio amplitude sin(2π waves column / S), clipped."""

    image_size: int
    seed: int
    ratio: float = 0.2
    amplitude: float = 60 / 255
    waves: int = 6

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Return the float32 [3, S, S] image, triggered; nothing of it is random."""
        columns = torch.arange(self.image_size, dtype=torch.float32)
        wave = self.amplitude * torch.sin(2 * math.pi * self.waves * columns / self.image_size)
        return ((1 - self.ratio) * image + self.ratio * wave).clamp(0, 1)
