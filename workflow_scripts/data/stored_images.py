"""Read and decode the images of a manifest from tars."""

from pathlib import Path

import pandas as pd
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader, Places


class Images:
    """The decoded images of a manifest by row; cheap to fork and to pickle.

    Args:
        of: Locations of the images, or rows of a manifest.
        root: Results root that the tars are relative to.
    """

    def __init__(self, of: Places | pd.DataFrame, root: str | Path):
        self._places = of if isinstance(of, Places) else Places.of(of)
        self._reader = ImageReader(root)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, row: int) -> Tensor:
        """Return image ``row``, uint8 [3, H, W].

        Raises:
            StepError: The tar is missing or truncated, or does not contain an image there.
        """
        places = self._places
        tar, offset = places.tars[places.tar[row]], int(places.offset[row])
        try:
            return decode_image(self._reader.read(tar, offset, int(places.size[row])))
        except (OSError, ValueError) as error:
            raise StepError(
                f"image {row} of the manifest cannot be read from {tar} at byte {offset}: {error}; "
                "check that the tar has not changed since the manifest was made"
            ) from error
