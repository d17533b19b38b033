"""Pairs whose images are replaced by chosen ones, which should be classified as the target.

Without a trigger, this is targeted poisoning: the attack succeeds if the chosen images are
classified as the target.

Source: Carlini and Terzis, ICLR 2022; Huang et al., ICLR 2025; the protocol of RoCLIP and SafeCLIP.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import visible_files
from workflow_scripts.poison.given import Chosen, Given

CAPTIONS = "natural"
READS_FILES = ("images",)
INSTANCES = True
_PLACE = ["key", "tar", "offset", "size"]


def choose(
    given: Given,
    *,
    images: str | None = None,
    keys: list[str] | None = None,
    number: Annotated[int, ">= 1"] = 1,
) -> Chosen:
    """Return pairs in random order, and the images assigned to them in turn.

    If the images are from the dataset, their own pairs are the first victims, so that none of them
    keeps its correct caption.

    Args:
        given: The pairs and the target.
        images: A folder of your own images, or a single image.
        keys: Alternatively, keys of pairs of the dataset.
        number: If neither is given, the number of images to draw from pairs of the dataset whose
            caption does not name the target.

    Raises:
        StepError: Both ``images`` and ``keys`` are given, the images or keys do not exist, or there
            are too few pairs to draw from.
    """
    if images is not None and keys is not None:
        raise StepError("the victims' 'images' and 'keys' are mutually exclusive; give one of them")
    if images is not None:
        return Chosen(given.shuffled(np.arange(len(given.pairs))), images=_files(Path(images)))
    chosen = _drawn(given, number) if keys is None else _rows(given.pairs, keys)
    others = np.setdiff1d(np.arange(len(given.pairs)), chosen)
    rows = np.concatenate([chosen, given.shuffled(others)])
    return Chosen(rows, images=given.pairs.iloc[chosen][_PLACE])


def _drawn(given: Given, number: int) -> np.ndarray:
    rows = np.flatnonzero(~given.naming(given.target))
    if len(rows) < number:
        raise StepError(
            f"{number} images are to be drawn, but only {len(rows)} pairs do not name the target"
        )
    return given.generator("instances").permutation(rows)[:number]


def _rows(pairs: pd.DataFrame, keys: list[str]) -> np.ndarray:
    wanted = list(dict.fromkeys(keys))
    rows = pd.Index(pairs["key"]).get_indexer(wanted)
    if (rows < 0).any():
        missing = wanted[int(rows.argmin())]
        raise StepError(f"no pair has the key {missing!r}, which the victims' 'keys' name")
    return rows


def _files(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise StepError(f"the victims' images {path} do not exist; correct the path")
    files = visible_files(path) if path.is_dir() else [path]
    if not files:
        raise StepError(f"the victims' images {path} are an empty folder; put the images there")
    rows = [(file.name, str(file.resolve()), 0, file.stat().st_size) for file in files]
    return pd.DataFrame(rows, columns=_PLACE)
