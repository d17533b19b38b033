"""Placement of triggers: patches at given or random locations, or the whole image."""

import numpy as np
from torch import Tensor

from workflow_scripts.common.errors import StepError

PATCH_LOCATIONS = ("random", "four_corners")


def check_patch(image_size: int, patch_size: int, location: str) -> None:
    """Raise a StepError if the patch does not fit the image or the location is unknown."""
    if not isinstance(patch_size, int) or patch_size < 1:
        raise StepError(
            f"the trigger's patch_size must be a positive whole number, got {patch_size!r}"
        )
    if patch_size > image_size:
        raise StepError(
            f"the trigger is larger than the image: patch_size is {patch_size}, image_size only "
            f"{image_size} pixels; lower patch_size"
        )
    if location not in PATCH_LOCATIONS:
        raise StepError(
            f"unknown location {location!r} of the trigger (available: "
            f"{', '.join(PATCH_LOCATIONS)})"
        )


def check_whole(location: str) -> None:
    """Raise a StepError unless ``location`` is ``whole``, for triggers that cover the image."""
    if location != "whole":
        raise StepError(
            f"the trigger covers the whole image, so its location must be 'whole', got {location!r}"
        )


def put_patch(
    image: Tensor, patch: Tensor, location: str, generator: np.random.Generator
) -> Tensor:
    """Return a copy of ``image`` with ``patch`` at one or several locations.

    Random row and column offsets are uniform over 0 .. S - 1 - side: as in the published code, the
    last row and column are never covered (unless the patch is as large as the image).

    Args:
        image: float32 ``[3, S, S]``.
        patch: float32 ``[3, side, side]``.
        location: One of ``PATCH_LOCATIONS``.
        generator: Used to draw a random location, first the row, then the column.
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
