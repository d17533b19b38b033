"""Where a square patch goes."""

import numpy as np
from torch import Tensor

from workflow_scripts.common.errors import StepError

LOCATIONS = ("random", "four_corners")


def check_patch(location: str, patch_size: int, image_size: int) -> None:
    """Refuse a location that there is not, and a patch that does not fit.

    Raises:
        StepError: Either of the two.
    """
    if location not in LOCATIONS:
        raise StepError(f"a patch has no location {location!r}; there are {', '.join(LOCATIONS)}")
    if not 0 < patch_size < image_size:
        raise StepError(
            f"a trigger of {patch_size} pixels does not fit an image of {image_size}; "
            "set the trigger's patch_size"
        )


def place(image: Tensor, patch: Tensor, location: str, generator: np.random.Generator) -> Tensor:
    """Return a copy of the image with the patch in it.

    Args:
        image: float32 [3, S, S].
        patch: float32 [3, side, side].
        location: ``random`` is uniform over 0 .. S - 1 - side, down and across.
        generator: Says where, if the place is random.
    """
    side, last = patch.shape[-1], image.shape[-1] - patch.shape[-1]
    if location == "random":
        corners = [generator.integers(0, last, size=2).tolist()]
    else:
        corners = [(0, 0), (0, last), (last, 0), (last, last)]
    image = image.clone()
    for top, left in corners:
        image[:, top : top + side, left : left + side] = patch
    return image
