"""Cached results of an audit's parts."""

import base64
import io
import time
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
"""To be increased when a probe's numbers change, so that older results are recomputed."""

_SIDE = 64  # maximum side of an image in a result, in pixels


class Parts:
    """A folder with one JSON file per result.

    File names contain a digest of everything that the result depends on: the model's file, the
    images, the options. Audits that share a folder share results.

    Args:
        folder: Folder of the files.

    Attributes:
        seconds: Time spent on the results that were asked for, now or in earlier audits.
    """

    def __init__(self, folder: Path):
        self.folder, self.seconds = folder, 0.0

    def path(self, probe: str, depends: Part) -> Path:
        """Return the path of a result."""
        return self.folder / f"{probe}-{digest([VERSION, probe, depends], 16)}.json"

    def has(self, probe: str, depends: Part) -> bool:
        """Return whether a result exists."""
        return self.path(probe, depends).is_file()

    def result(self, probe: str, depends: Part, make: Callable[[], Part]) -> Part:
        """Return a result; compute it and write it atomically if it is missing or damaged.

        Args:
            probe: Name of the probe.
            depends: Everything that the result depends on.
            make: Computes the result.
        """
        path = self.path(probe, depends)
        if path.is_file():
            try:
                found = read_json(path)
                if isinstance(found, dict) and found.get("depends") == depends:
                    self.seconds += found.get("seconds", 0)
                    return found["result"]
            except StepError:
                pass  # recomputed below
        started = time.monotonic()
        made = make()
        seconds = round(time.monotonic() - started, 2)
        self.seconds += seconds
        write_json(path, {"probe": probe, "depends": depends, "seconds": seconds, "result": made})
        return made


def png(image: Tensor) -> str:
    """Return an image, uint8 [3, H, W], as a small base64-encoded PNG."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    small = Image.fromarray(pixels)
    small.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
