"""Convert the tidy table to points: shares with intervals, and levels of the varied columns."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from workflow_scripts.common.columns import HELDOUT_COLUMNS, MEAN_COLUMN, SCORE_COLUMNS
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.common.intervals import binomial, student
from workflow_scripts.results.formatting import number_text, value_text
from workflow_scripts.results.selection import (
    ACCURACY,
    ASR,
    baseline_models,
    start_models,
    with_scores,
)
from workflow_scripts.results.style import MOST_LEVELS, Look, defence_looks, looks
from workflow_scripts.results.table import varied_columns

RANGES = 6
"""Number of ranges that numeric columns with too many distinct values are binned into."""


def points(
    metrics: pd.DataFrame,
    accuracy: str = ACCURACY,
    asr: str = ASR,
    over: str | Sequence[str] | None = None,
    within: Sequence[str] = ("epoch",),
) -> pd.DataFrame:
    """Return ``metrics`` with ``accuracy``, ``asr`` and the limits of their 95 % intervals added.

    Args:
        metrics: The tidy table.
        accuracy: Column of the accuracy: ``top1``, ``top3``, ...
        asr: Column of the attack success rate: ``asr_top1``, ...; the mean over the parts of an
            attack has no binomial interval.
        over: Column or columns such as ``seed``: rows that differ in nothing else are averaged,
            with Student's interval; their other columns are those of the first row. Otherwise each
            row has the binomial interval.
        within: Columns besides the varied ones that averaged rows have in common.

    Returns:
        The table with fractions in ``accuracy``, ``accuracy_low``, ``accuracy_high``, ``asr`` and
        so on; the columns used by the selection rules (``top1``, ``asr_top1``) are set to the same
        values.

    Raises:
        StepError: The table lacks a column.
    """
    over = [over] if isinstance(over, str) else list(over or [])
    for column in (accuracy, asr, *over):
        check_column(metrics, column)
    table = with_scores(metrics, accuracy, asr)
    if over:
        return _means(table, over, within)
    if asr == MEAN_COLUMN:
        table["asr_images"] = np.nan
    for source, name, count in ((ACCURACY, "accuracy", "images"), (ASR, "asr", "asr_images")):
        share = table[source].to_numpy(float)
        low, high = binomial(share, table[count].to_numpy(float, na_value=np.nan))
        table = table.assign(**{name: share, f"{name}_low": low, f"{name}_high": high})
    return table


def _means(table: pd.DataFrame, over: list[str], within: Sequence[str]) -> pd.DataFrame:
    same = ["kind", "start_label", "defence", "learning_rate", *within]
    same += [c for c in varied_columns(table) if c not in (*over, "experiments")]
    groups = table.groupby(same, sort=False, dropna=False)
    means = groups.first().reset_index()
    numbers = [c for c in (*SCORE_COLUMNS, *HELDOUT_COLUMNS) if c in means]
    means[numbers] = groups[numbers].mean().to_numpy()
    for source, name in ((ACCURACY, "accuracy"), (ASR, "asr")):
        ends = groups[source].agg(student).tolist()
        means[[name, f"{name}_low", f"{name}_high"]] = pd.DataFrame(ends, index=means.index)
    return means.drop(columns=over)


def references(
    metrics: pd.DataFrame,
    accuracy: str = ACCURACY,
    asr: str = ASR,
    over: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the models that cleaned models are compared with, as :func:`points`.

    ``series`` is empty; ``role`` is ``start`` for start models and ``baseline`` for their clean
    controls. Models are averaged even if they were taken from different epochs.
    """
    roles = {"start": start_models(metrics), "baseline": baseline_models(metrics)}
    both = pd.concat([models.assign(role=role) for role, models in roles.items()])
    return points(both, accuracy, asr, over, within=[]).assign(series="")


def of_starts(references: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """Return the ``references`` of the models ``shown``, without duplicates."""
    matching = references[references["start"].isin(shown["start"])]
    return matching.drop_duplicates(["role", "run", "epoch"])


def check_column(table: pd.DataFrame, column: str) -> None:
    """Raise a StepError that lists the available columns if ``table`` lacks ``column``."""
    if column not in table.columns:
        hint = nearest(column, map(str, table.columns))
        raise StepError(f"the metrics have no column {column!r} to draw; {hint}")


def check_option(option: str, value: str, allowed: Sequence[str]) -> None:
    """Raise a StepError that lists the allowed values if ``value`` is not one of them."""
    if value not in allowed:
        raise StepError(f"unknown value {value!r} of {option!r} (available: {', '.join(allowed)})")


def levels(
    table: pd.DataFrame,
    column: str,
    labels: Mapping[str, str] | None = None,
    order: Sequence[object] | None = None,
    most: int = 8,
) -> tuple[pd.Series, list[str], bool]:
    """Return the text of each row's value of ``column``, the ordered texts, and whether numeric.

    Numbers are sorted; other values are in order of appearance, or as given by ``order``. More
    than ``most`` distinct numbers are binned into ranges of adjacent values.

    Raises:
        StepError: The table lacks the column.
    """
    check_column(table, column)
    values = table[column]
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    present = values.dropna()
    distinct = sorted(present.unique()) if numeric else list(dict.fromkeys(present))
    texts = {value: value_text(value, labels) for value in distinct}
    if numeric and len(distinct) > most:
        for part in np.array_split(np.array(distinct), RANGES):
            texts |= dict.fromkeys(part, f"{number_text(part[0])} – {number_text(part[-1])}")
    not_set = value_text(None, labels)
    row_texts = values.map(texts).astype("object").where(values.notna(), not_set)
    ordered = list(dict.fromkeys(texts[value] for value in distinct))
    if values.isna().any():
        ordered.append(not_set)
    if order:
        first = [value_text(value, labels) for value in order]
        ordered.sort(key=lambda text: first.index(text) if text in first else len(first))
    return row_texts, ordered, numeric


def grouped(
    table: pd.DataFrame,
    by: str,
    labels: Mapping[str, str] | None = None,
    order: Sequence[object] | None = None,
) -> tuple[pd.DataFrame, dict[str, Look]]:
    """Return ``table`` with the texts of ``by`` in the column ``series``, and a look for each.

    The looks of values in ``order`` do not depend on which of them the table contains. If no row
    has a value (published points have no learning rate), there is a single series with an empty
    name, which has no legend entry.
    """
    check_column(table, by)
    if table[by].isna().all():
        return table.assign(series=""), looks([""])
    texts, names, numeric = levels(table, by, labels, order)
    reserved = [value_text(value, labels) for value in order or []]
    wanted = list(dict.fromkeys([*reserved, *names]))
    by_name = by == "defence" and not labels and len(wanted) <= MOST_LEVELS
    all_looks = defence_looks(wanted) if by_name else looks(wanted, ordered=numeric)
    return table.assign(series=texts), {name: all_looks[name] for name in names}
