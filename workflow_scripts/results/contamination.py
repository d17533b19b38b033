"""Contamination between the data sets, as reported by the table of best models."""

from pathlib import Path

import pandas as pd

from workflow_scripts.results.formatting import number_text
from workflow_scripts.results.table import read_csv

COLUMNS = ("start", "pairs", "originals_of_victims", "duplicates")


def read_contamination(path: Path) -> pd.DataFrame:
    """Read the counts of each start model, one row per clean split.

    Returns:
        ``start`` (a run id), the number of ``pairs`` in the split, of ``originals_of_victims``
        among them, and ``duplicates``: evaluation images that are also pre-training images.

    Raises:
        StepError: The file does not exist or lacks a column.
    """
    return read_csv(path, COLUMNS, ("start",))


def originals_text(leaks: pd.DataFrame, start: str) -> str:
    """Return e.g. ``"12 of 100,000"``, or a range if the clean splits differ."""
    texts = []
    for pairs, own in leaks[leaks["start"] == start].groupby("pairs")["originals_of_victims"]:
        if own.isna().any():
            texts.append("unknown")
            continue
        low, high = int(own.min()), int(own.max())
        texts.append(f"{low:,}{f' to {high:,}' if high > low else ''} of {pairs:,}")
    return "; ".join(texts)


def duplicates_sentence(leaks: pd.DataFrame) -> str:
    """Return a sentence with the number of evaluation images that are pre-training images."""
    counts = " or ".join(number_text(n) for n in sorted(leaks["duplicates"].unique()))
    return f"Evaluation images that are byte-identical to a pre-training image: {counts}."
