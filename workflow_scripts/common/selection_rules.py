"""Model selection rules, applied to rows with the columns of the metrics tables.

The trainer keeps the models that these rules would select, and the tables report their selections.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.common.columns import HELDOUT_COLUMNS
from workflow_scripts.common.errors import StepError

Rows = Sequence[Mapping[str, Any]]

ACCURACY = "top1"
ASR = "asr_top1"
ASR_BELOW = (0.05, 0.10)
"""ASR thresholds of the table of best models (fractions)."""
TOLERANCE = 0.01
"""Drop in accuracy from the start model that oracle-free rules allow in that table (fraction)."""
_LOWEST = "lowest_"
ORACLE_FREE_RULES = ("highest_accuracy", *(_LOWEST + column for column in HELDOUT_COLUMNS))


def criterion(rule: str) -> str:
    """Return the column by which one of ``ORACLE_FREE_RULES`` ranks models."""
    return ACCURACY if rule == "highest_accuracy" else rule.removeprefix(_LOWEST)


def best_below(rows: Rows, asr_below: float) -> int | None:
    """Select the most accurate model with an ASR below a threshold (oracle selection).

    Args:
        rows: One row of metrics per model.
        asr_below: Threshold, a fraction.

    Returns:
        Index into ``rows``; None if no model qualifies. Ties are broken by the lower ASR, then by
        position.

    Raises:
        StepError: ``asr_below`` is not a fraction.
    """
    if not isinstance(asr_below, int | float) or not 0 < asr_below <= 1:
        raise StepError(f"ASR threshold must be in (0, 1], such as 0.05, got {asr_below!r}")
    low = [index for index, row in enumerate(rows) if row[ASR] < asr_below]
    known = [index for index in low if not math.isnan(rows[index][ACCURACY])]
    return min(known, key=lambda index: (-rows[index][ACCURACY], rows[index][ASR]), default=None)


def oracle_free_choice(
    rule: str, rows: Rows, start_accuracy: float, tolerance: float
) -> int | None:
    """Select a model by one of ``ORACLE_FREE_RULES``, without knowledge of the attack.

    Among the models whose accuracy is at most ``tolerance`` (a fraction) below the start model's,
    select the one with the highest accuracy or the lowest loss on held-out pairs. Ties are broken
    by position, since the ASR must not be used.

    Returns:
        Index into ``rows``; None if no model qualifies.
    """
    column = criterion(rule)
    sign = -1 if column == ACCURACY else 1
    within = [p for p, row in enumerate(rows) if row[ACCURACY] >= start_accuracy - tolerance]
    known = [p for p in within if not math.isnan(rows[p].get(column, math.nan))]
    return min(known, key=lambda index: sign * rows[index][column], default=None)


def all_choices(rows: Rows, start_accuracy: float) -> dict[str, int | None]:
    """Return the selection of each rule of the table of best models, by the rule's name."""
    oracle = {oracle_rule(below): best_below(rows, below) for below in ASR_BELOW}
    oracle_free = {
        rule: oracle_free_choice(rule, rows, start_accuracy, TOLERANCE)
        for rule in ORACLE_FREE_RULES
    }
    return oracle | oracle_free


def most_chosen(epochs: int, held_out: int) -> int:
    """Return the largest number of epochs, not counting the last, that the rules can select.

    Args:
        epochs: Epochs of the run.
        held_out: Number of held-out pairs; without any, only one oracle-free rule applies.
    """
    rules = len(ASR_BELOW) + (len(ORACLE_FREE_RULES) if held_out else 1)
    return min(rules, max(epochs - 1, 0))


def oracle_rule(asr_below: float) -> str:
    """Return the name of :func:`best_below` with a threshold."""
    return f"best_asr_below_{asr_below:g}"
