"""Comparison of attacks: how much of each remains after the same cleaning."""

from typing import Any

import pandas as pd

from workflow_scripts.results.formatting import interval_text, percent_text
from workflow_scripts.results.index.board import budget_text, named
from workflow_scripts.results.index.leaderboard import ASR_LIMIT, REPLICATE, leaderboard
from workflow_scripts.results.index.runs import NO_ATTACK
from workflow_scripts.results.page import paragraphs, table
from workflow_scripts.results.selection import ACCURACY, ASR

_HEADS = ["Attack", "Start model", "ASR before", "ASR after", "Accuracy before", "Accuracy after"]
_CLEANING = ["defence", "setting", "epochs", "pairs"]


def attack_section(models: pd.DataFrame, starts: pd.DataFrame) -> str:
    """Return a table of all attacks, the highest ASR after cleaning first, as HTML.

    The numbers after cleaning are those of the defence and sweep that were run on the most
    attacks, by oracle selection.

    Args:
        models: Cleaned models, as for :func:`leaderboard.leaderboard`.
        starts: Start models, indexed by run id: ``top1`` and ``asr_top1``.
    """
    models = models[models["attack"] != NO_ATTACK]
    if models.empty:
        return ""
    same = _same_cleaning(models)
    rows = [
        row | {"attack": str(attack)}
        for attack, own in same.groupby("attack", sort=False)
        for row in leaderboard(own, starts)
    ]
    if not rows:
        return ""
    cells = [_cells(row) for row in sorted(rows, key=lambda row: -row["oracle"].asr[0])]
    note = (
        f"Each attack after cleaning by {named(rows[0])} ({budget_text(rows[0])}, oracle "
        "selection), the highest remaining ASR first. On the same start model, a higher ASR after "
        "cleaning means that an attack is harder to remove. An attack that its start model did "
        f"not learn (ASR below {percent_text(ASR_LIMIT, 0)} before cleaning) is not evidence about "
        "any defence."
    )
    lines = [*cells, *_unlearned(models, starts)]
    return "<h3>Attacks</h3>" + paragraphs([note]) + table(_HEADS, lines)


def _same_cleaning(models: pd.DataFrame) -> pd.DataFrame:
    """Return the models of the defence and sweep that were run on the most attacks."""

    def attacks(part: pd.DataFrame) -> int:
        return len(part[["attack", "start_label"]].drop_duplicates())

    group = max((part for _, part in models.groupby(_CLEANING, dropna=False)), key=attacks)
    keys = [group[column] for column in REPLICATE]
    sweep = group["trial"].groupby(keys).transform(lambda own: [frozenset(own)] * len(own))
    common = max(set(sweep), key=lambda s: (attacks(group[sweep >= s]), len(s), sorted(s)))
    return group[(sweep >= common) & group["trial"].isin(common)]


def _cells(row: dict[str, Any]) -> list[str]:
    after = row["oracle"]
    accuracy, asr = after.before
    return [
        row["attack"],
        row["start_label"],
        percent_text(asr),
        interval_text(*after.asr),
        percent_text(accuracy),
        interval_text(*after.accuracy),
    ]


def _unlearned(models: pd.DataFrame, starts: pd.DataFrame) -> list[list[str]]:
    asr, accuracy = (models["start"].map(starts[column]) for column in (ASR, ACCURACY))
    missed = models.assign(asr=asr, accuracy=accuracy)[asr < ASR_LIMIT]
    return [
        [attack, label, f"{percent_text(own['asr'].mean())}: not learned", "–",
         percent_text(own["accuracy"].mean()), "–"]
        for (attack, label), own in missed.groupby(["attack", "start_label"], sort=False)
    ]  # fmt: skip
