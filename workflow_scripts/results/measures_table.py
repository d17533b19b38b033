"""Collect the measures of an experiment's models into one table.

Inputs  RUNS       the experiment's runs.csv
        DECLARED   CSV: run, kind, start, measure, folder, id; one row per model and measure
        <R>/measures/<folder>/<id>.csv for each of its rows
Outputs OUTPUT     CSV: the columns of RUNS, then measure, name, value, of, low, high, model_sha256
        OUTPUT with the suffix .html: the same numbers formatted, one table per measure

``low`` and ``high`` are the 95 % interval (binomial) of a share; they are empty for other numbers.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic
from workflow_scripts.common.intervals import binomial
from workflow_scripts.results.formatting import column_text, interval_text, value_text
from workflow_scripts.results.page import tables_page
from workflow_scripts.results.table import RUN_COLUMNS, read_csv, stem, varied_columns, write_csv

_DECLARED = ("run", "kind", "start", "measure", "folder", "id")
_SCORES = ("measure", "name", "value", "of", "model_sha256")
_NUMBERS = ("value", "of", "low", "high")
_KINDS = {"pretraining": "– (start model)", "baseline": "– (clean control)"}
_WORDS = {"asr": "ASR", "l1": "L1", "pl1": "PL1"}
_NOTE = (
    "95 % intervals of shares are given in brackets. A clean control was trained without poison: "
    "to judge a measure that should detect a backdoor, compare a model with its clean control."
)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="runs.csv of the experiment")
    parser.add_argument("--declared", type=Path, required=True, help="the declared measures (CSV)")
    parser.add_argument("--root", type=Path, default=Path(), help="folder of the results")
    parser.add_argument("--output", type=Path, required=True, help="measures.csv")
    options = parser.parse_args(arguments)
    runs = read_csv(options.runs, (*RUN_COLUMNS, "folder"))
    declared = read_csv(options.declared, _DECLARED, _DECLARED)
    table = measures_table(runs, declared, options.root)
    write_csv(options.output, table)
    page = tables_page("Measures of the models", readable(table), below=[_NOTE])
    with atomic(f"{stem(options.output)}.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def measures_table(runs: pd.DataFrame, declared: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Return one row per measured number and model, in the order of the runs.

    Args:
        runs: The experiment's run table.
        declared: The declared measures, with the columns of ``DECLARED``.
        root: Folder of the results.

    Raises:
        StepError: A file of a measure is missing or belongs to another measure.
    """
    parts = [_scores(root, *row) for row in declared[["folder", "id"]].itertuples(index=False)]
    rows = declared.drop(columns="measure").assign(name_of=declared["measure"], scores=parts)
    rows = runs.merge(rows.drop(columns="folder"), on=["run", "kind", "start"])
    found = [
        part.assign(measure=row["name_of"], **{key: row[key] for key in _kept(runs)})
        for row in rows.to_dict("records")
        for part in [row["scores"]]
    ]
    table = pd.concat(found, ignore_index=True)
    low, high = binomial(table["value"], table["of"].astype("float64"))
    columns = [*_kept(runs), "measure", "name", *_NUMBERS, "model_sha256"]
    return table.assign(low=low, high=high)[columns]


def _kept(runs: pd.DataFrame) -> list[str]:
    return [*RUN_COLUMNS, *(column for column in varied_columns(runs) if column != "folder")]


def _scores(root: Path, folder: str, name: str) -> pd.DataFrame:
    path = root / "measures" / folder / f"{name}.csv"
    # Reading the numbers as text first preserves the exact doubles.
    frame = read_csv(path, _SCORES, ("measure", "name", "value", "model_sha256"))
    if set(frame["measure"]) - {name}:
        raise StepError(f"{path} does not belong to the measure {name}; delete it")
    return frame.astype({"of": "Int64", "value": "float64"}).drop(columns="measure")


def readable(table: pd.DataFrame) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return name, column headers and cells of one table per measure, with one row per model."""
    varied = [c for c in varied_columns(table) if c not in (*_SCORES, *_NUMBERS)]
    columns = [c for c in ("learning_rate", *varied) if table[c].nunique(dropna=False) > 1]
    found = []
    for measure, rows in table.groupby("measure", sort=False):
        names = list(dict.fromkeys(rows["name"]))
        heads = ["Start model", "Cleaned by", *map(column_text, columns)]
        lines = []
        for _, model in rows.groupby(["run", "kind", "start"], sort=False):
            first, scores = model.iloc[0], model.set_index("name")
            line = [first["start_label"], first["defence"] or _KINDS[first["kind"]]]
            line += [value_text(first[column]) for column in columns]
            line += [_text(scores.loc[n]) if n in scores.index else "–" for n in names]
            lines.append(line)
        found.append((str(measure), [*heads, *(_words(n) for n in names)], lines))
    return found


def _words(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " ").capitalize())


def _text(score: Any) -> str:
    if pd.isna(score["of"]):
        return f"{score['value']:.4g}"
    return interval_text(score["value"], score["low"], score["high"])


if __name__ == "__main__":
    run_step(main)
