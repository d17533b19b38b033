"""The leaderboard: each defence by its worst attack, after the same sweep, with a verdict.

A row is one defence (with its settings) on one kind of start model after one sweep (its budget):
trials, each a learning rate or another setting of the defence's own sweep, times epochs and pairs.
A selection rule picks one model per replicate: a start model, a clean split and a cleaning seed.
The attack with the worst verdict is reported; among these, one that exceeds a limit on average or
for which the rule finds no model, then the one with the highest mean ASR. Intervals are 95 %
intervals over start models and seeds (hierarchical bootstrap), at least as wide as the binomial
interval over the images, which all models share.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.intervals import binomial
from workflow_scripts.common.selection_rules import TOLERANCE
from workflow_scripts.results.index.runs import NO_ATTACK
from workflow_scripts.results.replicates import over_starts, start_means
from workflow_scripts.results.selection import (
    ACCURACY,
    ASR,
    RECOVERY,
    best_below,
    oracle_free_choice,
    oracle_free_rules,
)
from workflow_scripts.results.selection import (
    at_edge as is_at_edge,
)

ASR_LIMIT = 0.05
LOSS_LIMIT = 0.02
_GROUP = ["defence", "setting", "start_label", "dataset", "epochs", "pairs"]
REPLICATE = ["attack", "start", "split", "seed"]
_ORDER = {"holds": 0, "undecided": 1, "fails": 2}
Interval = tuple[float, float, float]
_NONE: Interval = (np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Outcome:
    """The models selected by one rule under one attack.

    ``before`` are the mean accuracy and ASR of the start models. ``accuracy``, ``asr`` and ``loss``
    (accuracy lost to the start model) are value, lower and upper limit, fractions. The rule
    selected a model in ``chosen`` of ``replicates`` replicates of ``starts`` start models;
    ``picked`` lists run, trial and epoch of each, ``picks`` their rows.
    """

    attack: str
    before: tuple[float, float]
    accuracy: Interval
    asr: Interval
    loss: Interval
    recovery: float
    chosen: int
    replicates: int
    starts: int
    at_edge: bool
    picked: tuple[tuple[str, str, int], ...]
    picks: pd.DataFrame

    @property
    def verdict(self) -> str:
        """``holds``, ``fails`` or ``undecided``."""
        # The start model is the unit of replication, so one does not allow a verdict.
        if self.starts < 2:
            return "undecided"
        if self.chosen < self.replicates or self.asr[1] > ASR_LIMIT or self.loss[1] > LOSS_LIMIT:
            return "fails"
        certain = self.asr[2] <= ASR_LIMIT and self.loss[2] <= LOSS_LIMIT
        return "holds" if certain else "undecided"

    @property
    def meets(self) -> bool:
        """Whether the means are within both limits, regardless of their intervals."""
        within = self.asr[0] <= ASR_LIMIT and self.loss[0] <= LOSS_LIMIT
        return self.chosen == self.replicates > 0 and within


def leaderboard(models: pd.DataFrame, starts: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row per defence, setting, kind of start model and budget, the best first.

    Args:
        models: Cleaned models: the tidy table with the columns of ``runs.runs_frame``.
        starts: Start models, indexed by run id: ``top1`` and ``asr_top1``.

    Returns:
        The columns of ``_GROUP``, ``trials`` (their number), ``knowledge``, ``attacks`` (texts),
        ``unlearned`` (excluded attacks, not learned by the start models), ``replicates``, mean
        ``hours`` and tower ``passes`` per replicate, ``oracle`` and ``free`` (:class:`Outcome` of
        the worst attack), ``clean`` (oracle-free :class:`Outcome` on clean controls, or None),
        ``picks`` (the selected models under all attacks, by rule), ``runs``.
    """
    before = models["start"].map(starts[ACCURACY])
    asr = models["start"].map(starts[ASR])
    learned = (asr >= ASR_LIMIT) & (models["attack"] != NO_ATTACK)
    table = models.assign(start_accuracy=before, start_asr=asr, learned=learned)
    rows = [
        _row(dict(zip(_GROUP, values, strict=True)), trials, part)
        for values, group in table.groupby(_GROUP, sort=False, dropna=False)
        for trials, part in _at_equal_budget(group)
    ]

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        free, oracle = row["free"], row["oracle"]
        low = np.nan_to_num(oracle.asr[0], nan=2)
        within = not free.meets, not oracle.meets
        return (
            _ORDER[free.verdict],
            _ORDER[oracle.verdict],
            *within,
            low > ASR_LIMIT,
            -oracle.accuracy[0],
        )

    return sorted((row for row in rows if row["attacks"]), key=key)


