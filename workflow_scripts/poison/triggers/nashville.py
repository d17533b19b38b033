"""The photo filter "Nashville" over the whole image, as a trigger (Huang et al., ICLR 2025)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Colours (red, green, blue) in bytes, and the share with which they are mixed in.
_DARKENED, _DARKENED_SHARE = (247, 176, 153), 0.56
_LIGHTENED, _LIGHTENED_SHARE = (0, 70, 150), 0.4
_SEPIA = 0.2
_CONTRAST, _BRIGHTNESS, _SATURATION = 1.2, 1.05, 1.2
_MIDDLE = 127.5
# Rows give the new red, green and blue. Source: Filter Effects Module Level 1 (W3C), of sepia(1)
# and of saturate(0), whose rows are all the same.
_FULL_SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
_GREY = ((0.213, 0.715, 0.072),) * 3


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Tints of two colours, then sepia, contrast, brightness and saturation.

    Each step is that of CSS of the same name, with its values clipped to [0, 255]; the result is
    rounded to whole bytes. There is no randomness. pilgram, which the published code uses, also
    rounds or truncates between the steps: on 65,536 random colours its values (version 2.0.0) are
    lower by 2 of 255 on average, and differ by 6 at most.

    The filter is applied to the image squashed to ``image_size``, as all triggers here; the
    published code filters the image at its full resolution, before it is resized and cropped.
    """

    image_size: int
    seed: int

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Trigger float32 ``[3, S, S]``."""
        # In float64, so that what is rounded differently elsewhere does not reach the bytes.
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
    # Added one by one: a matrix product may add in another order elsewhere.
    red, green, blue = values
    return torch.stack([r * red + g * green + b * blue for r, g, b in rows])


def _mix(values: Tensor, others: Tensor, share: float) -> Tensor:
    """Return (1 - share) values + share others, clipped to [0, 255]."""
    return ((1 - share) * values + share * others).clamp(0, 255)
