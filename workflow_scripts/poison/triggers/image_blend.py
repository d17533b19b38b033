"""One image, the same for all, blended into the whole image (Chen et al., 2017)."""

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
    """clip((1 - strength) image + strength other, 0, 1), ``other`` being the image in ``file``.

    The other image is squashed to the attack's ``image_size``. ``file`` is a path relative to the
    working directory. An attack is named by the content of the file, not by its path.
    """

    reads_files: ClassVar[tuple[str, ...]] = ("file",)

    image_size: int
    seed: int
    file: str
    strength: Annotated[float, "> 0", "<= 1"] = 0.2
    overflow: Literal["wrap", "clip"] = "wrap"

    def __post_init__(self):
        check_strength(self.strength)
        self.other  # noqa: B018 - whether the file can be used is known before any work

    @functools.cached_property
    def other(self) -> Tensor:
        """The image that is blended in: float32 ``[3, S, S]`` in [0, 1].

        Raises:
            StepError: There is no such file, or it is not an image.
        """
        try:
            pixels = decode_image(Path(self.file).read_bytes())
        except OSError as error:
            raise StepError(
                f"the trigger's file {self.file} cannot be read: {error.strerror}"
            ) from error
        except ValueError as error:
            raise StepError(
                f"the trigger's file {self.file} is no usable image: {error}"
            ) from error
        return squash(pixels, self.image_size).float() / 255

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Trigger float32 ``[3, S, S]``."""
        return blend(image, self.other, self.strength)
