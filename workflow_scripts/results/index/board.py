"""What the leaderboard and the first screen say: texts, columns and the main figure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.results.index.comparisons import (
    Comparison,
    comparison_text,
    comparisons,
)
from workflow_scripts.results.index.leaderboard import ASR_LIMIT, Interval, Outcome
from workflow_scripts.results.intervals import student
from workflow_scripts.results.text import percent_text, value_text

Row = dict[str, Any]
RULES = {"oracle": "with the ASR", "free": "without it"}
_EDGE = " †"
DETECTOR_NUMBERS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "recall_at_top_10_percent": "Recall in the top 10 %",
    "prevalence": "Prevalence",
}


def interval_text(interval: Interval) -> str:
    """Return shares as e.g. ``69.0 % (66.6–71.3)``."""
    value, low, high = interval
    if math.isnan(value):
        return "–"
    ends = "" if math.isnan(low) else f" ({percent_text(low)[:-2]}–{percent_text(high)[:-2]})"
    return percent_text(value) + ends


def picked_text(outcome: Outcome) -> str:
    """Return learning rate and epoch of each chosen model."""
    texts = []
    for _, rate, epoch in outcome.picked:
        texts.append(f"{'no rate' if math.isnan(rate) else value_text(rate)}, epoch {epoch}")
    return "; ".join(dict.fromkeys(texts))


def budget_text(row: Row) -> str:
    """Return the sweep that a row of the leaderboard had for each start model."""
    rates = f"{row['rates']} learning rate{'s' if row['rates'] > 1 else ''}"
    pairs = f" x {row['pairs']:,} pairs" if row["pairs"] else ""
    return f"{rates} x {row['epochs']} epochs{pairs}"


def named(row: Row) -> str:
    """Return the defence of a row with its setting."""
    return row["defence"] + (f" ({row['setting']})" if row["setting"] else "")


def board_columns() -> list[Row]:
    """Return the columns of the leaderboard, as ``explorer.js`` reads them."""
    before = [("defence", "Defence"), ("start", "Start model")]
    own = [
        ("verdict", "Verdict"),
        ("accuracy", "Accuracy"),
        ("asr", "ASR"),
        ("recovery", "Recovery"),
        ("picked", "Rate, epoch"),
        ("compared", "Less the best: "),
    ]
    chosen = [
        {"title": f"Chosen {words}", "columns": [
            {"field": f"{rule}_{field}", "title": title + (compared if field == "compared" else "")}
            for field, title in own
        ]}
        for rule, words, compared in (("free", "without the ASR", "ASR"),
                                      ("oracle", "by its ASR (oracle)", "accuracy"))
    ]  # fmt: skip
    after = [
        ("worst", "Worst attack"),
        ("attacks", "Attacks"),
        ("replicates", "Start models (x seeds)"),
        ("hours", "Device time per start"),
        ("passes", "Tower passes per start"),
    ]
    first, last = ([{"field": f, "title": t} for f, t in part] for part in (before, after))
    return [*first, *chosen, *last]


def board_rows(rows: Sequence[Row], own_runs: Mapping[str, int]) -> list[Row]:
    """Return the leaderboard's cells: texts, ``<field>_n`` to sort by, and the runs of each row."""
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
            f"{rule}_compared": comparison_text(row[f"{rule}_compared"]),
            f"{rule}_compared_n": _difference(row[f"{rule}_compared"]),
            f"{rule}_verdict_n": ["holds", "undecided", "fails"].index(outcome.verdict),
            f"{rule}_accuracy": _chosen(outcome, outcome.accuracy) + edge,
            f"{rule}_accuracy_n": _number(outcome.accuracy[0]),
            f"{rule}_asr": interval_text(outcome.asr),
            f"{rule}_asr_n": _number(outcome.asr[0]),
            f"{rule}_picked": picked_text(outcome),
            f"{rule}_recovery": percent_text(outcome.recovery),
            f"{rule}_recovery_n": _number(outcome.recovery),
        }
    return cells


def _chosen(outcome: Outcome, interval: Interval) -> str:
    if not outcome.chosen:
        return "no model qualifies"
    some = outcome.chosen < outcome.replicates
    return interval_text(interval) + (f", {outcome.chosen} of {outcome.replicates}" if some else "")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(100 * value, 4)


def _difference(one: Comparison | None) -> float | None:
    return 0.0 if one is None else _number(one.difference[0])


def verdict_text(outcome: Outcome) -> str:
    """Return the verdict, with the reason where there is one start model."""
    return outcome.verdict + (": one start model" if outcome.starts < 2 else "")


def passes_text(passes: float) -> str:
    """Return tower passes for people, e.g. ``1.2 M``."""
    if math.isnan(passes):
        return "unknown"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if passes >= size:
            return f"{passes / size:.3g}{unit}"
    return f"{passes:.0f}"


