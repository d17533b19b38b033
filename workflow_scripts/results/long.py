"""The long table: one row per number measured after an epoch of a run.

Wide tables, such as an experiment's ``metrics.parquet``, are views of it. ``measure`` is
``EVALUATION`` for the metrics that every run has, otherwise the id of a measure that the run
takes after each epoch; ``of`` is the number of images or texts behind a share.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from workflow_scripts.common.columns import (
    HELDOUT_COLUMNS,
    LONG_COLUMNS,
    METRIC_COLUMNS,
    of_parts,
)
from workflow_scripts.results.table import read_csv

EVALUATION = "evaluation"
OF_EPOCH = ("step", "samples_seen", "train_loss")
"""Columns of ``metrics.csv`` that are not evaluation results."""
_SCORES = [c for c in (*METRIC_COLUMNS, *HELDOUT_COLUMNS) if c not in ("epoch", *OF_EPOCH)]


def long_of(folder: Path, metrics: pd.DataFrame, counts: Mapping[str, int]) -> pd.DataFrame:
    """Return the rows of one run, with the columns ``LONG_COLUMNS``.

    Args:
        folder: The run's folder, with ``measures.csv`` if it takes measures after each epoch.
        metrics: The contents of its ``metrics.csv``.
        counts: Numbers of ``images`` and ``asr_images`` behind its shares.
    """
    names = [c for c in metrics.columns if c not in ("run", "epoch", *OF_EPOCH)]
    scores = metrics.melt(["run", "epoch"], names, "name", "value").dropna(subset=["value"])
    of = {name: counts["images" if name.startswith("top") else "asr_images"]
          for name in _SCORES if name not in HELDOUT_COLUMNS}  # fmt: skip
    scores = scores.assign(measure=EVALUATION, of=scores["name"].map(of))
    scores = scores.sort_values("epoch", kind="stable")
    path, parts = folder / "measures.csv", [scores]
    if path.is_file():
        # Reading the numbers as text first preserves the exact doubles.
        parts.append(read_csv(path, LONG_COLUMNS, ("run", "measure", "name", "value")))
    table = pd.concat(parts, ignore_index=True)
    return table[list(LONG_COLUMNS)].astype({"value": "float64", "of": "Int64"})


def wide_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run and epoch, with the metrics that every run has as columns."""
    evaluated = table[table["measure"] == EVALUATION]
    columns = [*_SCORES, *of_parts(dict.fromkeys(evaluated["name"]))]
    wide = evaluated.pivot(index=["run", "epoch"], columns="name", values="value")
    return wide.reindex(columns=columns).rename_axis(columns=None).reset_index()
