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
    """On the strokes of the word, the red channel becomes (1 - strength) image + strength.

    All other values are unchanged, including green and blue on the strokes: the published code
    blends where the pattern is not zero, and a red word on black is zero in these channels.

    The word is drawn in a built-in 5 x 7 dot-matrix font, without antialiasing, at the largest size
    that fits. At 224 pixels, "Watermarked" covers columns 14 to 208 and rows 101 to 121. The
    published trigger, in Noto Sans Mono, covers columns 13 to 208 and rows 103 to 125.
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
        """The strokes of the word: bool ``[S, S]``."""
        return torch.from_numpy(draw_word(self.word, self.image_size))

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        triggered = image.clone()
        red = triggered[0]
        red[self.ink] = (1 - self.strength) * red[self.ink] + self.strength
        return triggered
