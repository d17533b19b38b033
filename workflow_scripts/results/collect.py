"""Collect the metrics of an experiment's runs, or of several experiments, into one tidy table.

Inputs  <R>/experiments/<experiment>/runs.csv and each run's metrics.csv, timings.csv, run.json;
        or the metrics.parquet of several experiments.
Outputs <output>.parquet and <output>.csv: one row per run, start model and epoch; for a single
        experiment also <output>_long.parquet and .csv: one row per run, epoch and number.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from workflow_scripts.common.columns import FILE_COLUMN
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json
from workflow_scripts.results.long import OF_EPOCH, long_of, wide_of
from workflow_scripts.results.table import (
    COUNT_COLUMNS,
    METRIC_COLUMNS,
    RUN_COLUMNS,
    TIMING_COLUMNS,
    order,
    read_csv,
    read_table,
    stem,
    write_table,
)

_KINDS = ("pretraining", "cleaning", "baseline")


def collect(runs: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tidy table and the long table of ``runs``.

    Args:
        runs: One row per run: the columns ``RUN_COLUMNS``, one column per varied key, and
            ``folder``, where the run's results are. A clean control may have several rows: as a
            start model, and as the baseline of several start models.
        root: The results; folders are relative to it.

    Raises:
        StepError: There are no runs, some have no results yet, or results are malformed.
    """
    if runs.empty:
        raise StepError("the experiment has no runs; check its declaration in the config")
    duplicated = runs.loc[runs.duplicated(["run", "kind", "start"]), "run"].unique()
    if len(duplicated):
        raise StepError(f"run {duplicated[0]} is duplicated in the run table; keep one row per run")
    unknown = sorted(set(runs["kind"]) - set(_KINDS))
    if unknown:
        raise StepError(f"unknown kind of run {unknown[0]!r} (available: {', '.join(_KINDS)})")
    _check_present(runs, root)
    # Several models may be taken from one run; each folder has the epochs up to its model.
    folders = dict(zip(runs["folder"], runs["run"], strict=True))
    epochs = [_epochs(run, root, folder) for folder, run in tqdm(folders.items(), mininterval=5)]
    wide, long = zip(*epochs, strict=True)
    table = runs.merge(pd.concat(wide), on=["run", "folder"])
    # Models taken from the same run share their first epochs.
    return order(table.drop(columns="folder")), pd.concat(long).drop_duplicates(ignore_index=True)


def _check_present(runs: pd.DataFrame, root: Path) -> None:
    names = ("metrics.csv", "timings.csv", "run.json")
    files = [root / folder / name for folder in runs["folder"] for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise StepError(
            f"{len(missing)} files of runs are missing, starting with {missing[0]}; "
            "finish these runs before collecting them"
        )


def _epochs(run: str, root: Path, place: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a run in the wide table and in the long table."""
    folder = root / place
    metrics = read_csv(folder / "metrics.csv", ("run", *METRIC_COLUMNS), ("run",))
    timings = read_csv(folder / "timings.csv", ("run", "epoch", *TIMING_COLUMNS), ("run",))
    if metrics.empty:
        raise StepError(f"{folder / 'metrics.csv'} contains no epoch; repeat run {run}")
    if set(metrics["run"]) != {run}:
        raise StepError(f"{folder / 'metrics.csv'} does not belong to run {run}; repeat the run")
    if metrics["epoch"].duplicated().any():
        raise StepError(f"{folder / 'metrics.csv'} contains a duplicated epoch; repeat run {run}")
    timings = timings[["epoch", *TIMING_COLUMNS]].drop_duplicates("epoch", keep="last")
    record = read_json(folder / "run.json")
    counts, kept = _counts(record, folder / "run.json"), _model_files(record)
    present = {e: f"{place}/{file}" for e, file in kept.items() if (folder / file).is_file()}
    long = long_of(folder, metrics, counts)
    wide = metrics[["run", "epoch", *OF_EPOCH]]
    wide = wide.merge(wide_of(long), on=["run", "epoch"], how="left")
    files = {FILE_COLUMN: metrics["epoch"].map(present)}
    wide = wide.merge(timings, on="epoch", how="left").assign(folder=place, **counts, **files)
    return wide, long


def _model_files(record: dict[str, Any]) -> dict[int, str]:
    """Return the epochs whose models a run kept, each with its file in the run's folder."""
    # Runs made by older code kept only the last model.
    kept = {entry["epoch"]: entry["file"] for entry in record.get("kept", []) if entry["file"]}
    return kept | {record["epoch"]: "model.pt"} if "epoch" in record else kept


def _counts(record: dict[str, Any], path: Path) -> dict[str, int]:
    try:
        evaluation = record["evaluation"]
        return {name: int(evaluation[name]) for name in COUNT_COLUMNS}
    except (KeyError, TypeError, ValueError) as error:
        raise StepError(
            f"{path} lacks the numbers of evaluation images (evaluation: images, asr_images); "
            "repeat the run"
        ) from error


def combine(experiments: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one tidy table of all experiments, without duplicates.

    A run has several rows per epoch if it is, say, the clean control of several start models. The
    column ``experiments`` lists all experiments that share the row. Columns that vary in one
    experiment only are empty for the runs of the others.
    """
    tables = [t.assign(experiments=name) for name, t in experiments.items()]
    table = pd.concat(tables, ignore_index=True)
    same = table.groupby(["run", "kind", "start", "epoch"], sort=False)
    names = same["experiments"].agg(_joined)
    # first() skips missing values, so no experiment hides the values of another.
    together = same.first()
    return order(together.assign(experiments=names).reset_index())


def _joined(names: pd.Series) -> str:
    return ", ".join(names.unique())


def main(arguments: list[str] | None = None) -> None:
    """Write the tidy table of one experiment, or of several."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--runs", type=Path, help="runs.csv of one experiment")
    source.add_argument(
        "--experiments", type=Path, nargs="+", metavar="METRICS_PARQUET",
        help="tables to combine; each is named after its folder",
    )  # fmt: skip
    parser.add_argument(
        "--root", type=Path, default=Path(), help="results; folders in runs.csv are relative to it"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="output path, with or without a suffix"
    )
    options = parser.parse_args(arguments)
    if options.runs:
        runs = read_csv(options.runs, (*RUN_COLUMNS, "folder"))
        table, long = collect(runs, options.root)
        write_table(Path(f"{stem(options.output)}_long"), long)
    else:
        table = combine({path.parent.name: read_table(path) for path in options.experiments})
    write_table(stem(options.output), table)


if __name__ == "__main__":
    run_step(main)
