"""Which of the models that were looked at is chosen: by one who knows the trigger, or not.

Each rule takes the models of one start model and one defence (rows of the tidy table) and
returns the index label of its choice, or None where no model qualifies.
"""

import math
from collections.abc import Hashable

import pandas as pd

from workflow_scripts.common.errors import StepError

ACCURACY = "top1"
ASR = "asr_top1"


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


def highest_accuracy(
    models: pd.DataFrame, start_accuracy: float, tolerance: float
) -> Hashable | None:
    """Choose the highest clean accuracy, if within ``tolerance`` of the start model's.

    What a defender can do who does not know the trigger. Ties go to the first in the table,
    because any other way to break them that helps would look at the ASR.
    """
    qualified = _within(models, start_accuracy, tolerance)[ACCURACY].dropna()
    return None if qualified.empty else qualified.idxmax()


def lowest(
    models: pd.DataFrame, column: str, start_accuracy: float, tolerance: float
) -> Hashable | None:
    """Choose the lowest ``column`` (a loss on held-out pairs) within ``tolerance`` likewise.

    Raises:
        StepError: The table has no such column.
    """
    if column not in models.columns:
        raise StepError(f"the metrics have no column {column!r} to choose the lowest of")
    qualified = _within(models, start_accuracy, tolerance)[column].dropna()
    return None if qualified.empty else qualified.idxmin()


def _within(models: pd.DataFrame, start_accuracy: float, tolerance: float) -> pd.DataFrame:
    if math.isnan(start_accuracy):
        return models.iloc[:0]
    return models[models[ACCURACY] >= start_accuracy - tolerance]


def cleaned_models(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the cleaned models: the epochs from 1 on of cleaning runs (0 is the start)."""
    return metrics[(metrics["kind"] == "cleaning") & (metrics["epoch"] >= 1)]


def start_models(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each start model, in order of appearance.

    It is the last epoch of the start's own run where the table has it; otherwise epoch 0 of
    the first run that cleans it. Start models which nobody cleans are included.
    """
    own = metrics[metrics["kind"] == "pretraining"]
    own = own.loc[own.groupby("run", sort=False)["epoch"].idxmax()] if len(own) else own
    before = metrics[(metrics["kind"] == "cleaning") & (metrics["epoch"] == 0)]
    both = pd.concat([own, before]).drop_duplicates("start")
    appearance = {start: n for n, start in enumerate(metrics["start"].drop_duplicates())}
    return both.sort_values("start", key=lambda s: s.map(appearance), kind="stable")
