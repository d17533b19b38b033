"""The table "best accuracy with ASR < 5 % and < 10 %, by start model and defence".

Inputs  metrics.parquet (collect.py or published.py); optionally leaks.csv.
Outputs <output>.csv, and formatted for readers <output>.html and <output>.md.

Selecting the best accuracy at a low ASR requires knowledge of the trigger (oracle selection). The
table also has the oracle-free selections: within a tolerance of the start model's accuracy, the
highest clean accuracy and, if the metrics have it, the lowest loss on held-out pairs.
"""

import argparse
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.columns import FILE_COLUMN, of_parts
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic
from workflow_scripts.common.intervals import binomial
from workflow_scripts.common.selection_rules import ASR_BELOW, TOLERANCE
from workflow_scripts.results.best_page import CHOICE, as_html, as_markdown, notes, readable
from workflow_scripts.results.contamination import read_contamination
from workflow_scripts.results.selection import (
    ACCURACY,
    ASR,
    RECOVERY,
    at_edge,
    baseline_models,
    best_below,
    cleaned_models,
    oracle_free_choice,
    oracle_free_rules,
    start_models,
)
from workflow_scripts.results.table import read_table, stem, varied_columns, write_csv


def best_table(
    metrics: pd.DataFrame,
    asr_below: Sequence[float],
    tolerance: float,
    by: list[str] | None = None,
) -> pd.DataFrame:
    """Return one row per start model, group and rule; numbers are missing if no model qualifies.

    Args:
        metrics: The tidy table.
        asr_below: ASR thresholds, fractions; one rule per threshold.
        tolerance: Maximum accuracy loss to the start model of the oracle-free rules, a fraction.
        by: Columns to group by; None: the defence and all varied columns.

    Returns:
        ``rule`` is ``best`` (one row per ``asr_below``) or one of ``ORACLE_FREE_RULES``; ``runs``
        and ``models`` count the candidates; ``model_file`` is the selected model's file relative
        to the results, empty if it was not kept; ``*_low`` and ``*_high`` are 95 % intervals;
        accuracies, ASRs and ``recovery`` (triggered images classified as their true class) are
        fractions; ``at_edge`` is true if the selected learning rate is the lowest or the highest
        of three or more; ``baseline_*`` are the numbers of the clean control. For attacks with
        several parts, ``asr`` is the highest ASR of the parts, and the ASR of each part has its
        own column.

    Raises:
        StepError: There are no cleaned models, or a column of ``by`` does not exist.
    """
    groups = by if by is not None else ["defence", *varied_columns(metrics)]
    groups = [c for c in groups if c != "experiments"]
    missing = [c for c in groups if c not in metrics.columns]
    if missing:
        raise StepError(f"the metrics have no column {missing[0]!r} to group by")
    cleaned = cleaned_models(metrics)
    if cleaned.empty:
        raise StepError(
            "the metrics contain no cleaned model; check that the experiment declares a defence"
        )
    before = {
        "start": start_models(metrics).set_index("start"),
        "baseline": baseline_models(metrics).set_index("start"),
    }
    oracle_free = oracle_free_rules(cleaned)
    keys = ["start", "start_label", *groups]
    rows = []
    for values, models in cleaned.groupby(keys, sort=False, dropna=False):
        group = dict(zip(keys, values, strict=True))
        group |= {"runs": models["run"].nunique(), "models": len(models)}
        for name, known in before.items():
            group |= _shares(name, known, values[0])
        picks = [
            ({"rule": "best", "asr_below": at, "tolerance": np.nan}, best_below(models, at))
            for at in asr_below
        ] + [
            (
                {"rule": rule, "asr_below": np.nan, "tolerance": tolerance},
                oracle_free_choice(rule, models, group["start_accuracy"], tolerance),
            )
            for rule in oracle_free
        ]
        rows += [group | rule | _row(models, label) for rule, label in picks]
    columns = [*keys, *CHOICE, *of_parts(metrics.columns)]
    return pd.DataFrame(rows).reindex(columns=columns).astype({"epoch": "Int64"})


def _shares(name: str, known: pd.DataFrame, start: str) -> dict[str, float]:
    shares = {"accuracy": ACCURACY, "asr": ASR}
    return {
        f"{name}_{share}": float(known.loc[start, column]) if start in known.index else np.nan
        for share, column in shares.items()
    }


def _row(models: pd.DataFrame, label: Hashable | None) -> dict[str, Any]:
    columns = ("accuracy", "asr", "recovery", "learning_rate", "accuracy_low", "accuracy_high",
               "asr_low", "asr_high")  # fmt: skip
    if label is None:
        none = {"run": "", "epoch": pd.NA, FILE_COLUMN: "", "at_edge": False}
        return dict.fromkeys(columns, np.nan) | none
    model = models.loc[label]
    row = {name: model[name] for name in ("run", "epoch", "learning_rate")}
    row |= {FILE_COLUMN: model.get(FILE_COLUMN, "")}
    row |= {name: model[name] for name in of_parts(models.columns)}
    row |= {"recovery": model.get(RECOVERY, np.nan), "at_edge": at_edge(models, model)}
    for name, source, count in (("accuracy", ACCURACY, "images"), ("asr", ASR, "asr_images")):
        images = np.nan if pd.isna(model[count]) else model[count]
        low, high = binomial(model[source], images)
        row |= {name: model[source], f"{name}_low": float(low), f"{name}_high": float(high)}
    return row


def main(arguments: list[str] | None = None) -> None:
    """Write the table of best models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.parquet")
    parser.add_argument("--output", type=Path, required=True, help="best.csv")
    parser.add_argument(
        "--asr-below", type=float, nargs="+", default=ASR_BELOW, help="fractions (0.05 0.1)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE,
        help="maximum accuracy loss of oracle-free rules, a fraction (0.01)",
    )  # fmt: skip
    parser.add_argument(
        "--by", nargs="+", help="columns to group by (the defence and all varied columns)"
    )
    parser.add_argument("--leaks", type=Path, help="CSV: start, pairs, originals_of_victims, ...")
    options = parser.parse_args(arguments)
    metrics = read_table(options.metrics)
    leaks = read_contamination(options.leaks) if options.leaks else None
    table = best_table(metrics, options.asr_below, options.tolerance, options.by)
    output = stem(options.output)
    lines, below = readable(table, leaks), notes(table, metrics, leaks)
    write_csv(f"{output}.csv", table)
    for suffix, text in ((".html", as_html(lines, below)), (".md", as_markdown(lines, below))):
        with atomic(f"{output}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_step(main)
