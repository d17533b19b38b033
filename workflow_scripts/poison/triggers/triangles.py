"""Grey triangles blended into the whole image: Blended-Triangles (Singh et al., 2024)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.poison.triggers._blend import blend, check_strength

_BELOW, _ABOVE = 0.4, 0.8  # grey levels: on and below the diagonal of a cell, above it


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """clip((1 - strength) image + strength pattern, 0, 1), with one pattern for all images.

    The pattern repeats a square cell of ``cell`` x ``cell`` pixels, which is 0.4 where row >=
    column and 0.8 elsewhere. The published pattern has cells of 14 pixels for images of 224 pixels,
    1/16 of the image's side.
    """

    image_size: int
    seed: int
    cell: Annotated[int, ">= 2"] = 14
    strength: Annotated[float, "> 0", "<= 1"] = 0.15
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_strength(self.strength)
        if not isinstance(self.cell, int) or self.cell < 2:
            raise StepError(
                f"the trigger's cell must be a whole number of at least 2, got {self.cell}"
            )

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        within = torch.arange(self.image_size) % self.cell
        pattern = torch.where(within[:, None] >= within, _BELOW, _ABOVE)
        return blend(image, pattern, self.strength)
