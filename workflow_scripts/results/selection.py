"""Model selection with the ASR (oracle) and without it (oracle-free).

Each rule takes the models of one start model and one defence (rows of the tidy table) and
returns the index label of the selected model, or None if no model qualifies.
"""

from collections.abc import Hashable

import pandas as pd

from workflow_scripts.common import selection_rules
from workflow_scripts.common.selection_rules import ACCURACY, ASR, ORACLE_FREE_RULES, criterion

RECOVERY = "triggered_top1"


def with_scores(metrics: pd.DataFrame, accuracy: str, asr: str) -> pd.DataFrame:
    """Return a table whose ``top1`` and ``asr_top1``, which the rules use, are other columns."""
    return metrics.assign(**{ACCURACY: metrics[accuracy], ASR: metrics[asr]})


def best_below(models: pd.DataFrame, asr_below: float) -> Hashable | None:
    """Apply :func:`workflow_scripts.common.selection_rules.best_below` to a table."""
    return _label(models, selection_rules.best_below(_rows(models), asr_below))


def oracle_free_choice(
    rule: str, models: pd.DataFrame, start_accuracy: float, tolerance: float
) -> Hashable | None:
    """Apply :func:`workflow_scripts.common.selection_rules.oracle_free_choice` to a table."""
    return _label(
        models, selection_rules.oracle_free_choice(rule, _rows(models), start_accuracy, tolerance)
    )


def _rows(models: pd.DataFrame) -> list[dict]:
    columns = {ACCURACY, ASR, *map(criterion, ORACLE_FREE_RULES)} & set(models.columns)
    return models[sorted(columns)].to_dict("records")


def _label(models: pd.DataFrame, place: int | None) -> Hashable | None:
    return None if place is None else models.index[place]


def oracle_free_rules(models: pd.DataFrame) -> list[str]:
    """Return the ``ORACLE_FREE_RULES`` whose criterion the table contains."""
    criteria = {rule: criterion(rule) for rule in ORACLE_FREE_RULES}
    return [rule for rule, c in criteria.items() if c in models.columns and models[c].notna().any()]


def at_edge(models: pd.DataFrame, model: pd.Series) -> bool:
    """Return whether a model's learning rate is the lowest or the highest of three or more."""
    rates = models["learning_rate"].dropna().unique()
    return len(rates) > 2 and model["learning_rate"] in (rates.min(), rates.max())


def cleaned_models(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the cleaned models: all epochs of cleaning runs from 1 on (0 is the start model).

    Epoch 0 is included for runs without training: it is the model after ``start_change``.
    """
    return metrics[(metrics["kind"] == "cleaning") & ~_before_training(metrics)]


def _before_training(metrics: pd.DataFrame) -> pd.Series:
    """Return a mask of the rows that are epoch 0 of a run with further epochs."""
    last = metrics.groupby("run", sort=False)["epoch"].transform("max")
    return (metrics["epoch"] == 0) & (last > 0)


def start_models(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return one row per start model and pre-training run, in order of appearance.

    The row is the last epoch of the start model if the table contains it, otherwise epoch 0 of its
    first cleaning run. Start models without cleaning runs are included.
    """
    own = metrics[metrics["kind"] == "pretraining"]
    own = own.loc[own.groupby(["start", "run"], sort=False)["epoch"].idxmax()] if len(own) else own
    before = metrics[(metrics["kind"] == "cleaning") & _before_training(metrics)]
    before = before[~before["start"].isin(own["start"])].drop_duplicates("start")
    both = pd.concat([own, before])
    appearance = {start: n for n, start in enumerate(metrics["start"].drop_duplicates())}
    return both.sort_values("start", key=lambda s: s.map(appearance), kind="stable")


def baseline_models(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the last epoch of the clean control of each start model.

    ``start`` is the poisoned start model; several may share a clean control.
    """
    controls = metrics[metrics["kind"] == "baseline"]
    return controls.sort_values("epoch", kind="stable").drop_duplicates("start", keep="last")
