"""Select a model for each varied value, for ``by_value``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.intervals import student
from workflow_scripts.results.figures._points import check_option
from workflow_scripts.results.selection import (
    ORACLE_FREE_RULES,
    best_below,
    oracle_free_choice,
    oracle_free_rules,
)

RULES = ("best_below", *ORACLE_FREE_RULES, "start")
_REFERENCES = ("start", "baseline")
_PERCENTS = ("percent", "low_percent", "high_percent")


@dataclass(frozen=True)
class Chooser:
    """Applies the selection rules to the models of each value and series.

    Args:
        references: Start models and clean controls, as returned by ``_points.references``.
        rules: Names from ``RULES``; clean controls are added if there are any.
        y: Number of the selected model: ``accuracy`` or ``asr``.
        over: Columns such as ``seed``: select for each of their values, and average.
        asr_below: ASR threshold of ``best_below``, a fraction.
        tolerance: Maximum accuracy loss of oracle-free rules, a fraction.
    """

    references: pd.DataFrame
    rules: Sequence[str]
    y: str
    over: Sequence[str]
    asr_below: float
    tolerance: float

    def by_value(self, shown: pd.DataFrame, value: str) -> pd.DataFrame:
        """Return the points of a panel of the models ``shown``: one row per rule, series and value.

        Raises:
            StepError: A rule is unknown, or the metrics lack the loss that it uses.
        """
        for rule in self.rules:
            check_option("select", rule, RULES)
            if rule in ORACLE_FREE_RULES and rule not in oracle_free_rules(shown):
                raise StepError(f"'select': no model has the held-out loss used by {rule!r}")
        matching = self.references[self.references["start"].isin(shown["start"])]
        rules = [*self.rules, *(["baseline"] if "baseline" in set(matching["role"]) else [])]
        rows = []
        for rule in rules:
            models = shown
            places = shown.groupby([value, *self.over], dropna=False)
            # References do not depend on the defence.
            if rule in _REFERENCES and places["start"].nunique().max() <= 1:
                models = shown.assign(series="")
            for (series, at), group in models.groupby(["series", value], sort=False):
                row = {"series": series, "rule": rule, "value": at}
                number = self._number(group, rule)
                # A missing clean control is not marked as missing.
                if rule != "baseline" or not np.isnan(number["percent"]):
                    rows.append(row | number)
        return pd.DataFrame(rows)

    def _number(self, group: pd.DataFrame, rule: str) -> dict[str, Any]:
        over = list(self.over)
        parts = [part for _, part in group.groupby(over, sort=False)] if over else [group]
        picks = [pick for part in parts if (pick := self._pick(part, rule)) is not None]
        single = len(picks) == 1
        row = {
            "run": picks[0]["run"] if single else "",
            "epoch": picks[0]["epoch"] if single else None,
            "chosen": f"{len(picks)} of {len(parts)}",
        }
        if not picks:
            return row | dict.fromkeys(_PERCENTS, np.nan)
        ends: Sequence[Any] = [picks[0][f"{self.y}{end}"] for end in ("", "_low", "_high")]
        if over:
            ends = student([pick[self.y] for pick in picks])
        return row | {name: 100 * float(x) for name, x in zip(_PERCENTS, ends, strict=True)}

    def _pick(self, models: pd.DataFrame, rule: str) -> pd.Series | None:
        if rule != "best_below" and models["start"].nunique() > 1:
            if rule == "baseline":  # drawn unasked
                return None
            raise StepError(
                f"the rule {rule!r} depends on the start model, but several start models have the "
                "same place in the figure; name the column that tells them apart in 'over', "
                "'column' or 'row', or select some of them with 'where'"
            )
        matching = self.references[self.references["start"].isin(models["start"])]
        if rule in _REFERENCES:
            found = matching[matching["role"] == rule]
            return None if found.empty else found.iloc[0]
        if rule == "best_below":
            label = best_below(models, self.asr_below)
        else:
            starts = matching.loc[matching["role"] == "start", "accuracy"]
            before = float(starts.iloc[0]) if len(starts) else np.nan
            label = oracle_free_choice(rule, models, before, self.tolerance)
        return None if label is None else models.loc[label]
