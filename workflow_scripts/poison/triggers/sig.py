"""A sinusoidal signal over the whole image (SIG; Barni et al., 2019)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.poison.triggers._place import check_whole

_SHARE = 0.2  # weight of the signal
_AMPLITUDE = 60 / 255
_PERIODS = 6  # over the image's width


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """0.8 image + 0.2 (60/255) sin(2π · 6 · column / width), clipped to [0, 1]."""

    image_size: int
    seed: int
    location: Literal["whole"] = "whole"
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_whole(self.location)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        columns = np.arange(self.image_size)
        signal = _AMPLITUDE * np.sin(2 * np.pi * _PERIODS * columns / self.image_size)
        added = torch.from_numpy((_SHARE * signal).astype(np.float32))
        return ((1 - _SHARE) * image + added).clamp(0, 1)
