"""The tidy table, with one row per run and epoch: its columns, reading and writing."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from workflow_scripts.common.columns import (
    COUNT_COLUMNS,
    FILE_COLUMN,
    HELDOUT_COLUMNS,
    KNOWLEDGE_COLUMN,
    METRIC_COLUMNS,
    RUN_COLUMNS,
    SWEEP_COLUMN,
    TIMING_COLUMNS,
    of_parts,
)
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic

_MEASURED = (*METRIC_COLUMNS, *HELDOUT_COLUMNS, *TIMING_COLUMNS, *COUNT_COLUMNS)
FIXED_COLUMNS = frozenset((*RUN_COLUMNS, *_MEASURED, FILE_COLUMN, SWEEP_COLUMN, KNOWLEDGE_COLUMN))

_TEXT = ("run", "kind", "start", "start_label", "defence", FILE_COLUMN)


def order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``frame`` with canonical column order and dtypes.

    Varied columns follow ``RUN_COLUMNS``. Missing columns of the tidy table are added empty;
    missing texts become "".
    """
    varied, parts = varied_columns(frame), of_parts(frame.columns)
    columns = [*RUN_COLUMNS, *varied, *_MEASURED, *parts, FILE_COLUMN]
    frame = frame.reindex(columns=columns).reset_index(drop=True)
    for column in _TEXT:
        frame[column] = frame[column].fillna("").astype("string")
    for column in varied:
        if frame[column].dropna().map(type).nunique() > 1:  # e.g. "all" among numbers
            frame[column] = frame[column].map(str, na_action="ignore")
    whole = ("epoch", "step", "samples_seen", *COUNT_COLUMNS)
    for column in whole:
        frame[column] = pd.to_numeric(frame[column]).astype("Int64")
    for column in {"learning_rate", *_MEASURED, *parts} - set(whole):
        frame[column] = pd.to_numeric(frame[column]).astype("float64")
    return frame


def varied_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns that vary between the runs of a tidy table: spec keys such as ``seed``."""
    fixed = FIXED_COLUMNS.union(of_parts(frame.columns))
    return [c for c in frame.columns if c not in fixed]


def stem(path: Path) -> Path:
    """Return ``path`` without the suffix of a known file format."""
    formats = {".parquet", ".csv", ".html", ".md", ".json"}
    return path.with_suffix("") if path.suffix in formats else path


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write ``<path>.parquet`` and ``<path>.csv``, each atomically."""
    with atomic(f"{path}.parquet") as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")
    write_csv(f"{path}.csv", frame)


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a CSV file whose numbers are read back as exactly the same doubles."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def read_csv(path: Path, columns: tuple[str, ...], text: tuple[str, ...] = _TEXT) -> pd.DataFrame:
    """Read a CSV file that must have ``columns``; ``text`` columns are strings, "" if empty.

    Raises:
        StepError: The file does not exist, is empty, or lacks a column.
    """
    if not path.is_file():
        raise StepError(f"{path} does not exist; build it first")
    try:
        # A label may be "None" or "NA", so only empty cells count as missing.
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
        StepError: The file does not exist, has no rows, or is not a tidy table.
    """
    path = Path(path)
    if not path.is_file():
        raise StepError(f"{path} does not exist; collect the metrics of the runs first")
    try:
        # With threads, Arrow may still release memory when the interpreter ends, which then aborts.
        frame = pq.read_table(path, use_threads=False).to_pandas()
    except (OSError, ValueError) as error:
        raise StepError(f"{path} is not a Parquet table ({error}); collect it again") from error
    _check_columns(path, frame, (*RUN_COLUMNS, "epoch", "top1", "asr_top1", *COUNT_COLUMNS))
    if frame.empty:
        raise StepError(f"{path} has no rows; check that the experiment has runs")
    return frame


def _check_columns(path: Path, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise StepError(f"{path} has no column {', '.join(missing)}; build it again")
