"""A picture of originals and their triggered versions, side by side, for people to look at."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workflow_scripts.common.files import atomic
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader

_PAIRS, _ACROSS = 12, 3
_WIDTH, _HEIGHT = 3.9, 2.5  # inches of a pair
_LINE = 46  # letters of a caption's line


def write_contact_sheet(
    path: Path, originals: pd.DataFrame, victims: pd.DataFrame, root: Path
) -> None:
    """Draw a dozen victims, evenly spread: image and caption before and after.

    Args:
        path: PNG to write.
        originals: Rows of the clean manifest.
        victims: The same rows of the poisoned one.
        root: Folder that their tars are relative to.
    """
    reader = ImageReader(root)
    shown = np.unique(np.linspace(0, len(victims) - 1, _PAIRS).astype(int)) if len(victims) else []
    down = max(1, -(-len(shown) // _ACROSS))
    figure = Figure(figsize=(_WIDTH * _ACROSS, _HEIGHT * down))
    for place, number in enumerate(shown):
        left, top = (place % _ACROSS) / _ACROSS, 1 - (place // _ACROSS) / down
        rows = (originals.iloc[number], victims.iloc[number])
        for half, (row, title) in enumerate(zip(rows, ("original", "triggered"), strict=True)):
            # Placed by hand: matplotlib's own layouts do not give the same bytes each time.
            box = (left + (0.04 + 0.47 * half) / _ACROSS, top - 0.79 / down)
            ax = figure.add_axes((*box, 0.45 / _ACROSS, 0.7 / down))
            image = decode_image(reader.read(row["tar"], row["offset"], row["size"]))
            ax.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            ax.set_title(title, fontsize=8, pad=2)
            ax.set_axis_off()
        before, after = (_short(row["caption"]) for row in rows)
        text = f"{before}\n→ {after}" if before != after else before
        figure.text(left + 0.5 / _ACROSS, top - 0.81 / down, text, ha="center", va="top", size=8)
    if not len(shown):
        figure.text(0.5, 0.5, "no pair is poisoned", ha="center")
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def _short(caption: str) -> str:
    # A dollar sign would start mathematics.
    return textwrap.shorten(caption, _LINE, placeholder=" …").replace("$", r"\$")
