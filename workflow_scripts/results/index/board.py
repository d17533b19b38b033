"""Texts and columns of the leaderboard."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.intervals import student
from workflow_scripts.evaluation.auditing.words import DETECTORS
from workflow_scripts.results.artefacts import NUMBERS
from workflow_scripts.results.formatting import (
    column_text,
    interval_text,
    percent_text,
    value_text,
)
from workflow_scripts.results.index.comparisons import (
    Comparison,
    comparison_text,
    comparisons,
)
from workflow_scripts.results.index.leaderboard import Interval, Outcome

Row = dict[str, Any]
RULES = {"oracle": "oracle selection", "free": "oracle-free selection"}
_EDGE = " †"
_DETECTOR_NUMBERS = {
    key: name for key, name in NUMBERS.items() if key != "recall_at_top_1_percent"
} | {"prevalence": "Prevalence"}
# By the names of their artefacts in config.yaml.
_DETECTORS = DETECTORS | {
    "dao_clean_reference": "DAO, clean reference",
    "caption_length": "Length of the caption",
    "dao_published": "DAO, as published",
    "file_size": "Size of the image file",
    "random_score": "Random score",
    "slof_published": "SLOF, as published",
}


def sweep_sentences(rows: Sequence[Row]) -> list[str]:
    """Return whether all rows have the same sweep, as a sentence; none if there are no rows."""
    budgets = {budget_text(row) for row in rows}
    if len(budgets) == 1:
        return [f"All defences have the same sweep: {budgets.pop()} for each start model."]
    unequal = "Defences have unequal sweeps, and a larger one favours a defence; the leaderboard "
    return [f"{unequal}lists the sweep of each."] if budgets else []


def lost_text(outcome: Outcome | None) -> str:
    """Return the accuracy lost by clean controls, e.g. ``1.2 points (0.1 to 2.3)``.

    If no model qualifies for some of them, their number is added.
    """
    if outcome is None:
        return "not measured"
    value, low, high = (100 * part for part in outcome.loss)
    lost = [] if math.isnan(value) else [f"{value:.1f} points ({low:.1f} to {high:.1f})"]
    missing = outcome.replicates - outcome.chosen
    lost += [f"no model qualifies for {missing} of {outcome.replicates}"] if missing else []
    return "; ".join(lost)


def picked_text(outcome: Outcome) -> str:
    """Return trial and epoch of each selected model."""
    texts = [f"{trial}, epoch {epoch}" for _, trial, epoch in outcome.picked]
    return "; ".join(dict.fromkeys(texts))


def budget_text(row: Row) -> str:
    """Return the sweep behind a row of the leaderboard, per start model."""
    trials = f"{row['trials']} trial{'s' if row['trials'] > 1 else ''}"
    pairs = f" x {row['pairs']:,} pairs" if row["pairs"] else ""
    return f"{trials} x {row['epochs']} epochs{pairs}"


def named(row: Row) -> str:
    """Return the defence of a row with its setting."""
    return row["defence"] + (f" ({row['setting']})" if row["setting"] else "")


def board_columns() -> list[Row]:
    """Return the columns of the leaderboard, in the format of ``explorer.js``."""
    before = [("defence", "Defence"), ("start", "Start model")]
    per_rule = [
        ("verdict", "Verdict"),
        ("accuracy", "Accuracy"),
        ("asr", "ASR"),
        ("recovery", "Recovery"),
        ("picked", "Trial, epoch"),
        ("compared", "Difference to best, all attacks: "),
    ]
    chosen = [
        {"title": title_of_rule, "columns": [
            {"field": f"{rule}_{field}", "title": title + (compared if field == "compared" else "")}
            for field, title in per_rule
        ]}
        for rule, title_of_rule, compared in (
            ("free", "Oracle-free selection", "ASR"),
            ("oracle", "Oracle selection (by ASR)", "accuracy"),
        )
    ]  # fmt: skip
    after = [
        ("worst", "Worst attack"),
        ("attacks", "Attacks"),
        ("clean", "Accuracy lost by the clean control"),
        ("knowledge", "Knows, besides clean pairs"),
        ("replicates", "Start models (x seeds)"),
        ("hours", "Device time per start model"),
        ("passes", "Tower passes per start model"),
    ]
    first, last = ([{"field": f, "title": t} for f, t in part] for part in (before, after))
    return [*first, *chosen, *last]


def board_rows(rows: Sequence[Row], own_runs: Mapping[str, int]) -> list[Row]:
    """Return the leaderboard's cells: texts, sort keys ``<field>_n``, and the runs of each row."""
    compared = {rule: comparisons(rows, rule) for rule in RULES}
    for rule, found in compared.items():
        for row, one in zip(rows, found, strict=True):
            row[f"{rule}_compared"] = one
    return [
        _cells(row, n) | {"runs": [r for r in row["runs"] if r in own_runs]}
        for n, row in enumerate(rows)
    ]


