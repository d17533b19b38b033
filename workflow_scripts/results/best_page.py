"""The table of best models formatted for readers: one row per start model and group."""

from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.columns import PART_COLUMN, of_parts
from workflow_scripts.common.markdown import markdown_text
from workflow_scripts.results.contamination import duplicates_sentence, originals_text
from workflow_scripts.results.formatting import (
    column_text,
    interval_text,
    percent_text,
    threshold_text,
    value_text,
)
from workflow_scripts.results.page import table_page
from workflow_scripts.results.sweeps import work_sentence

CHOICE = (
    "rule", "asr_below", "accuracy", "asr", "recovery", "at_edge", "run", "epoch", "model_file",
    "learning_rate",
    "runs", "models",
    "tolerance", "accuracy_low", "accuracy_high", "asr_low", "asr_high",
    "start_accuracy", "start_asr", "baseline_accuracy", "baseline_asr",
)  # fmt: skip
_NAMES = ("start_label", "defence")
RULE_NAMES = {
    "highest_accuracy": "Highest accuracy",
    "lowest_heldout_mmcl": "Lowest held-out MMCL loss",
    "lowest_heldout_ssl": "Lowest held-out SSL loss",
}


def readable(table: pd.DataFrame, leaks: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return ``best.best_table`` formatted as text, with the counts of ``leaks`` if given."""
    # Columns with the same value in all rows are omitted.
    fixed = (*CHOICE, *of_parts(table.columns), "start")
    keys = [
        c for c in table.columns
        if c in _NAMES or (c not in fixed and table[c].nunique(dropna=False) > 1)
    ]  # fmt: skip
    lines = []
    for (start, *values), rows in table.groupby(["start", *keys], sort=False, dropna=False):
        line = {column_text(k): value_text(v) for k, v in zip(keys, values, strict=True)}
        first = rows.iloc[0]
        line["Start model: accuracy / ASR"] = _pair(first["start_accuracy"], first["start_asr"])
        if table["baseline_accuracy"].notna().any():
            line["Clean control: accuracy / ASR"] = _pair(
                first["baseline_accuracy"], first["baseline_asr"]
            )
        for row in rows.to_dict("records"):
            line[_heading(row)] = _choice(row)
        runs = f"{first['runs']} run{'s' if first['runs'] > 1 else ''}"
        line["Candidates"] = f"{first['models']} models from {runs}"
        if leaks is not None:
            line["Victims' originals in the clean data"] = originals_text(leaks, start)
        lines.append(line)
    return pd.DataFrame(lines)


def _heading(row: dict[str, Any]) -> str:
    if row["rule"] == "best":
        return f"Best accuracy with ASR < {threshold_text(row['asr_below'])}"
    within = f"{100 * row['tolerance']:.6g} pp of the start"
    return f"{RULE_NAMES[row['rule']]} within {within}: accuracy / ASR"


def _pair(accuracy: float, asr: float) -> str:
    return f"{percent_text(accuracy)} / {percent_text(asr)}"


def _choice(row: dict[str, Any]) -> str:
    if row["rule"] == "best" and row["start_asr"] < row["asr_below"]:
        return "start model already below this ASR; nothing to remove"
    if not row["run"]:
        return "none"
    if row["rule"] != "best":
        return _pair(row["accuracy"], row["asr"]) + _parts(row)
    text = interval_text(row["accuracy"], row["accuracy_low"], row["accuracy_high"])
    if not np.isnan(row["recovery"]):
        text += f", recovery {percent_text(row['recovery'])}"
    return text + _parts(row) + (_EDGE if row["at_edge"] else "")


def _parts(row: dict[str, Any]) -> str:
    """Return the ASR of each part of an attack with several parts."""
    rates = [row[c] for c in row if c.startswith(PART_COLUMN) and not np.isnan(row[c])]
    return f"; parts {', '.join(map(percent_text, rates))}" if rates else ""


_EDGE = " †"
_NOTE = (
    "ASR: share of triggered images classified as the target, excluding images of the target "
    "class. Recovery: share of the same images classified as their true class. Brackets: 95 % "
    "interval over the evaluation images; it does not account for the selection of the best of "
    "many models, which is optimistic. Selecting the best accuracy at a low ASR requires the ASR "
    "(oracle selection). Selecting among models within a given number of percentage points (pp) "
    "of the start model's accuracy does not, and is available to a defender."
)
_PARTS_NOTE = (
    "For an attack with several parts, ASR is the highest and recovery the lowest over the parts; "
    "the ASR of each part follows. A part without a trigger succeeds if clean images of its "
    "concept, or its instances, are classified as intended by the attack."
)
_EDGE_NOTE = (
    "† The learning rate is the lowest or highest of the sweep; a better model may exist outside "
    "it."
)


def notes(
    table: pd.DataFrame, metrics: pd.DataFrame, leaks: pd.DataFrame | None = None
) -> list[str]:
    """Return the notes below the table: definitions, and limits to its comparability."""
    edge = [_EDGE_NOTE] if (table["at_edge"] & (table["rule"] == "best")).any() else []
    duplicates = [] if leaks is None else [duplicates_sentence(leaks)]
    parts = [_PARTS_NOTE] if of_parts(table.columns) else []
    return [_NOTE, *parts, *edge, work_sentence(metrics), *duplicates]


def as_html(lines: pd.DataFrame, below: list[str]) -> str:
    """Return a self-contained page with the table and the notes; all texts are escaped."""
    cells = lines.astype(str).to_numpy().tolist()
    return table_page("Best models", list(lines.columns), cells, below=below)


def as_markdown(lines: pd.DataFrame, below: list[str]) -> str:
    """Return the table and the notes below it as Markdown."""

    def line(cells: Any) -> str:
        return "| " + " | ".join(markdown_text(c) for c in cells) + " |"

    rows = [line(lines.columns), line(["---"] * len(lines.columns))]
    rows += [line(cells) for cells in lines.itertuples(index=False)]
    return "\n".join(rows) + "\n\n" + "\n\n".join(below) + "\n"
