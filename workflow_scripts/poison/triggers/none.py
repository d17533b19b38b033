"""No trigger: images are unchanged, for attacks on instances, on concepts or by swapped names.

The original bytes of the images are stored, without resizing or re-encoding.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Leaves images unchanged."""

    image_size: int
    seed: int
    overflow: Literal["clip"] = "clip"

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Return float32 ``[3, S, S]`` unchanged."""
        return image
