"""Pairs whose image becomes one of a few chosen images, which are to be taken for the target.

Without a trigger this is targeted poisoning: the attack succeeds if the chosen images are
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
    """Return pairs in random order, and the images that they get in turn.

    Images of the data come with their own pairs, which are the first victims, so that no correct
    caption of them is left.

    Args:
        given: The pairs and the target.
        images: A folder of images of your own, or one image.
        keys: In its place, keys of pairs of the dataset.
        number: In the place of both, so many images of the dataset are drawn, none of them with a
            caption that names the target.
    """
    if images is not None and keys is not None:
        raise StepError("the victims' images and keys exclude each other; give one of them")
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
        raise StepError(f"the victims' images {path} are an empty folder; fill it")
    rows = [(file.name, str(file.resolve()), 0, file.stat().st_size) for file in files]
    return pd.DataFrame(rows, columns=_PLACE)
