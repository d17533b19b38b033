"""Which of several models a rule of selection chooses, of rows in the metrics' columns.

The trainer keeps what these rules would choose, and the tables report what they choose.
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
"""Thresholds of the table of the best models, fractions."""
TOLERANCE = 0.01
"""Accuracy that its other rules may lose to the start model, a fraction."""
_LOWEST = "lowest_"
HONEST_RULES = ("highest_accuracy", *(_LOWEST + column for column in HELDOUT_COLUMNS))


def criterion(rule: str) -> str:
    """Return the column that one of ``HONEST_RULES`` ranks models by."""
    return ACCURACY if rule == "highest_accuracy" else rule.removeprefix(_LOWEST)


def best_below(rows: Rows, asr_below: float) -> int | None:
    """Choose the highest accuracy with ASR < ``asr_below`` (a fraction): oracle selection.

    Returns:
        The place in ``rows``: of equally accurate models that of the one with the lower ASR, then
        of the first. None if no model qualifies.

    Raises:
        StepError: ``asr_below`` is not a fraction.
    """
    if not isinstance(asr_below, int | float) or not 0 < asr_below <= 1:
        raise StepError(f"an ASR to stay below is a fraction such as 0.05, not {asr_below!r}")
    low = [place for place, row in enumerate(rows) if row[ASR] < asr_below]
    known = [place for place in low if not math.isnan(rows[place][ACCURACY])]
    return min(known, key=lambda place: (-rows[place][ACCURACY], rows[place][ASR]), default=None)


def honest_choice(rule: str, rows: Rows, start_accuracy: float, tolerance: float) -> int | None:
    """Choose without knowledge of the attack, by one of ``HONEST_RULES``: oracle-free selection.

    Among the models whose accuracy is within ``tolerance`` of the start model's, a rule selects the
    highest clean accuracy or the lowest loss on held-out pairs. Ties go to the first model: a
    better way to break them would have to use the ASR.
    """
    column = criterion(rule)
    sign = -1 if column == ACCURACY else 1
    within = [p for p, row in enumerate(rows) if row[ACCURACY] >= start_accuracy - tolerance]
    known = [p for p in within if not math.isnan(rows[p].get(column, math.nan))]
    return min(known, key=lambda place: sign * rows[place][column], default=None)


def all_choices(rows: Rows, start_accuracy: float) -> dict[str, int | None]:
    """Return what each rule of the table of the best models chooses, by the rule's name."""
    oracle = {oracle_rule(below): best_below(rows, below) for below in ASR_BELOW}
    honest = {rule: honest_choice(rule, rows, start_accuracy, TOLERANCE) for rule in HONEST_RULES}
    return oracle | honest


def most_chosen(epochs: int, held_out: int) -> int:
    """Return how many epochs before the last one :func:`all_choices` can choose of a run."""
    rules = len(ASR_BELOW) + (len(HONEST_RULES) if held_out else 1)
    return min(rules, max(epochs - 1, 0))


def oracle_rule(asr_below: float) -> str:
    """Return the name of :func:`best_below` with a threshold."""
    return f"best_asr_below_{asr_below:g}"
