"""WaNet: the image warped by a fixed smooth random field (Nguyen and Tran, 2021)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.common.seeds import generator as seeded


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One field for all images, drawn from the attack's seed.

    Attributes:
        grid: k, the number of control points along a side; as published, the image's 224.
        strength: s, the mean displacement of a control point, in pixels at ``grid`` = S.
    """

    image_size: int
    seed: int
    grid: int | None = None
    strength: float = 0.6

    @cached_property
    def field(self) -> Tensor:
        """Where each pixel comes from: float32 [1, S, S, 2] in [-1, 1], as grid_sample takes it."""
        size, k = self.image_size, self.grid or self.image_size
        shifts = torch.from_numpy(
            seeded(self.seed, "warped").uniform(-1, 1, (1, 2, k, k)).astype(np.float32)
        )
        shifts = shifts / shifts.abs().mean()
        shifts = F.interpolate(shifts, size=size, mode="bicubic", align_corners=True)
        line = torch.linspace(-1, 1, size)
        rows, columns = torch.meshgrid(line, line, indexing="ij")
        identity = torch.stack([columns, rows], dim=-1)[None]
        return (identity + self.strength * shifts.permute(0, 2, 3, 1) / size).clamp(-1, 1)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Return the float32 [3, S, S] image, triggered; nothing of it differs by image."""
        return F.grid_sample(image[None], self.field, align_corners=True)[0]