def _at_equal_budget(group: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield, for each distinct set of trials, the models of all replicates that have it."""
    sweeps = {key: frozenset(part["trial"]) for key, part in group.groupby(REPLICATE, sort=False)}
    for trials in sorted(set(sweeps.values()), key=lambda t: (-len(t), sorted(t))):
        having = {key for key, sweep in sweeps.items() if sweep >= trials}
        keys = pd.MultiIndex.from_frame(group[REPLICATE])
        chosen = keys.isin(list(having)) & group["trial"].isin(trials)
        yield len(trials), group[chosen]


def _row(keys: dict[str, Any], trials: int, models: pd.DataFrame) -> dict[str, Any]:
    learned, missed = models[models["learned"]], models[~models["learned"]]
    clean = missed[missed["attack"] == NO_ATTACK]
    replicates = learned[REPLICATE].drop_duplicates()
    runs = models.drop_duplicates("run")
    cost = runs.groupby(REPLICATE)[["hours", "passes"]].sum(min_count=1).mean()
    rules = oracle_free_rules(models)
    free = "lowest_heldout_mmcl" if "lowest_heldout_mmcl" in rules else "highest_accuracy"
    by_attack = list(learned.groupby("attack", sort=False))
    found = {
        name: [_outcome(attack, part, rule) for attack, part in by_attack]
        for name, rule in (("oracle", "oracle"), ("free", free))
    }
    return keys | {
        "trials": trials,
        "knowledge": ", ".join(filter(None, dict.fromkeys(models["knowledge"]))),
        "attacks": list(dict.fromkeys(learned["attack"])),
        "unlearned": [attack for attack in dict.fromkeys(missed["attack"]) if attack != NO_ATTACK],
        "replicates": len(replicates),
        "hours": float(cost["hours"]),
        "passes": float(cost["passes"]),
        "oracle": _worst(found["oracle"]),
        "free": _worst(found["free"]),
        "clean": _outcome(NO_ATTACK, clean, free) if len(clean) else None,
        "picks": {
            rule: pd.concat([one.picks for one in outcomes]) if outcomes else pd.DataFrame()
            for rule, outcomes in found.items()
        },
        "runs": list(runs["run"]),
    }


def _worst(found: Sequence[Outcome]) -> Outcome | None:
    def badness(one: Outcome) -> tuple[int, bool, bool, float]:
        asr = float(np.nan_to_num(one.asr[0]))
        return _ORDER[one.verdict], not one.meets, one.chosen < one.replicates, asr

    return max(found, key=badness, default=None)


def _outcome(attack: Hashable, models: pd.DataFrame, rule: str) -> Outcome:
    parts = [part for _, part in models.groupby(REPLICATE, sort=False)]
    picks = [(part, part.loc[label]) for part in parts if (label := pick(part, rule)) is not None]
    rows = [row for _, row in picks]
    chosen = pd.DataFrame(rows)
    recovery = [row.get(RECOVERY, np.nan) for row in rows]
    before = models.drop_duplicates("start")[["start_accuracy", "start_asr"]].mean()
    return Outcome(
        attack=str(attack),
        before=(float(before["start_accuracy"]), float(before["start_asr"])),
        accuracy=_interval(chosen, ACCURACY, "images"),
        asr=_interval(chosen, ASR, "asr_images"),
        loss=_loss(chosen),
        recovery=float(np.mean(recovery)) if recovery else np.nan,
        chosen=len(rows),
        replicates=len(parts),
        starts=models["start"].nunique(),
        at_edge=any(is_at_edge(part, row) for part, row in picks),
        picked=tuple((row["run"], row["trial"], int(row["epoch"])) for row in rows),
        picks=chosen,
    )


def pick(models: pd.DataFrame, rule: str) -> Hashable | None:
    """Return the label of the selected model; None if no model qualifies.

    ``oracle`` selects the highest accuracy with an ASR below the limit, or else the lowest ASR.
    Other rules are from ``ORACLE_FREE_RULES``, with the same tolerance as in the table of best
    models and in training.
    """
    if rule == "oracle":
        label = best_below(models, ASR_LIMIT)
        return models[ASR].idxmin() if label is None else label
    return oracle_free_choice(rule, models, float(models["start_accuracy"].iloc[0]), TOLERANCE)


def _interval(chosen: pd.DataFrame, number: str, count: str) -> Interval:
    """Return mean and limits over start models and seeds, at least as wide as over images."""
    if chosen.empty:
        return _NONE
    mean, low, high = over_starts(chosen[number], list(chosen["start"]))
    least, most = _over_images(mean, chosen[count])
    return (
        mean,
        float(np.clip(np.nanmin([low, least]), 0, 1)),
        float(np.clip(np.nanmax([high, most]), 0, 1)),
    )


def _loss(chosen: pd.DataFrame) -> Interval:
    """Return the paired accuracy loss to the start model, with limits as of the accuracy."""
    if chosen.empty:
        return _NONE
    lost = chosen["start_accuracy"] - chosen[ACCURACY]
    mean, low, high = over_starts(lost, list(chosen["start"]))
    accuracy = float(np.mean([*start_means(chosen[ACCURACY], list(chosen["start"])).values()]))
    least, most = _over_images(accuracy, chosen["images"])
    return (
        mean,
        float(np.nanmin([low, mean - (most - accuracy)])),
        float(np.nanmax([high, mean + (accuracy - least)])),
    )


def _over_images(share: float, counts: pd.Series) -> tuple[float, float]:
    # All models are evaluated on the same images, so more models are not more images.
    low, high = binomial(share, counts.astype(float).mean())
    return float(low), float(high)
