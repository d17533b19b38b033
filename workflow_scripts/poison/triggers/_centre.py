"""Where a patch goes, the centre included.

Apart from ``_place``, because a change there would have everything poisoned with it poisoned again.
"""

from typing import Literal, get_args

import numpy as np
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.poison.triggers import _place

PatchLocation = Literal["random", "four_corners", "centre"]


def check_patch(image_size: int, patch_size: int, location: str) -> None:
    """Raise a StepError if such a patch has no place on the image."""
    if location not in get_args(PatchLocation):
        raise StepError(
            f"the trigger's location {location!r} is none of {', '.join(get_args(PatchLocation))}"
        )
    _place.check_patch(image_size, patch_size, _place.PATCH_LOCATIONS[0])


def put_patch(
    image: Tensor, patch: Tensor, location: str, generator: np.random.Generator
) -> Tensor:
    """Return a copy of ``image`` with ``patch`` at its place, or its places.

    Args:
        image: float32 ``[3, S, S]``.
        patch: float32 ``[3, side, side]``.
        location: One of ``PatchLocation``.
        generator: Draws the random place.
    """
    if location != "centre":
        return _place.put_patch(image, patch, location, generator)
    side = patch.shape[-1]
    first = (image.shape[-1] - side) // 2
    image = image.clone()
    image[:, first : first + side, first : first + side] = patch
    return image
