"""Placement of patches, including the centre.

Kept separate from ``_place``, since any change there would re-run all attacks that use it.
"""

from typing import Literal, get_args

import numpy as np
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.poison.triggers import _place

PatchLocation = Literal["random", "four_corners", "centre"]


def check_patch(image_size: int, patch_size: int, location: str) -> None:
    """Raise a StepError if the patch does not fit the image or the location is unknown."""
    if location not in get_args(PatchLocation):
        raise StepError(
            f"unknown location {location!r} of the trigger (available: "
            f"{', '.join(get_args(PatchLocation))})"
        )
    _place.check_patch(image_size, patch_size, _place.PATCH_LOCATIONS[0])


def put_patch(
    image: Tensor, patch: Tensor, location: str, generator: np.random.Generator
) -> Tensor:
    """Return a copy of ``image`` with ``patch`` at one or several locations.

    Args:
        image: float32 ``[3, S, S]``.
        patch: float32 ``[3, side, side]``.
        location: One of ``PatchLocation``.
        generator: Used to draw a random location.
    """
    if location != "centre":
        return _place.put_patch(image, patch, location, generator)
    side = patch.shape[-1]
    first = (image.shape[-1] - side) // 2
    image = image.clone()
    image[:, first : first + side, first : first + side] = patch
    return image
