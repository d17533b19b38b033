"""Which model stands at each value that varies, and its number: what ``by_value`` draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError
from workflow_scripts.results.figures._points import check_option
from workflow_scripts.results.intervals import student
from workflow_scripts.results.selection import (
    HONEST_RULES,
    best_below,
    honest_choice,
    honest_rules,
)

RULES = ("best_below", *HONEST_RULES, "start")
_REFERENCES = ("start", "baseline")
_PERCENTS = ("percent", "low_percent", "high_percent")


@dataclass(frozen=True)
class Chooser:
    """Applies the selection rules to the models of each value and series.

    Args:
        references: Start models and baselines, as ``_points.references`` gives them.
        rules: Of ``RULES``; the baselines are chosen as well, where there are any.
        y: ``accuracy`` or ``asr``: the number of the chosen model.
        over: Columns such as ``seed``: choose for each of their values, and take the mean.
        asr_below: The low ASR of ``best_below``, a fraction.
        tolerance: What an honest rule may lose to the start model's accuracy, a fraction.
    """

    references: pd.DataFrame
    rules: Sequence[str]
    y: str
    over: Sequence[str]
    asr_below: float
    tolerance: float

    def by_value(self, shown: pd.DataFrame, value: str) -> pd.DataFrame:
        """Return what a panel of the models ``shown`` draws: a row for rule, series and value.

        Raises:
            StepError: There is no such rule, or the metrics lack the loss that it goes by.
        """
        for rule in self.rules:
            check_option("select", rule, RULES)
            if rule in HONEST_RULES and rule not in honest_rules(shown):
                raise StepError(f"no model has the held-out loss that {rule!r} would choose by")
        own = self.references[self.references["start"].isin(shown["start"])]
        rules = [*self.rules, *(["baseline"] if "baseline" in set(own["role"]) else [])]
        rows = []
        for rule in rules:
            # The start model is the same whatever cleans it.
            models = shown.assign(series="") if rule in _REFERENCES else shown
            for (series, at), group in models.groupby(["series", value], sort=False):
                row = {"series": series, "rule": rule, "value": at}
                number = self._number(group, rule)
                # A start model without a twin lacks nothing.
                if rule != "baseline" or not np.isnan(number["percent"]):
                    rows.append(row | number)
        return pd.DataFrame(rows)

    def _number(self, group: pd.DataFrame, rule: str) -> dict[str, Any]:
        over = list(self.over)
        parts = [part for _, part in group.groupby(over, sort=False)] if over else [group]
        picks = [pick for part in parts if (pick := self._pick(part, rule)) is not None]
        alone = len(picks) == 1
        row = {
            "run": picks[0]["run"] if alone else "",
            "epoch": picks[0]["epoch"] if alone else None,
            "chosen": f"{len(picks)} of {len(parts)}",
        }
        if not picks:
            return row | dict.fromkeys(_PERCENTS, np.nan)
        ends: Sequence[Any] = [picks[0][f"{self.y}{end}"] for end in ("", "_low", "_high")]
        if over:
            ends = student([pick[self.y] for pick in picks])
        return row | {name: 100 * float(x) for name, x in zip(_PERCENTS, ends, strict=True)}

    def _pick(self, models: pd.DataFrame, rule: str) -> pd.Series | None:
        own = self.references[self.references["start"].isin(models["start"])]
        if rule in _REFERENCES:
            found = own[own["role"] == rule]
            return None if found.empty else found.iloc[0]
        if rule == "best_below":
            label = best_below(models, self.asr_below)
        else:
            starts = own.loc[own["role"] == "start", "accuracy"]
            before = float(starts.iloc[0]) if len(starts) else np.nan
            label = honest_choice(rule, models, before, self.tolerance)
        return None if label is None else models.loc[label]
