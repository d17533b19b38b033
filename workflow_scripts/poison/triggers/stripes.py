"""Vertical stripes of random colours: BadNet-Stripes and Blended-Stripes (Singh et al., 2024)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.poison.triggers._blend import blend, check_strength
from workflow_scripts.poison.triggers._centre import PatchLocation, check_patch, put_patch


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Stripes one pixel wide; each channel is -1 or 1 with equal probability, drawn per image.

    ``mode: patch`` replaces the image's pixels by a patch of stripes. The value -1 is outside
    [0, 1]: with ``overflow: wrap``, as in the code published with PAR (Singh et al., 2024), it
    becomes the byte 1, and 1 becomes 255. ``mode: blend`` blends stripes into the whole image,
    clip((1 - strength) image + strength stripes, 0, 1). ``patch_size`` and ``location`` only apply
    to ``patch``, ``strength`` only to ``blend``.
    """

    image_size: int
    seed: int
    mode: Literal["patch", "blend"] = "patch"
    strength: Annotated[float, "> 0", "<= 1"] = 0.03
    patch_size: Annotated[int, ">= 1"] = 16
    location: PatchLocation = "random"
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_strength(self.strength)
        if self.mode == "patch":
            check_patch(self.image_size, self.patch_size, self.location)
        elif self.mode != "blend":
            raise StepError(f"unknown mode {self.mode!r} of the trigger (available: patch, blend)")

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        side = self.image_size if self.mode == "blend" else self.patch_size
        signs = 2 * generator.integers(0, 2, (3, 1, side)) - 1
        stripes = torch.from_numpy(signs.astype(np.float32)).expand(3, side, side)
        if self.mode == "blend":
            return blend(image, stripes, self.strength)
        return put_patch(image, stripes, self.location, generator)
