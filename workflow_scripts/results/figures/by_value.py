"""The chosen model against a value that varies: best accuracy with a low ASR by SSL weight, ..."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import style
from workflow_scripts.results.figures import _marks as marks
from workflow_scripts.results.figures._panels import Panels
from workflow_scripts.results.figures._points import check_column, grouped, points
from workflow_scripts.results.intervals import student
from workflow_scripts.results.selection import (
    best_below,
    cleaned_models,
    highest_accuracy,
    start_models,
)
from workflow_scripts.results.text import column_text, threshold_text, value_text

SHARES = {"accuracy": "Zero-shot accuracy (%)", "asr": "Attack success rate (%)"}
RULES = ("best_below", "highest_accuracy", "start")
NUMBERS = (
    "panel", "series", "rule", "value", "percent", "low_percent", "high_percent", "run", "epoch",
    "chosen",
)  # fmt: skip
_LINES = ("-", "--", ":")
_LOG = 20  # the factor from which on an axis is logarithmic
_MOST_TICKS = 9
_START = style.Look(style.START, "*", ":", True)


def draw(
    metrics: pd.DataFrame,
    *,
    value: str,
    y: str = "accuracy",
    select: str | Sequence[str] = "best_below",
    by: str = "defence",
    column: str | None = "start_label",
    row: str | None = None,
    asr_below: float = 0.05,
    tolerance: float = 1.0,
    over: str | None = None,
    log: bool | None = None,
    order: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    share_y: bool = True,
    width: float = style.WIDTH,
    panel_height: float | None = None,
) -> Figure:
    """Draw one number of the chosen model against ``value``, with 95 % intervals.

    Args:
        metrics: The tidy table.
        value: The column on the x axis, e.g. ``objective.ssl``; numbers or names.
        y: ``accuracy`` or ``asr`` of the chosen model.
        select: Which model, or several: ``best_below`` (highest accuracy with a low ASR),
            ``highest_accuracy`` (which a defender can find), ``start`` (before cleaning).
        by: What the lines of a panel tell apart.
        column: What the panels differ in; panels wrap into lines unless there is a ``row``.
        row: What lines of panels differ in.
        asr_below: The low ASR, a fraction.
        tolerance: ``highest_accuracy`` may lose so much to the start model, a fraction.
        over: A column such as ``seed``: choose for each, draw the mean and its interval.
        log: A logarithmic x axis; None: where positive numbers span a factor of 20 or more.
        order: Values of ``by`` in the legend's order; each keeps its look where one is missing.
        labels: Words for columns and values.
        share_y: All panels have the same scale.
        width: Inches of the figure.
        panel_height: Inches of a panel.

    Raises:
        StepError: An option's value is none of those there are, or there is nothing to draw.
    """
    rules = [select] if isinstance(select, str) else list(select)
    _check(y, tuple(SHARES), "y")
    for rule in rules:
        _check(rule, RULES, "select")
    for key in (value, *([over] if over else [])):
        check_column(metrics, key)
    table = points(metrics)
    cleaned, starts = cleaned_models(table), start_models(table)
    cleaned, looks = grouped(cleaned, by, labels, order)
    panels = Panels(cleaned, column, row, labels, width=width, height=panel_height, share_y=share_y)
    keys = [marks.handle(name, look) for name, look in looks.items()]
    looks[""] = _START
    scale = _Scale(cleaned[value], log, labels)
    choose = _Chooser(starts, asr_below, tolerance)
    drawn = []
    for panel in panels:
        chosen = choose.numbers(cleaned.loc[panel.rows], rules, value, y, over)
        drawn.append(chosen.assign(panel=panel.name))
        for place, ((name, rule), rows) in enumerate(
            chosen.groupby(["series", "rule"], sort=False)
        ):
            _line(panel.axes, rows, scale, looks[name], _LINES[rules.index(rule) % 3], place=place)
        scale.ticks(panel.axes)
        panels.heading(panel)
    numbers = pd.concat(drawn)[list(NUMBERS)].reset_index(drop=True)
    _fit(panels, drawn, share_y)
    panels.axis_texts(column_text(value, labels), SHARES[y])
    others = [_rule_key(rule, rules, asr_below) for rule in rules]
    if numbers["percent"].isna().any():
        others.append(_none_key())
    panels.legend(keys, others, column_text(by, labels))
    panels.figure.numbers = numbers
    return panels.figure


def _check(value: str, there: Sequence[str], option: str) -> None:
    if value not in there:
        raise StepError(f"the option {option!r} is {value!r}; it must be {', '.join(there)}")


class _Chooser:
    """Applies the selection rules to the models of each value and series."""

    def __init__(self, starts: pd.DataFrame, asr_below: float, tolerance: float) -> None:
        self.starts = starts
        self.asr_below = asr_below
        self.tolerance = tolerance

    def numbers(
        self, shown: pd.DataFrame, rules: Sequence[str], value: str, y: str, over: str | None
    ) -> pd.DataFrame:
        """Return what a panel draws: a row for each rule, series and value."""
        rows = []
        for rule in rules:
            # The start model is the same whatever cleans it.
            models = shown.assign(series="") if rule == "start" else shown
            for (series, at), group in models.groupby(["series", value], sort=False):
                rows.append({"series": series, "rule": rule, "value": at}
                            | self._number(group, rule, y, over))  # fmt: skip
        return pd.DataFrame(rows)

    def _number(self, group: pd.DataFrame, rule: str, y: str, over: str | None) -> dict[str, Any]:
        parts = [part for _, part in group.groupby(over, sort=False)] if over else [group]
        picks = [self._pick(part, rule) for part in parts]
        found = [pick for pick in picks if pick is not None]
        if not found:
            return {"percent": np.nan, "low_percent": np.nan, "high_percent": np.nan,
                    "run": "", "epoch": None, "chosen": f"0 of {len(picks)}"}  # fmt: skip
        first = found[0]
        ends = (first[y], first[f"{y}_low"], first[f"{y}_high"])
        if over:
            ends = student([pick[y] for pick in found])
        percents = dict(
            zip(
                ("percent", "low_percent", "high_percent"),
                (100 * np.array(ends)).tolist(),
                strict=True,
            )
        )
        alone = {"run": first["run"], "epoch": first["epoch"]} if len(found) == 1 else {}
        return {"run": "", "epoch": None} | percents | alone | {
            "chosen": f"{len(found)} of {len(picks)}"
        }  # fmt: skip

    def _pick(self, models: pd.DataFrame, rule: str) -> pd.Series | None:
        start = self.starts[self.starts["start"].isin(models["start"])]
        if rule == "start":
            return None if start.empty else start.iloc[0]
        if rule == "best_below":
            label = best_below(models, self.asr_below)
        else:
            accuracy = start["accuracy"].iloc[0] if len(start) else np.nan
            label = highest_accuracy(models, accuracy, self.tolerance)
        return None if label is None else models.loc[label]


class _Scale:
    """The x axis: a place for each value."""

    def __init__(
        self, values: pd.Series, log: bool | None, labels: Mapping[str, str] | None
    ) -> None:
        there = values.dropna()
        self.numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(
            values
        )
        self.values = sorted(there.unique()) if self.numeric else list(dict.fromkeys(there))
        if not self.values:
            raise StepError(f"the column {values.name!r} is empty: no run has a value to draw at")
        positive = self.numeric and self.values[0] > 0
        if log and not positive:
            raise StepError(f"{values.name!r} cannot be drawn on a logarithmic axis")
        self.log = positive and self.values[-1] / self.values[0] >= _LOG if log is None else log
        self.texts = [value_text(value, labels) for value in self.values]

    def places(self, values: pd.Series) -> list[float]:
        """Return where values stand on the axis."""
        return [float(v) if self.numeric else float(self.values.index(v)) for v in values]

    def ticks(self, axes: Axes) -> None:
        """Write the values themselves on the axis, if there is room for all."""
        if self.log:
            axes.set_xscale("log")
        if not self.numeric or len(self.values) <= _MOST_TICKS:
            axes.set_xticks(self.places(pd.Series(self.values)), self.texts)
            axes.minorticks_off()
            if not self.numeric and max(map(len, self.texts)) > 8:
                axes.tick_params(axis="x", labelrotation=30)
        axes.margins(x=0.08)
        axes.grid(True)


def _line(
    axes: Axes, rows: pd.DataFrame, scale: _Scale, look: style.Look, line: str, *, place: int
) -> None:
    if scale.numeric:
        rows = rows.sort_values("value")
    x, y = np.array(scale.places(rows["value"])), rows["percent"].to_numpy(float)
    there = ~np.isnan(y)
    ends = rows[["low_percent", "high_percent"]].to_numpy(float).clip(0, 100).T
    half = np.clip(np.array([y - ends[0], ends[1] - y]), 0, None)
    axes.errorbar(
        x, y, yerr=half, color=look.colour, linestyle=line, linewidth=1.0,
        elinewidth=0.7, capsize=2, capthick=0.7, marker=look.marker,
        markersize=9 if look is _START else 5, markerfacecolor=look.face,
        markeredgecolor="black" if look is _START else look.colour, markeredgewidth=0.8, zorder=3,
    )  # fmt: skip
    for n in np.flatnonzero(there):
        found, _, asked = rows["chosen"].iloc[n].partition(" of ")
        if found != asked:
            axes.annotate(
                f"{found} of {asked}", (x[n], y[n]), (6, 3), textcoords="offset points", fontsize=6
            )
    # Each series has its own height, so that crosses at one value can be told apart.
    axes.scatter(
        x[~there], np.full((~there).sum(), 0.04 + 0.06 * place), s=22, marker="x",
        color=look.colour, linewidths=1.1, transform=axes.get_xaxis_transform(), clip_on=False,
    )  # fmt: skip
    for at in x[~there]:
        axes.plot(
            at, 0.04 + 0.06 * place, marker=look.marker, markersize=8, markerfacecolor="none",
            markeredgecolor=look.colour, markeredgewidth=0.6, transform=axes.get_xaxis_transform(),
        )  # fmt: skip


def _fit(panels: Panels, drawn: Sequence[pd.DataFrame], share_y: bool) -> None:
    for panel, own in zip(panels, drawn, strict=True):
        table = pd.concat(drawn) if share_y else own
        ends = table[["percent", "low_percent", "high_percent"]].to_numpy(float).clip(0, 100)
        if np.isnan(ends).all():
            panel.axes.set_ylim(0, 100)
            continue
        low, high = np.nanmin(ends), np.nanmax(ends)
        # Room below for the crosses, one line for each series.
        lines = table.loc[table["percent"].isna(), "series"].nunique()
        pad = max(1.0, 0.08 * (high - low))
        panel.axes.set_ylim(low - pad * (1 + lines), high + pad)


def _rule_key(rule: str, rules: Sequence[str], asr_below: float) -> Line2D:
    if rule == "start":
        return marks.star_handle()
    text = {
        "best_below": f"Best with ASR < {threshold_text(asr_below)}",
        "highest_accuracy": "Highest clean accuracy",
    }[rule]
    return Line2D([], [], color=style.INK, linewidth=1, linestyle=_LINES[rules.index(rule) % 3],
                  label=text)  # fmt: skip


def _none_key() -> Line2D:
    return Line2D([], [], linestyle="none", marker="x", markersize=5, color=style.INK,
                  label="No such model")  # fmt: skip
