"""The images of a manifest, read by their place in tars."""

from pathlib import Path

import pandas as pd
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader, Places


class Images:
    """The images of a manifest, by row; cheap to fork and to pickle.

    Args:
        of: Where they lie, or rows of a manifest.
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
            StepError: The tar is missing or cut short, or what stands there is no image.
        """
        at = self._places
        place = (at.tars[at.tar[row]], int(at.offset[row]), int(at.size[row]))
        try:
            return decode_image(self._reader.read(*place))
        except (OSError, ValueError) as error:
            raise StepError(
                f"image {row} of the manifest cannot be read from {place[0]} at byte {place[1]}: "
                f"{error}; was the tar changed after the manifest was made?"
            ) from error
