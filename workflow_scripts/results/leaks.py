"""Leaks between the data sets, as the table of the best models states them."""

from pathlib import Path

import pandas as pd

from workflow_scripts.results.table import read_csv
from workflow_scripts.results.text import number_text

COLUMNS = ("start", "pairs", "originals_of_victims", "duplicates")


def read_leaks(path: Path) -> pd.DataFrame:
    """Read the counts of each start model, one row for each of its clean data sets.

    Returns:
        ``start`` (a run id), ``pairs`` of its clean data, the ``originals_of_victims`` among
        them, and ``duplicates``: evaluation images that are pre-training images too.

    Raises:
        StepError: There is no such file, or it has other columns.
    """
    return read_csv(path, COLUMNS, ("start",))


def originals_text(leaks: pd.DataFrame, start: str) -> str:
    """Return e.g. ``"12 of 100,000"``, a range where the clean data differ."""
    texts = []
    for pairs, own in leaks[leaks["start"] == start].groupby("pairs")["originals_of_victims"]:
        if own.isna().any():
            texts.append("unknown")
            continue
        low, high = int(own.min()), int(own.max())
        texts.append(f"{low:,}{f' to {high:,}' if high > low else ''} of {pairs:,}")
    return "; ".join(texts)


def duplicates_sentence(leaks: pd.DataFrame) -> str:
    """Return how many evaluation images are pre-training images too, in one sentence."""
    counts = " or ".join(number_text(n) for n in sorted(leaks["duplicates"].unique()))
    return f"Evaluation images that are among the pre-training images, byte for byte: {counts}."
