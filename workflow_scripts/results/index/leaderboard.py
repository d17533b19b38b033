"""The leaderboard: each defence by its worst attack, at equal budget, with a verdict.

A row is one defence (with its settings) on one kind of start model at one budget. In each row the
same selection rule picks one model for each replicate, a pair of a start model and a seed of
cleaning, and the attack with the highest mean ASR is reported. Intervals are 95 %: those over
start models and seeds (hierarchical bootstrap), at least as wide as Wilson's of the images.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.choosing import TOLERANCE
from workflow_scripts.results.intervals import wilson
from workflow_scripts.results.replicates import over_starts
from workflow_scripts.results.selection import (
    ACCURACY,
    ASR,
    RECOVERY,
    best_below,
    honest_choice,
    honest_rules,
)
from workflow_scripts.results.selection import (
    at_edge as is_at_edge,
)

ASR_LIMIT = 0.05
LOSS_LIMIT = 0.02
_GROUP = ["defence", "setting", "start_label", "dataset", "epochs", "pairs"]
_REPLICATE = ["attack", "start", "seed"]
Interval = tuple[float, float, float]
_NONE: Interval = (np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Outcome:
    """What one selection rule finds under the worst attack.

    ``accuracy``, ``asr`` and ``loss`` (accuracy lost to the start model) are value, lower and
    upper limit, fractions; ``chosen`` of ``replicates`` had a model that the rule could choose,
    of ``starts`` start models; ``picked`` are run, learning rate and epoch of each; ``picks`` their
    rows.
    """

    attack: str
    accuracy: Interval
    asr: Interval
    loss: Interval
    recovery: float
    chosen: int
    replicates: int
    starts: int
    at_edge: bool
    picked: tuple[tuple[str, float, int], ...]
    picks: pd.DataFrame

    @property
    def verdict(self) -> str:
        """``holds``, ``fails`` or ``undecided``."""
        # A start model is the unit of variation: of one, nothing can be said about others.
        if self.starts < 2:
            return "undecided"
        if self.chosen < self.replicates or self.asr[1] > ASR_LIMIT or self.loss[1] > LOSS_LIMIT:
            return "fails"
        certain = self.asr[2] <= ASR_LIMIT and self.loss[2] <= LOSS_LIMIT
        return "holds" if certain else "undecided"

    @property
    def meets(self) -> bool:
        """Whether the means are within both limits, whatever their intervals."""
        within = self.asr[0] <= ASR_LIMIT and self.loss[0] <= LOSS_LIMIT
        return self.chosen == self.replicates > 0 and within


def leaderboard(models: pd.DataFrame, starts: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row for each defence, setting, kind of start model and budget.

    Args:
        models: Cleaned models: the tidy table with the columns of ``runs.runs_frame``.
        starts: Start models, indexed by run id: ``top1`` and ``asr_top1``.

    Returns:
        The columns of ``_GROUP``, ``rates``, ``attacks`` (their texts), ``unlearned`` (attacks that
        the start models have not learned, left out), ``before`` (mean ``accuracy`` and ``asr`` of
        the start models), ``replicates``, ``hours`` and ``passes`` of a tower (for each of them),
        ``oracle`` and ``free`` (an :class:`Outcome` each), ``picks`` (the chosen models under all
        attacks, by rule), ``runs``; the best first.
    """
    before = models["start"].map(starts[ACCURACY])
    asr = models["start"].map(starts[ASR])
    table = models.assign(start_accuracy=before, start_asr=asr, learned=asr >= ASR_LIMIT)
    rows = [
        _row(dict(zip(_GROUP, values, strict=True)), rates, part)
        for values, group in table.groupby(_GROUP, sort=False, dropna=False)
        for rates, part in _at_equal_budget(group)
    ]
    order = {"holds": 0, "undecided": 1, "fails": 2}

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        free, oracle = row["free"], row["oracle"]
        low = np.nan_to_num(oracle.asr[0], nan=2)
        within = not free.meets, not oracle.meets
        return (
            order[free.verdict],
            order[oracle.verdict],
            *within,
            low > ASR_LIMIT,
            -oracle.accuracy[0],
        )

    return sorted((row for row in rows if row["attacks"]), key=key)


