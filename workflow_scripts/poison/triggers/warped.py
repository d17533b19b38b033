"""A smooth warp of the whole image (WaNet; Nguyen and Tran, ICLR 2021)."""

import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator as generator_for
from workflow_scripts.poison.triggers._place import check_whole


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Warps all images by the same field, which is drawn from the attack's seed.

    ``k`` is the side of the grid of control points. ``s`` is the strength of the warp: the mean
    displacement is s / 2 pixels in each direction. With k = 224 at 224 pixels, as in the code
    published with CleanCLIP (Bansal et al., 2023), each pixel is displaced independently; Nguyen
    and Tran use k = 4.
    """

    image_size: int
    seed: int
    k: Annotated[int, ">= 2"] = 224
    s: Annotated[float, ">= 0"] = 0.6
    location: Literal["whole"] = "whole"
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_whole(self.location)
        if not isinstance(self.k, int) or self.k < 2 or self.s < 0:
            raise StepError(
                f"the trigger's k must be at least 2 and its s at least 0, got k = {self.k}, "
                f"s = {self.s}"
            )

    @functools.cached_property
    def grid(self) -> Tensor:
        """Source coordinates of each pixel: float64 ``[1, S, S, 2]``, x and y in [-1, 1]."""
        size = self.image_size
        field = generator_for(self.seed, "warped").uniform(-1, 1, (1, 2, self.k, self.k))
        field = torch.from_numpy(field / np.abs(field).mean())
        field = F.interpolate(field, size=size, mode="bicubic", align_corners=True)
        line = torch.linspace(-1, 1, size, dtype=torch.float64)
        y, x = torch.meshgrid(line, line, indexing="ij")
        identity = torch.stack((x, y), dim=-1)[None]
        return (identity + self.s * field.permute(0, 2, 3, 1) / size).clamp(-1, 1)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        # In float64, so that platform-dependent rounding does not affect the bytes.
        warped = F.grid_sample(image[None].double(), self.grid, align_corners=True)
        return warped[0].float()
