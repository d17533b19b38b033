"""Collect the metrics of an experiment's runs, or of several experiments, into one tidy table.

Needs   <R>/experiments/<experiment>/runs.csv and each run's metrics.csv, timings.csv, run.json;
        or the metrics.parquet of several experiments.
Makes   <output>.parquet and <output>.csv: a row for each epoch of each run; of one experiment also
        <output>_long.parquet and .csv: a row for each number of each epoch of each run.
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
    """Return the tidy table of ``runs``, and the long one.

    Args:
        runs: A row for each run: the columns of ``RUN_COLUMNS``, one for each further thing
            that varies, and ``folder``, where the run's results are. A clean control may have
            several rows: as a start model, and as the baseline of several start models.
        root: The results, which the folders are relative to.

    Raises:
        StepError: There are no runs, some have no results yet, or results are broken.
    """
    if runs.empty:
        raise StepError("the experiment has no runs; check its declaration in the config")
    twice = runs.loc[runs.duplicated(["run", "kind", "start"]), "run"].unique()
    if len(twice):
        raise StepError(f"run {twice[0]} is listed more than once; keep one row for each run")
    unknown = sorted(set(runs["kind"]) - set(_KINDS))
    if unknown:
        raise StepError(f"a run is of kind {unknown[0]!r}; it must be {', '.join(_KINDS)}")
    _check_there(runs, root)
    # Several models may be taken of one run, each with the epochs up to it in its folder.
    folders = dict(zip(runs["folder"], runs["run"], strict=True))
    epochs = [_epochs(run, root, folder) for folder, run in tqdm(folders.items(), mininterval=5)]
    wide, long = zip(*epochs, strict=True)
    table = runs.merge(pd.concat(wide), on=["run", "folder"])
    # The models taken of a run have their first epochs in common.
    return order(table.drop(columns="folder")), pd.concat(long).drop_duplicates(ignore_index=True)


def _check_there(runs: pd.DataFrame, root: Path) -> None:
    names = ("metrics.csv", "timings.csv", "run.json")
    files = [root / folder / name for folder in runs["folder"] for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise StepError(
            f"{len(missing)} results of runs are missing, {missing[0]} the first; "
            "build these runs before collecting them"
        )


def _epochs(run: str, root: Path, place: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a run in the wide table and in the long one."""
    folder = root / place
    metrics = read_csv(folder / "metrics.csv", ("run", *METRIC_COLUMNS), ("run",))
    timings = read_csv(folder / "timings.csv", ("run", "epoch", *TIMING_COLUMNS), ("run",))
    if metrics.empty:
        raise StepError(f"{folder / 'metrics.csv'} holds no epoch; run {run} again")
    if set(metrics["run"]) != {run}:
        raise StepError(f"{folder / 'metrics.csv'} is of another run than {run}; run it again")
    if metrics["epoch"].duplicated().any():
        raise StepError(f"{folder / 'metrics.csv'} holds an epoch twice; run {run} again")
    timings = timings[["epoch", *TIMING_COLUMNS]].drop_duplicates("epoch", keep="last")
    record = read_json(folder / "run.json")
    counts, kept = _counts(record, folder / "run.json"), _model_files(record)
    there = {e: f"{place}/{file}" for e, file in kept.items() if (folder / file).is_file()}
    long = long_of(folder, metrics, counts)
    wide = metrics[["run", "epoch", *OF_EPOCH]]
    wide = wide.merge(wide_of(long), on=["run", "epoch"], how="left")
    files = {FILE_COLUMN: metrics["epoch"].map(there)}
    wide = wide.merge(timings, on="epoch", how="left").assign(folder=place, **counts, **files)
    return wide, long


def _model_files(record: dict[str, Any]) -> dict[int, str]:
    """Return the epochs whose models a run left, each with its file in the run's folder."""
    # Runs of earlier code kept the last model alone.
    kept = {entry["epoch"]: entry["file"] for entry in record.get("kept", []) if entry["file"]}
    return kept | {record["epoch"]: "model.pt"} if "epoch" in record else kept


def _counts(record: dict[str, Any], path: Path) -> dict[str, int]:
    try:
        evaluation = record["evaluation"]
        return {name: int(evaluation[name]) for name in COUNT_COLUMNS}
    except (KeyError, TypeError, ValueError) as error:
        raise StepError(
            f"{path} does not say how many images were evaluated (evaluation: images, "
            "asr_images); run it again"
        ) from error


def combine(experiments: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one tidy table of all experiments, each run in it once.

    The column ``experiments`` names all those that share the run. What varies in one
    experiment alone is empty for the runs of the others.
    """
    tables = [t.assign(experiments=name) for name, t in experiments.items()]
    table = pd.concat(tables, ignore_index=True)
    names = table.groupby(["run", "epoch"], sort=False)["experiments"].agg(_joined)
    # first() takes a column's first value that is there, so that no experiment hides another's.
    together = table.groupby(["run", "epoch"], sort=False).first()
    return order(together.assign(experiments=names).reset_index())


def _joined(names: pd.Series) -> str:
    return ", ".join(names.unique())


def main(arguments: list[str] | None = None) -> None:
    """Write the tidy table of one experiment, or of several."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--runs", type=Path, help="runs.csv of one experiment")
    what.add_argument(
        "--experiments", type=Path, nargs="+", metavar="METRICS_PARQUET",
        help="tables to combine; each is named after the folder that it is in",
    )  # fmt: skip
    parser.add_argument(
        "--root", type=Path, default=Path(), help="results that folders in runs.csv are relative to"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="metrics, with or without its suffix"
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