def _at_equal_budget(group: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield the models at each sweep of rates that some replicate had, of all that had it."""
    own = {
        key: frozenset(part["learning_rate"].fillna(-1))
        for key, part in group.groupby(_REPLICATE, sort=False)
    }
    for rates in sorted(set(own.values()), key=lambda r: (-len(r), sorted(r))):
        having = {key for key, has in own.items() if has >= rates}
        keys = pd.MultiIndex.from_frame(group[_REPLICATE])
        chosen = keys.isin(list(having)) & group["learning_rate"].fillna(-1).isin(rates)
        yield len(rates), group[chosen]


def _row(keys: dict[str, Any], rates: int, models: pd.DataFrame) -> dict[str, Any]:
    learned = models[models["learned"]]
    replicates = learned[_REPLICATE].drop_duplicates()
    runs = models.drop_duplicates("run")
    own = runs.groupby(_REPLICATE)[["hours", "passes"]].sum(min_count=1).mean()
    rules = honest_rules(models)
    free = "lowest_heldout_mmcl" if "lowest_heldout_mmcl" in rules else "highest_accuracy"
    by_attack = list(learned.groupby("attack", sort=False))
    found = {
        name: [_outcome(attack, part, rule) for attack, part in by_attack]
        for name, rule in (("oracle", "oracle"), ("free", free))
    }
    return keys | {
        "rates": rates,
        "attacks": list(dict.fromkeys(learned["attack"])),
        "unlearned": list(dict.fromkeys(models.loc[~models["learned"], "attack"])),
        "replicates": len(replicates),
        "before": {c: float(learned[f"start_{c}"].mean()) for c in ("accuracy", "asr")},
        "models": len(models),
        "hours": float(own["hours"]),
        "passes": float(own["passes"]),
        "free_rule": free,
        "oracle": _worst(found["oracle"]),
        "free": _worst(found["free"]),
        "picks": {
            rule: pd.concat([one.picks for one in own]) if own else pd.DataFrame()
            for rule, own in found.items()
        },
        "runs": list(runs["run"]),
    }


def _worst(found: Sequence[Outcome]) -> Outcome | None:
    missing = [one for one in found if one.chosen < one.replicates]
    return max(missing or found, key=lambda one: np.nan_to_num(one.asr[0]), default=None)


def _outcome(attack: Hashable, models: pd.DataFrame, rule: str) -> Outcome:
    parts = [part for _, part in models.groupby(_REPLICATE, sort=False)]
    picks = [(part, part.loc[label]) for part in parts if (label := pick(part, rule)) is not None]
    rows = [row for _, row in picks]
    chosen = pd.DataFrame(rows)
    recovery = [row.get(RECOVERY, np.nan) for row in rows]
    return Outcome(
        attack=str(attack),
        accuracy=_interval(chosen, ACCURACY, "images"),
        asr=_interval(chosen, ASR, "asr_images"),
        loss=_loss(chosen),
        recovery=float(np.mean(recovery)) if recovery else np.nan,
        chosen=len(rows),
        replicates=len(parts),
        starts=models["start"].nunique(),
        at_edge=any(is_at_edge(part, row) for part, row in picks),
        picked=tuple((row["run"], row["learning_rate"], int(row["epoch"])) for row in rows),
        picks=chosen,
    )


def pick(models: pd.DataFrame, rule: str) -> Hashable | None:
    """Return the label of the chosen model; None where none qualifies.

    ``oracle``: the highest accuracy with an ASR below the limit, or else the lowest ASR; another
    rule is one of ``choosing.HONEST_RULES``, with the tolerance of the table of the best models,
    by which trainings keep models.
    """
    if rule == "oracle":
        label = best_below(models, ASR_LIMIT)
        return models[ASR].idxmin() if label is None else label
    return honest_choice(rule, models, float(models["start_accuracy"].iloc[0]), TOLERANCE)


def _interval(chosen: pd.DataFrame, number: str, count: str) -> Interval:
    """Return mean and limits over start models and seeds, at least as wide as those of images."""
    if chosen.empty:
        return _NONE
    mean, low, high = over_starts(chosen[number], list(chosen["start"]))
    ends = wilson(mean, chosen[count].astype(float).sum())
    return (
        mean,
        float(np.clip(np.nanmin([low, ends[0]]), 0, 1)),
        float(np.clip(np.nanmax([high, ends[1]]), 0, 1)),
    )


def _loss(chosen: pd.DataFrame) -> Interval:
    """Return the accuracy lost to the start model, paired; no limits for one start model."""
    if chosen.empty:
        return _NONE
    return over_starts(chosen["start_accuracy"] - chosen[ACCURACY], list(chosen["start"]))