def hours_text(hours: float) -> str:
    """Return hours of a device for people."""
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def by_budget(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the widest sweep that several defences had first, then other budgets."""
    budgets = {
        budget_text(row): [r for r in rows if budget_text(r) == budget_text(row)] for row in rows
    }

    def order(budget: str) -> tuple[bool, int, int]:
        own = budgets[budget]
        defences = len({row["defence"] for row in own})
        return defences > 1, own[0]["rates"], defences

    return [row for name in sorted(budgets, key=order, reverse=True) for row in budgets[name]]


def compared_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the widest sweep that several defences had, in their usual setting.

    Args:
        rows: As :func:`by_budget` orders them.
    """
    own = [row for row in rows if budget_text(row) == budget_text(rows[0])]
    return [row for row in own if not row["setting"]] or own


def answer(rows: Sequence[Row]) -> list[str]:
    """Return the answer at this scale: what was best, and what is shown about it.

    Args:
        rows: Of the leaderboard, at one budget, the best first.
    """
    if not rows:
        return ["No start model of these experiments both learned an attack and was cleaned."]
    parts = []
    labels = [label for label, _ in Counter(row["start_label"] for row in rows).most_common(2)]
    for label in labels:
        own = [row for row in rows if row["start_label"] == label]
        best = min(own, key=lambda r: (r["oracle"].asr[0] >= ASR_LIMIT, -r["oracle"].accuracy[0]))
        before = best["before"]
        found: Outcome = best["oracle"]
        parts.append(
            f"on {label} (accuracy {percent_text(before['accuracy'])}, ASR "
            f"{percent_text(before['asr'])} before) the best is {named(best)}: accuracy "
            f"{interval_text(found.accuracy)}, ASR {interval_text(found.asr)}, recovery "
            f"{percent_text(found.recovery)} (learning rate {picked_text(found)}; the sweep took "
            f"{hours_text(best['hours'])} of a device, {passes_text(best['passes'])} tower passes)"
        )
    counts = {rule: Counter(row[rule].verdict for row in rows) for rule in RULES}
    free, oracle = (_verdicts(counts[rule]) for rule in ("free", "oracle"))
    meet = {rule: sum(row[rule].meets for row in rows) for rule in RULES}
    return [
        f"Choosing by the ASR, which a defender does not know, {'; '.join(parts)}.",
        f"Of {len(rows)} pairs of defence and start model, {free} if the model is chosen without "
        f"knowing the attack, and {oracle if oracle != free else 'as many'} if it is chosen by its "
        "ASR. The measured values are "
        "within both limits (ASR 5 %, 2 points of accuracy) in "
        f"{meet['free']} and {meet['oracle']} of them.",
    ]


def _verdicts(counts: Counter[str]) -> str:
    words = (("holds", "hold"), ("fails", "fail"), ("undecided", "are undecided"))
    return ", ".join(f"{counts[key]} {word}" for key, word in words if counts[key])


def uncertain(rows: Sequence[Row], images: int) -> list[str]:
    """Return what limits the answer, a sentence each."""
    if not rows:
        return []
    most = max(row["oracle"].starts for row in rows)
    edges = sum(row["oracle"].at_edge for row in rows)
    attacks = max(len(row["attacks"]) for row in rows)
    unlearned = sorted({attack for row in rows for attack in row["unlearned"]})
    said = [
        "One start model of each kind: intervals cover the evaluation images only. Nothing can be "
        "said about other start models, so that every verdict is undecided, and differences of a "
        "few points may be noise."
        if most < 2
        else f"Up to {most} start models of a kind: intervals are over start models and seeds.",
        f"{attacks} attack{'s' if attacks > 1 else ''} at this budget; a defence that survives "
        "one attack may fail under another, or under one that knows of it.",
        f"Shares are of {images:,} evaluation images; the choice of the best of many models makes "
        "its numbers optimistic.",
    ]
    if edges:
        said.append(
            f"In {edges} of {len(rows)} rows the chosen learning rate is the lowest or highest "
            "that was tried (†): a better model may lie beyond."
        )
    if unlearned:
        said.append(f"Not learned by a start model, and left out: {', '.join(unlearned)}.")
    return said


def detector_board(reports: pd.DataFrame) -> Row:
    """Return the table of detectors: means over start models with Student's intervals."""
    numbers = {k: v for k, v in DETECTOR_NUMBERS.items() if k in reports}
    rows = []
    if "auroc" not in reports:
        return {"columns": [], "rows": []}
    detectors = reports[reports["auroc"].notna()]
    keys = [c for c in detectors if c.startswith("attack.")]
    for values, own in detectors.groupby(["artefact", *keys], sort=False, dropna=False):
        row: Row = {"detector": values[0], "starts": len(own), "starts_n": len(own)}
        row["setting"] = ", ".join(
            f"{k.removeprefix('attack.')} {v}" for k, v in zip(keys, values[1:], strict=True)
        )
        for key in numbers:
            mean, low, high = student(own[key].to_numpy(float))
            row |= {
                key: interval_text((mean, *np.clip([low, high], 0, 1))),
                f"{key}_n": _number(mean),
            }
        rows.append(row)
    columns = [{"field": "detector", "title": "Detector"}, {"field": "setting", "title": "Attack"},
               {"field": "starts", "title": "Start models"},
               *({"field": key, "title": title} for key, title in numbers.items())]  # fmt: skip
    return {"columns": columns, "rows": sorted(rows, key=lambda r: -(r.get("auprc_n") or 0))}
