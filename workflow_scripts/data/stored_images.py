"""The images of a manifest, read by their place in tars."""

from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader


class Images:
    """The images of a manifest, by row; cheap to fork and to pickle."""

    def __init__(self, frame: pd.DataFrame, root: str | Path):
        codes, self._names = pd.factorize(frame["tar"])
        self._names = [str(name) for name in self._names]
        self._tars = codes.astype(np.int32)
        self._offsets = frame["offset"].to_numpy(np.int64)
        self._sizes = frame["size"].to_numpy(np.int64)
        self._reader = ImageReader(root)

    def __len__(self) -> int:
        return len(self._tars)

    def __getitem__(self, row: int) -> Tensor:
        """Return image ``row``, uint8 [3, H, W].

        Raises:
            StepError: The tar is missing or cut short, or what stands there is no image.
        """
        place = (self._names[self._tars[row]], int(self._offsets[row]), int(self._sizes[row]))
        try:
            return decode_image(self._reader.read(*place))
        except (OSError, ValueError) as error:
            raise StepError(
                f"image {row} of the manifest cannot be read from {place[0]} at byte {place[1]}: "
                f"{error}; was the tar changed after the manifest was made?"
            ) from error
