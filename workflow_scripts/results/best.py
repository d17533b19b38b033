"""The table "best accuracy with ASR < 5 % and < 10 %, by start model and defence".

Needs   metrics.parquet (collect.py or published.py).
Makes   <output>.csv, and for people <output>.html and <output>.md.

Beside the best accuracy with a low ASR, which only somebody who knows the trigger can pick, stands
the choice of a defender who does not: the highest clean accuracy within a tolerance of the start's.
"""

import argparse
import html
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic
from workflow_scripts.results.intervals import wilson
from workflow_scripts.results.selection import (
    ACCURACY,
    ASR,
    best_below,
    cleaned_models,
    highest_accuracy,
    lowest,
    start_models,
)
from workflow_scripts.results.table import read_table, stem, varied_columns, write_csv
from workflow_scripts.results.text import column_text, percent_text, threshold_text, value_text

_CHOICE = (
    "rule", "asr_below", "accuracy", "asr", "run", "epoch", "learning_rate", "runs", "models",
    "tolerance", "accuracy_low", "accuracy_high", "asr_low", "asr_high",
    "start_accuracy", "start_asr",
)  # fmt: skip


def best_table(
    metrics: pd.DataFrame,
    asr_below: list[float],
    tolerance: float,
    by: list[str] | None = None,
    lowest_of: list[str] | None = None,
) -> pd.DataFrame:
    """Return a row for each start model, group and rule; numbers are missing where none qualifies.

    Args:
        metrics: The tidy table.
        asr_below: Thresholds of the ASR, fractions: one rule each.
        tolerance: How much accuracy the honest choice may lose to the start model, a fraction.
        by: Columns that make the groups; None: the defence and all that varies.
        lowest_of: Columns of losses on held-out pairs: one more honest rule each.

    Returns:
        ``rule`` is ``best`` (for each ``asr_below``), ``highest_accuracy`` or ``lowest_<column>``;
        ``runs`` and ``models`` say how many were looked at; ``*_low`` and ``*_high`` are 95 %
        intervals; accuracies and ASRs are fractions.

    Raises:
        StepError: There are no cleaned models, or no such column.
    """
    groups = by if by is not None else ["defence", *varied_columns(metrics)]
    groups = [c for c in groups if c != "experiments"]
    missing = [c for c in groups if c not in metrics.columns]
    if missing:
        raise StepError(f"the metrics have no column {missing[0]!r} to group by")
    cleaned = cleaned_models(metrics)
    if cleaned.empty:
        raise StepError("there is no cleaned model to choose from; does the experiment clean?")
    starts = start_models(metrics).set_index("start")
    keys = ["start", "start_label", *groups]
    rows = []
    for values, models in cleaned.groupby(keys, sort=False, dropna=False):
        start = starts.loc[values[0]] if values[0] in starts.index else None
        before = float("nan") if start is None else float(start[ACCURACY])
        picks = _picks(models, before, asr_below, tolerance, lowest_of or [])
        looked_at = {"runs": models["run"].nunique(), "models": len(models)}
        at_start = {
            "start_accuracy": before,
            "start_asr": float("nan") if start is None else float(start[ASR]),
        }
        group = dict(zip(keys, values, strict=True)) | looked_at | at_start
        rows += [group | rule | _row(models, label) for rule, label in picks]
    return pd.DataFrame(rows)[[*keys, *_CHOICE]].astype({"epoch": "Int64"})


def _picks(
    models: pd.DataFrame,
    before: float,
    asr_below: list[float],
    tolerance: float,
    lowest_of: list[str],
) -> list[tuple[dict[str, Any], Hashable | None]]:
    peeking = [
        ({"rule": "best", "asr_below": at, "tolerance": np.nan}, best_below(models, at))
        for at in asr_below
    ]
    stated = {"asr_below": np.nan, "tolerance": tolerance}
    honest = [({"rule": "highest_accuracy"} | stated, highest_accuracy(models, before, tolerance))]
    honest += [
        ({"rule": f"lowest_{column}"} | stated, lowest(models, column, before, tolerance))
        for column in lowest_of
    ]
    return peeking + honest


