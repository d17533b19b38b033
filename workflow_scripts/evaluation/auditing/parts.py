"""The results of an audit's parts: kept as they are made, and not made twice."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest, read_json, write_json

Part = dict[str, Any]

VERSION = 1
"""Raised when a probe's numbers would change: results of earlier versions are made again."""

_SIDE = 64  # pixels of a picture in a result


class Parts:
    """A folder with one JSON file for each result.

    A file's name has a digest of what the result depends on: the model's file, the images, the
    options. Two audits that share a folder share what they have in common.

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, probe: str, depends: Part) -> Path:
        """Return the file of a result."""
        return self.folder / f"{probe}-{digest([VERSION, probe, depends], 16)}.json"

    def has(self, probe: str, depends: Part) -> bool:
        """Return whether a result is there."""
        return self.path(probe, depends).is_file()

    def result(self, probe: str, depends: Part, make: Callable[[], Part]) -> Part:
        """Return a result; it is made, and written whole, if it is not there or is damaged.

        Args:
            probe: What was tried.
            depends: All that the result depends on.
            make: Makes it.
        """
        path = self.path(probe, depends)
        if path.is_file():
            try:
                found = read_json(path)
                if isinstance(found, dict) and found.get("depends") == depends:
                    return found["result"]
            except StepError:
                pass  # It is made again.
        made = make()
        write_json(path, {"probe": probe, "depends": depends, "result": made})
        return made


def png(image: Tensor) -> str:
    """Return an image, uint8 [3, H, W], as the base64 text of a small PNG."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    small = Image.fromarray(pixels)
    small.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
