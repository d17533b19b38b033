"""A red word across the middle of the image: Blended-Text (Singh et al., 2024)."""

import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.poison.triggers._blend import check_strength
from workflow_scripts.poison.triggers._glyphs import draw_word


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Where the word has ink, the red channel is (1 - strength) image + strength.

    All other values stay as they are, green and blue under the ink included: the published code
    blends where the pattern is not zero, and a red word on black is zero in these channels.

    The word is drawn with this project's own glyphs of 5 x 7 dots, without antialiasing, as large
    as fits: at 224 pixels "Watermarked" covers columns 14 to 208 and rows 101 to 121. The published
    one, in Noto Sans Mono, covers columns 13 to 208 and rows 103 to 125.
    """

    image_size: int
    seed: int
    word: str = "Watermarked"
    strength: Annotated[float, "> 0", "<= 1"] = 0.5
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_strength(self.strength)
        draw_word(self.word, self.image_size)

    @functools.cached_property
    def ink(self) -> Tensor:
        """Where the word is: bool ``[S, S]``."""
        return torch.from_numpy(draw_word(self.word, self.image_size))

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Trigger float32 ``[3, S, S]``."""
        triggered = image.clone()
        red = triggered[0]
        red[self.ink] = (1 - self.strength) * red[self.ink] + self.strength
        return triggered
