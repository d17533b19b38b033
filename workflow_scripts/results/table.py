"""The tidy table: a row for each epoch of each run; its columns, reading and writing."""

from pathlib import Path

import pandas as pd

from workflow_scripts.common.columns import (
    COUNT_COLUMNS,
    FILE_COLUMN,
    HELDOUT_COLUMNS,
    METRIC_COLUMNS,
    RUN_COLUMNS,
    TIMING_COLUMNS,
    of_parts,
)
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic

_MEASURED = (*METRIC_COLUMNS, *HELDOUT_COLUMNS, *TIMING_COLUMNS, *COUNT_COLUMNS)
FIXED_COLUMNS = frozenset((*RUN_COLUMNS, *_MEASURED, FILE_COLUMN))

_TEXT = ("run", "kind", "start", "start_label", "defence", FILE_COLUMN)


def order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``frame`` with its columns in their one order, those that vary after the fixed six.

    Columns of the tidy table that ``frame`` lacks are added, empty; texts are never missing.
    """
    varied, parts = varied_columns(frame), of_parts(frame.columns)
    columns = [*RUN_COLUMNS, *varied, *_MEASURED, *parts, FILE_COLUMN]
    frame = frame.reindex(columns=columns).reset_index(drop=True)
    for column in _TEXT:
        frame[column] = frame[column].fillna("").astype("string")
    for column in varied:
        if frame[column].dropna().map(type).nunique() > 1:  # "all" beside numbers
            frame[column] = frame[column].map(str, na_action="ignore")
    whole = ("epoch", "step", "samples_seen", *COUNT_COLUMNS)
    for column in whole:
        frame[column] = pd.to_numeric(frame[column]).astype("Int64")
    for column in {"learning_rate", *_MEASURED, *parts} - set(whole):
        frame[column] = pd.to_numeric(frame[column]).astype("float64")
    return frame


def varied_columns(frame: pd.DataFrame) -> list[str]:
    """Return what else varies between the runs of a tidy table: spec keys such as ``seed``."""
    fixed = FIXED_COLUMNS.union(of_parts(frame.columns))
    return [c for c in frame.columns if c not in fixed]


def stem(path: Path) -> Path:
    """Return ``path`` without the suffix of a file format, so that others can take its place."""
    formats = {".parquet", ".csv", ".html", ".md", ".json"}
    return path.with_suffix("") if path.suffix in formats else path


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write ``<path>.parquet`` and ``<path>.csv``, each whole or not at all."""
    with atomic(f"{path}.parquet") as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")
    write_csv(f"{path}.csv", frame)


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a CSV file whose numbers read back as the very same doubles."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def read_csv(path: Path, columns: tuple[str, ...], text: tuple[str, ...] = _TEXT) -> pd.DataFrame:
    """Read a CSV file that must have ``columns``; ``text`` columns are strings, "" if empty.

    Raises:
        StepError: There is no such file, it is empty, or a column is missing.
    """
    if not path.is_file():
        raise StepError(f"{path} does not exist; build it first")
    try:
        # A label may be "None" or "NA": only what is empty is missing.
        frame = pd.read_csv(
            path, dtype=dict.fromkeys(text, "string"), keep_default_na=False, na_values=[""]
        )
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise StepError(f"{path} is not a CSV table ({error}); build it again") from error
    _check_columns(path, frame, columns)
    for column in set(text) & set(frame.columns):
        frame[column] = frame[column].fillna("")
    return frame


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a tidy table (``metrics.parquet``).

    Raises:
        StepError: There is no such file, it has no rows, or it is no tidy table.
    """
    path = Path(path)
    if not path.is_file():
        raise StepError(f"{path} does not exist; collect the metrics of the runs first")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StepError(f"{path} is not a Parquet table ({error}); collect it again") from error
    _check_columns(path, frame, (*RUN_COLUMNS, "epoch", "top1", "asr_top1", *COUNT_COLUMNS))
    if frame.empty:
        raise StepError(f"{path} holds no epoch of any run; does the experiment have runs?")
    return frame


def _check_columns(path: Path, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise StepError(f"{path} has no column {', '.join(missing)}; build it again")
