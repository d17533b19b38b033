"""Which of the models that were looked at is chosen: by one who knows the trigger, or not.

Each rule takes the models of one start model and one defence (rows of the tidy table) and
returns the index label of its choice, or None where no model qualifies.
"""

import math
from collections.abc import Hashable

import pandas as pd

from workflow_scripts.common.errors import StepError
from workflow_scripts.results.table import HELDOUT_COLUMNS

ACCURACY = "top1"
ASR = "asr_top1"
RECOVERY = "triggered_top1"
_LOWEST = "lowest_"
HONEST_RULES = ("highest_accuracy", *(_LOWEST + column for column in HELDOUT_COLUMNS))


def best_below(models: pd.DataFrame, asr_below: float) -> Hashable | None:
    """Choose the highest accuracy with ASR < ``asr_below`` (a fraction): peeks at the ASR.

    Of equally accurate models the one with the lower ASR, then the first in the table.

    Raises:
        StepError: ``asr_below`` is no fraction.
    """
    if not isinstance(asr_below, int | float) or not 0 < asr_below <= 1:
        raise StepError(f"an ASR to stay below is a fraction such as 0.05, not {asr_below!r}")
    qualified = models[models[ASR] < asr_below].dropna(subset=[ACCURACY])
    ranked = qualified.sort_values([ACCURACY, ASR], ascending=[False, True], kind="stable")
    return None if ranked.empty else ranked.index[0]


def honest_choice(
    rule: str, models: pd.DataFrame, start_accuracy: float, tolerance: float
) -> Hashable | None:
    """Choose as a defender can who does not know the trigger: one of ``HONEST_RULES``.

    Of the models whose accuracy is within ``tolerance`` of the start model's, the one with the
    highest clean accuracy, or with the lowest loss on held-out pairs. Ties go to the first in
    the table, because any other way to break them that helps would look at the ASR.
    """
    if math.isnan(start_accuracy):
        return None
    within = models[models[ACCURACY] >= start_accuracy - tolerance]
    if rule == "highest_accuracy":
        return None if within.empty else within[ACCURACY].idxmax()
    losses = within[rule.removeprefix(_LOWEST)].dropna()
    return None if losses.empty else losses.idxmin()


def honest_rules(models: pd.DataFrame) -> list[str]:
    """Return those of ``HONEST_RULES`` that the table has numbers for."""
    there = {rule: rule.removeprefix(_LOWEST) for rule in HONEST_RULES}
    there["highest_accuracy"] = ACCURACY
    return [rule for rule, c in there.items() if c in models.columns and models[c].notna().any()]


def cleaned_models(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the cleaned models: the epochs from 1 on of cleaning runs (0 is the start).

    Of a run that trained for no epoch, it is the start model as its start_change left it.
    """
    return metrics[(metrics["kind"] == "cleaning") & ~_before_training(metrics)]


def _before_training(metrics: pd.DataFrame) -> pd.Series:
    """Return which rows are epoch 0 of a run that has more epochs."""
    last = metrics.groupby("run", sort=False)["epoch"].transform("max")
    return (metrics["epoch"] == 0) & (last > 0)


def start_models(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each start model, in order of appearance.

    It is the last epoch of the start's own run where the table has it; otherwise epoch 0 of
    the first run that trains it. Start models which nobody cleans are included.
    """
    own = metrics[metrics["kind"] == "pretraining"]
    own = own.loc[own.groupby("run", sort=False)["epoch"].idxmax()] if len(own) else own
    before = metrics[(metrics["kind"] == "cleaning") & _before_training(metrics)]
    both = pd.concat([own, before]).drop_duplicates("start")
    appearance = {start: n for n, start in enumerate(metrics["start"].drop_duplicates())}
    return both.sort_values("start", key=lambda s: s.map(appearance), kind="stable")


def baseline_models(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the last epoch of the model without poison that is the twin of each start model.

    ``start`` is the poisoned start; one model without poison may be the twin of several.
    """
    twins = metrics[metrics["kind"] == "baseline"]
    return twins.sort_values("epoch", kind="stable").drop_duplicates("start", keep="last")