def _cells(row: Row, place: int) -> Row:
    cells: Row = {
        "place": place,
        "defence": named(row),
        "start": row["start_label"],
        "worst": row["free"].attack if row["free"].attack == row["oracle"].attack
        else f"{row['free'].attack} / {row['oracle'].attack}",
        "attacks": str(len(row["attacks"]))
        + (f"; not learned: {', '.join(row['unlearned'])}" if row["unlearned"] else ""),
        "attacks_n": len(row["attacks"]),
        "clean": lost_text(row["clean"]),
        "knowledge": row["knowledge"] or "nothing",
        "clean_n": _number(row["clean"].loss[0]) if row["clean"] else None,
        "replicates": f"{row['free'].starts} ({row['replicates']})",
        "replicates_n": row["replicates"],
        "budget": budget_text(row),
        "hours": hours_text(row["hours"]),
        "hours_n": round(row["hours"], 6),
        "passes": passes_text(row["passes"]),
        "passes_n": None if math.isnan(row["passes"]) else row["passes"],
    }  # fmt: skip
    for rule in RULES:
        outcome: Outcome = row[rule]
        edge = _EDGE if outcome.at_edge else ""
        cells |= {
            f"{rule}_verdict": verdict_text(outcome),
            f"{rule}_compared": comparison_text(row[f"{rule}_compared"]) if outcome.chosen else "–",
            f"{rule}_compared_n": _difference(row[f"{rule}_compared"]),
            f"{rule}_verdict_n": ["holds", "undecided", "fails"].index(outcome.verdict),
            f"{rule}_accuracy": _chosen(outcome, outcome.accuracy) + edge,
            f"{rule}_accuracy_n": _number(outcome.accuracy[0]),
            f"{rule}_asr": interval_text(*outcome.asr),
            f"{rule}_asr_n": _number(outcome.asr[0]),
            f"{rule}_picked": picked_text(outcome),
            f"{rule}_recovery": percent_text(outcome.recovery),
            f"{rule}_recovery_n": _number(outcome.recovery),
        }
    return cells


def _chosen(outcome: Outcome, interval: Interval) -> str:
    if not outcome.chosen:
        return "no model qualifies"
    text = interval_text(*interval)
    if outcome.chosen < outcome.replicates:
        text += f", {outcome.chosen} of {outcome.replicates}"
    return text


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(100 * value, 4)


def _difference(one: Comparison | None) -> float | None:
    return 0.0 if one is None else _number(one.difference[0])


def verdict_text(outcome: Outcome) -> str:
    """Return the verdict, with the reason if there is only one start model."""
    return outcome.verdict + (": one start model" if outcome.starts < 2 else "")


def passes_text(passes: float) -> str:
    """Return a number of tower passes as text, e.g. ``1.2 M``."""
    if math.isnan(passes):
        return "unknown"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if passes >= size:
            return f"{passes / size:.3g}{unit}"
    return f"{passes:.0f}"


def hours_text(hours: float) -> str:
    """Return a number of hours as text."""
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def by_budget(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the widest sweep shared by several defences first, then other budgets.

    Sweeps without training (weight transforms) come after those with it, because the question is
    what fine-tuning does. Within a budget, the rows of each kind of start model are contiguous, the
    best first.
    """
    budgets = {
        budget_text(row): [r for r in rows if budget_text(r) == budget_text(row)] for row in rows
    }

    def order(budget: str) -> tuple[bool, bool, int, int]:
        members = budgets[budget]
        defences = len({row["defence"] for row in members})
        return defences > 1, members[0]["epochs"] > 0, members[0]["trials"], defences

    ordered = []
    for name in sorted(budgets, key=order, reverse=True):
        labels = list(dict.fromkeys(row["start_label"] for row in budgets[name]))
        ordered += sorted(budgets[name], key=lambda row: labels.index(row["start_label"]))
    return ordered


def compared_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the first budget, in the defences' default setting.

    Args:
        rows: Rows as ordered by :func:`by_budget`.
    """
    widest = [row for row in rows if budget_text(row) == budget_text(rows[0])]
    return [row for row in widest if not row["setting"]] or widest


def detector_board(reports: pd.DataFrame, varied: Collection[str] = ()) -> Row:
    """Return the table of detectors: means over start models with Student's intervals.

    Args:
        reports: Tables of artefacts; see :func:`workflow_scripts.results.artefacts.reports_table`.
        varied: Columns in which start models of the same label differ.
    """
    numbers = {k: v for k, v in _DETECTOR_NUMBERS.items() if k in reports}
    rows = []
    if "auroc" not in reports:
        return {"columns": [], "rows": []}
    detectors = reports[reports["auroc"].notna()]
    # Start models that differ in more than a seed are not replicates of each other.
    keys = ["start_label", *(c for c in detectors if c in varied and not c.endswith("seed"))]
    for values, own in detectors.groupby(["artefact", *keys], sort=False, dropna=False):
        name = _DETECTORS.get(values[0], str(values[0]).replace("_", " "))
        row: Row = {"detector": name, "label": values[1], "starts": len(own), "starts_n": len(own)}
        row["setting"] = ", ".join(
            f"{column_text(k)}: {value_text(v)}"
            for k, v in zip(keys[1:], values[2:], strict=True)
            if not pd.isna(v)
        )
        for key in numbers:
            mean, low, high = student(own[key].to_numpy(float))
            row |= {
                key: interval_text(mean, *np.clip([low, high], 0, 1)),
                f"{key}_n": _number(mean),
            }
        rows.append(row)
    heads = {"detector": "Detector", "label": "Start model", "setting": "Setting",
             "starts": "Replicates", **numbers}  # fmt: skip
    columns = [{"field": key, "title": title} for key, title in heads.items()]
    # The AUPRC depends on the prevalence, so only detectors of the same attack are ranked.
    attacks = list(dict.fromkeys((row["label"], row["setting"]) for row in rows))
    ranked = sorted(
        rows,
        key=lambda row: (attacks.index((row["label"], row["setting"])), -(row.get("auprc_n") or 0)),
    )
    return {"columns": columns, "rows": ranked}
