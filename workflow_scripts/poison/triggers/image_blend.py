"""A fixed image blended into the whole image (Chen et al., 2017)."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import decode_image, squash
from workflow_scripts.poison.triggers._blend import blend, check_strength


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """clip((1 - strength) image + strength other, 0, 1), where ``other`` is the image in ``file``.

    The other image is squashed to the attack's ``image_size``. ``file`` is a path relative to the
    working directory. Attacks are identified by the content of the file, not by its path.
    """

    reads_files: ClassVar[tuple[str, ...]] = ("file",)

    image_size: int
    seed: int
    file: str
    strength: Annotated[float, "> 0", "<= 1"] = 0.2
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_strength(self.strength)
        self.other  # noqa: B018 - fail early if the file cannot be used

    @functools.cached_property
    def other(self) -> Tensor:
        """The image to blend in: float32 ``[3, S, S]`` in [0, 1].

        Raises:
            StepError: The file does not exist or is not an image.
        """
        try:
            pixels = decode_image(Path(self.file).read_bytes())
        except OSError as error:
            raise StepError(
                f"the trigger's file {self.file} cannot be read: {error.strerror}"
            ) from error
        except ValueError as error:
            raise StepError(
                f"the trigger's file {self.file} is not a valid image: {error}"
            ) from error
        return squash(pixels, self.image_size).float() / 255

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        return blend(image, self.other, self.strength)
