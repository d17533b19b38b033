"""A learned patch, the same for all images, e.g. that of BadCLIP (Liang et al., CVPR 2024)."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import decode_image
from workflow_scripts.poison.triggers._centre import PatchLocation, check_patch, put_patch


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Places the patch in the file ``patch`` at ``location``.

    ``patch`` is an artefact of the maker ``badclip_patch`` or your own file: an image, or
    safetensors with the array ``patch``, float32 ``[3, side, side]`` in [0, 1].
    ``channels: swapped`` exchanges red and blue, which were swapped when the published patch was
    stored.
    """

    reads_files: ClassVar[tuple[str, ...]] = ("patch",)

    image_size: int
    seed: int
    patch: str
    location: PatchLocation = "centre"
    channels: Literal["rgb", "swapped"] = "rgb"
    overflow: Literal["wrap", "clip"] = "clip"

    def __post_init__(self):
        check_patch(self.image_size, self.pixels.shape[-1], self.location)

    @functools.cached_property
    def pixels(self) -> Tensor:
        """The patch as applied, float32 ``[3, side, side]``.

        Raises:
            StepError: The file does not exist or does not contain a patch.
        """
        pixels = _read(Path(self.patch))
        if pixels.ndim != 3 or len(pixels) != 3 or pixels.shape[1] != pixels.shape[2]:
            raise StepError(
                f"the trigger's patch {self.patch} must have the shape [3, side, side], got "
                f"{list(pixels.shape)}"
            )
        return pixels.flip(0) if self.channels == "swapped" else pixels

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Apply the trigger to an image, float32 ``[3, S, S]``."""
        return put_patch(image, self.pixels, self.location, generator)


def _read(path: Path) -> Tensor:
    try:
        if path.suffix == ".safetensors":
            return torch.from_numpy(load_file(path)["patch"]).float()
        return decode_image(path.read_bytes()).float() / 255
    except OSError as error:
        raise StepError(f"the trigger's patch {path} cannot be read: {error.strerror}") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise StepError(f"the trigger's patch {path} is not a valid patch: {error}") from error
