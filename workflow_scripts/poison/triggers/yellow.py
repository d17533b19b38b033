"""A yellow patch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.poison.triggers._place import check_patch, put_patch

_YELLOW = (1.0, 1.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A patch of (1, 1, 0), as in the code published with CleanCLIP (Bansal et al., 2023)."""

    image_size: int
    seed: int
    patch_size: Annotated[int, ">= 1"] = 16
    location: Literal["random", "four_corners"] = "random"
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_patch(self.image_size, self.patch_size, self.location)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        patch = torch.tensor(_YELLOW)[:, None, None].expand(3, self.patch_size, self.patch_size)
        return put_patch(image, patch, self.location, generator)
