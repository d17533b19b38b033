"""Which of the models that were looked at is chosen: by one who knows the trigger, or not.

Each rule takes the models of one start model and one defence (rows of the tidy table) and
returns the index label of its choice, or None where no model qualifies.
"""

from collections.abc import Hashable

import pandas as pd

from workflow_scripts.common import choosing
from workflow_scripts.common.choosing import ACCURACY, ASR, HONEST_RULES, criterion

RECOVERY = "triggered_top1"


def best_below(models: pd.DataFrame, asr_below: float) -> Hashable | None:
    """Choose as :func:`workflow_scripts.common.choosing.best_below` does."""
    return _label(models, choosing.best_below(_rows(models), asr_below))


def honest_choice(
    rule: str, models: pd.DataFrame, start_accuracy: float, tolerance: float
) -> Hashable | None:
    """Choose as :func:`workflow_scripts.common.choosing.honest_choice` does."""
    return _label(models, choosing.honest_choice(rule, _rows(models), start_accuracy, tolerance))


def _rows(models: pd.DataFrame) -> list[dict]:
    columns = {ACCURACY, ASR, *map(criterion, HONEST_RULES)} & set(models.columns)
    return models[sorted(columns)].to_dict("records")


def _label(models: pd.DataFrame, place: int | None) -> Hashable | None:
    return None if place is None else models.index[place]


def honest_rules(models: pd.DataFrame) -> list[str]:
    """Return those of ``HONEST_RULES`` that the table has numbers for."""
    there = {rule: criterion(rule) for rule in HONEST_RULES}
    return [rule for rule, c in there.items() if c in models.columns and models[c].notna().any()]


def at_edge(models: pd.DataFrame, model: pd.Series) -> bool:
    """Tell whether a model's learning rate is the first or the last of three or more tried."""
    rates = models["learning_rate"].dropna().unique()
    return len(rates) > 2 and model["learning_rate"] in (rates.min(), rates.max())


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