def _row(models: pd.DataFrame, label: Hashable | None) -> dict[str, Any]:
    columns = ("accuracy", "asr", "learning_rate", "accuracy_low", "accuracy_high", "asr_low",
               "asr_high")  # fmt: skip
    if label is None:
        return dict.fromkeys(columns, np.nan) | {"run": "", "epoch": pd.NA}
    model = models.loc[label]
    row = {name: model[name] for name in ("run", "epoch", "learning_rate")}
    for name, source, count in (("accuracy", ACCURACY, "images"), ("asr", ASR, "asr_images")):
        images = np.nan if pd.isna(model[count]) else model[count]
        low, high = wilson(model[source], images)
        row |= {name: model[source], f"{name}_low": float(low), f"{name}_high": float(high)}
    return row


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it: one line for each start model and group, texts only."""
    keys = [c for c in table.columns if c not in (*_CHOICE, "start")]
    lines = []
    for (_, *values), rows in table.groupby(["start", *keys], sort=False, dropna=False):
        line = {column_text(k): value_text(v) for k, v in zip(keys, values, strict=True)}
        first = rows.iloc[0]
        line["Start model: accuracy / ASR"] = _pair(first["start_accuracy"], first["start_asr"])
        for row in rows.to_dict("records"):
            line[_heading(row)] = _choice(row)
        line["Looked at"] = f"{first['models']} models of {first['runs']} runs"
        lines.append(line)
    return pd.DataFrame(lines)


def _heading(row: dict[str, Any]) -> str:
    if row["rule"] == "best":
        return f"Best accuracy with ASR < {threshold_text(row['asr_below'])}"
    within = f"{threshold_text(row['tolerance'])[:-2]} pp of the start"
    if row["rule"] == "highest_accuracy":
        return f"Highest accuracy within {within}: accuracy / ASR"
    return f"{column_text(row['rule'])} within {within}: accuracy / ASR"


def _pair(accuracy: float, asr: float) -> str:
    return f"{percent_text(accuracy)} / {percent_text(asr)}"


def _choice(row: dict[str, Any]) -> str:
    if not row["run"]:
        return "none"
    if row["rule"] != "best":
        return _pair(row["accuracy"], row["asr"])
    interval = ""
    if not np.isnan(row["accuracy_low"]):
        low, high = (percent_text(row[f"accuracy_{end}"])[:-2] for end in ("low", "high"))
        interval = f" ({low}–{high})"
    return percent_text(row["accuracy"]) + interval


_NOTE = (
    "ASR: share of the triggered images, those of the target class left out, that are classified "
    "as the target. In brackets the 95 % interval of the evaluation images; it leaves out that "
    "the best of many models was picked, which flatters it. "
    "Best with a low ASR peeks at the ASR; the last choice does not, and a defender can make it."
)


def as_html(lines: pd.DataFrame) -> str:
    """Return a self-contained page with the table; every text is escaped."""
    head = "".join(f"<th>{html.escape(str(c))}</th>" for c in lines.columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in line) + "</tr>"
        for line in lines.itertuples(index=False)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Best models</title>\n'
        "<style>body{font:14px/1.45 sans-serif;color:#222;background:#fff;margin:1.5em}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
        "th,td{padding:.4em .9em;text-align:left;border-bottom:1px solid #ddd}"
        "th{border-bottom:2px solid #222;vertical-align:bottom;max-width:13em}"
        "td{white-space:nowrap}"
        "p{max-width:60em;color:#555}</style></head>\n"
        f"<body><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n"
        f"<p>{html.escape(_NOTE)}</p></body></html>\n"
    )


def as_markdown(lines: pd.DataFrame) -> str:
    """Return the table as Markdown."""

    def line(cells: Any) -> str:
        return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"

    rows = [line(lines.columns), line(["---"] * len(lines.columns))]
    rows += [line(cells) for cells in lines.itertuples(index=False)]
    return "\n".join([*rows, "", _NOTE, ""])


def main(arguments: list[str] | None = None) -> None:
    """Write the table of the best models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.parquet")
    parser.add_argument("--output", type=Path, required=True, help="best.csv")
    parser.add_argument(
        "--asr-below", type=float, nargs="+", default=[0.05, 0.10], help="fractions (0.05 0.1)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.01,
        help="accuracy that the honest choice may lose to the start, a fraction (0.01)",
    )  # fmt: skip
    parser.add_argument("--by", nargs="+", help="columns; default: defence and all that varies")
    parser.add_argument("--lowest-of", nargs="+", help="columns of held-out losses: a rule each")
    options = parser.parse_args(arguments)
    table = best_table(
        read_table(options.metrics), options.asr_below, options.tolerance, options.by,
        options.lowest_of,
    )  # fmt: skip
    output = stem(options.output)
    lines = readable(table)
    write_csv(f"{output}.csv", table)
    for suffix, text in ((".html", as_html(lines)), (".md", as_markdown(lines))):
        with atomic(f"{output}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_step(main)
