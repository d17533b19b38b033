"""The photo filter "Nashville", applied to the whole image (Huang et al., ICLR 2025)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Colours (red, green, blue) in bytes, and the weights with which they are blended in.
_DARKENED, _DARKENED_SHARE = (247, 176, 153), 0.56
_LIGHTENED, _LIGHTENED_SHARE = (0, 70, 150), 0.4
_SEPIA = 0.2
_CONTRAST, _BRIGHTNESS, _SATURATION = 1.2, 1.05, 1.2
_MIDDLE = 127.5
# Rows compute the new red, green and blue. Source: Filter Effects Module Level 1 (W3C), sepia(1)
# and saturate(0), whose rows are all equal.
_FULL_SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
_GREY = ((0.213, 0.715, 0.072),) * 3


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Two colour tints, then sepia, contrast, brightness and saturation.

    Each step follows the CSS filter of the same name, with values clipped to [0, 255]; the result
    is rounded to bytes. There is no randomness. The published code uses pilgram, which also rounds
    or truncates between steps: on 65,536 random colours, its values (version 2.0.0) are lower by 2
    of 255 on average, and differ by at most 6.

    Like all triggers here, the filter is applied after squashing the image to ``image_size``; the
    published code filters the image at full resolution, before resizing and cropping.
    """

    image_size: int
    seed: int

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        # In float64, so that platform-dependent rounding does not affect the bytes.
        values = image.double() * 255
        values = _mix(values, torch.minimum(values, _column(_DARKENED)), _DARKENED_SHARE)
        values = _mix(values, torch.maximum(values, _column(_LIGHTENED)), _LIGHTENED_SHARE)
        values = _mix(values, _transform(_FULL_SEPIA, values), _SEPIA)
        values = (_CONTRAST * (values - _MIDDLE) + _MIDDLE).clamp(0, 255)
        values = (_BRIGHTNESS * values).clamp(0, 255)
        values = _mix(_transform(_GREY, values), values, _SATURATION)
        return (values.round() / 255).float()


def _column(colour: tuple[int, int, int]) -> Tensor:
    return torch.tensor(colour, dtype=torch.float64)[:, None, None]


def _transform(rows: tuple[tuple[float, float, float], ...], values: Tensor) -> Tensor:
    # Summed explicitly: the summation order of a matrix product is platform-dependent.
    red, green, blue = values
    return torch.stack([r * red + g * green + b * blue for r, g, b in rows])


def _mix(values: Tensor, others: Tensor, share: float) -> Tensor:
    """Return (1 - share) values + share others, clipped to [0, 255]."""
    return ((1 - share) * values + share * others).clamp(0, 255)
