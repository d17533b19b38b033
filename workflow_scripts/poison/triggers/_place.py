"""Where a trigger goes: a patch at some places, or the whole image."""

import numpy as np
from torch import Tensor

from workflow_scripts.common.errors import StepError

PATCH_LOCATIONS = ("random", "four_corners")


def check_patch(image_size: int, patch_size: int, location: str) -> None:
    """Raise a StepError if such a patch has no place on the image."""
    if not isinstance(patch_size, int) or patch_size < 1:
        raise StepError(f"the trigger's patch_size has to be a number of pixels, not {patch_size}")
    if patch_size > image_size:
        raise StepError(
            f"the trigger is larger than the image: patch_size is {patch_size}, image_size only "
            f"{image_size} pixels; lower patch_size"
        )
    if location not in PATCH_LOCATIONS:
        raise StepError(
            f"the trigger's location {location!r} is none of {', '.join(PATCH_LOCATIONS)}"
        )


def check_whole(location: str) -> None:
    """Raise a StepError if a trigger that covers the whole image is to go elsewhere."""
    if location != "whole":
        raise StepError(
            f"the trigger's location {location!r} cannot be: it covers the whole image ('whole')"
        )


def put_patch(
    image: Tensor, patch: Tensor, location: str, generator: np.random.Generator
) -> Tensor:
    """Return a copy of ``image`` with ``patch`` at its place, or its places.

    A random place is uniform over 0 .. S - 1 - side, both ways: as published, the last row and
    the last column are never covered (unless the patch is as large as the image).

    Args:
        image: float32 ``[3, S, S]``.
        patch: float32 ``[3, side, side]``.
        location: One of ``PATCH_LOCATIONS``.
        generator: Draws the random place: first the row, then the column.
    """
    size, side = image.shape[-1], patch.shape[-1]
    if location == "random":
        row, column = generator.integers(0, max(1, size - side), 2)
        places = [(row, column)]
    else:
        far = size - side
        places = [(0, 0), (0, far), (far, 0), (far, far)]
    image = image.clone()
    for row, column in places:
        image[:, row : row + side, column : column + side] = patch
    return image
