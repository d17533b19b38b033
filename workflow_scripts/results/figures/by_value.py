"""Selected model against a varied value, e.g. best accuracy at a low ASR by SSL weight."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import style
from workflow_scripts.results.best_page import RULE_NAMES
from workflow_scripts.results.figures import _marks as marks
from workflow_scripts.results.figures._choosing import Chooser
from workflow_scripts.results.figures._options import Column, Inches, Rule, Share
from workflow_scripts.results.figures._panels import Panels
from workflow_scripts.results.figures._points import (
    check_column,
    check_option,
    grouped,
    points,
    references,
)
from workflow_scripts.results.formatting import column_text, threshold_text, value_text
from workflow_scripts.results.selection import ORACLE_FREE_RULES, cleaned_models

SHARES = {"accuracy": "Zero-shot accuracy (%)", "asr": "Attack success rate (%)"}
NUMBERS = (
    "panel", "series", "rule", "value", "percent", "low_percent", "high_percent", "run", "epoch",
    "chosen",
)  # fmt: skip
_LINES: dict[str, Any] = dict(zip(ORACLE_FREE_RULES, ("--", "-.", (0, (1, 1))), strict=True)) | {
    "best_below": "-"
}
_LOG = 20  # range factor from which an axis is logarithmic
_MOST_TICKS = 9
_BASELINE = style.Look(style.FAINT, "*", ":", False)
_REFERENCES = {"start": style.Look(style.START, "*", ":", True), "baseline": _BASELINE}

# Experiments without cleaning have nothing to draw.
SHOWS_CLEANED = True


def draw(
    metrics: pd.DataFrame,
    *,
    value: Column,
    y: Literal["accuracy", "asr"] = "accuracy",
    select: Rule | Sequence[Rule] = "best_below",
    by: Column = "defence",
    column: Column | None = "start_label",
    row: Column | None = None,
    asr_below: Share = 0.05,
    tolerance: Annotated[float, ">= 0", "<= 1"] = 1.0,
    over: Column | Sequence[Column] | None = None,
    log: bool | None = None,
    order: Sequence[str | float | bool] | None = None,
    labels: Mapping[str, str] | None = None,
    share_y: bool = True,
    width: Inches = style.WIDTH,
    panel_height: Inches | None = None,
) -> Figure:
    """Draw one number of the selected model against ``value``, with 95 % intervals.

    See the package's docstring for the options shared with other kinds.

    Args:
        metrics: The tidy table.
        value: Column on the x axis, e.g. ``objective.ssl``; numbers or names.
        y: ``accuracy`` or ``asr`` of the selected model.
        select: Selection rule or rules: ``best_below`` (highest accuracy at a low ASR; oracle),
            ``highest_accuracy``, ``lowest_heldout_mmcl``, ``lowest_heldout_ssl`` (oracle-free),
            ``start`` (before cleaning). Clean controls are drawn if there are any.
        tolerance: Maximum accuracy loss of oracle-free rules, a fraction.
        over: Column or columns such as ``seed``: select for each value, draw mean and interval.
        log: Use a logarithmic x axis; None: if positive numbers span a factor of 20 or more.

    Raises:
        StepError: An option has an unknown value, or there is nothing to draw.
    """
    check_option("y", y, tuple(SHARES))
    rules = [select] if isinstance(select, str) else list(select)
    over = [over] if isinstance(over, str) else list(over or [])
    for key in (value, *over):
        check_column(metrics, key)
    table = points(metrics)
    cleaned, compared = cleaned_models(table), references(metrics)
    cleaned, looks = grouped(cleaned, by, labels, order)
    choose = Chooser(compared, rules, y, over, asr_below, tolerance)
    panels = Panels(cleaned, column, row, labels, width=width, height=panel_height, share_y=share_y)
    scale = _Scale(cleaned[value], log, labels)
    drawn = []
    for panel in panels:
        chosen = choose.by_value(cleaned.loc[panel.rows], value)
        drawn.append(chosen.assign(panel=panel.name))
        lines = chosen.groupby(["series", "rule"], sort=False)
        for place, ((name, rule), rows) in enumerate(lines):
            look = _REFERENCES.get(rule) or looks[name]
            line = _LINES.get(rule, look.line)
            _line(panel.axes, rows, scale, look, line, place=place)
        scale.ticks(panel.axes)
        panels.heading(panel)
    numbers = pd.concat(drawn)[list(NUMBERS)].reset_index(drop=True)
    _fit(panels, drawn, share_y)
    panels.axis_texts(column_text(value, labels), SHARES[y])
    keys = [marks.handle(name, look) for name, look in looks.items()]
    others = [_rule_key(rule, asr_below) for rule in rules if rule != "start"]
    others += marks.reference_handles(numbers["rule"])
    if numbers["percent"].isna().any():
        others.append(_none_key())
    panels.legend(keys, others, column_text(by, labels))
    panels.figure.numbers = numbers
    return panels.figure


class _Scale:
    """The x axis: maps values to positions."""

    def __init__(
        self, values: pd.Series, log: bool | None, labels: Mapping[str, str] | None
    ) -> None:
        present = values.dropna()
        self.numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(
            values
        )
        self.values = sorted(present.unique()) if self.numeric else list(dict.fromkeys(present))
        if not self.values:
            raise StepError(f"the column {values.name!r} is empty; choose another 'value'")
        positive = self.numeric and self.values[0] > 0
        if log and not positive:
            raise StepError(
                f"{values.name!r} has values that are not positive numbers; remove 'log'"
            )
        self.log = positive and self.values[-1] / self.values[0] >= _LOG if log is None else log
        self.texts = [value_text(value, labels) for value in self.values]

    def places(self, values: pd.Series) -> list[float]:
        """Return the positions of values on the axis."""
        return [float(v) if self.numeric else float(self.values.index(v)) for v in values]

    def ticks(self, axes: Axes) -> None:
        """Label the axis with the values if there is room for all of them."""
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
    star = look in _REFERENCES.values()
    size = (9 if look.filled else 7) if star else 5
    edge, zorder = ("black", 2) if star else (look.colour, 3)
    if scale.numeric:
        rows = rows.sort_values("value")
    x, y = np.array(scale.places(rows["value"])), rows["percent"].to_numpy(float)
    present = ~np.isnan(y)
    ends = rows[["low_percent", "high_percent"]].to_numpy(float).clip(0, 100).T
    half = np.clip(np.array([y - ends[0], ends[1] - y]), 0, None)
    axes.errorbar(
        x, y, yerr=half, color=look.colour, linewidth=1.0,
        linestyle=line,
        elinewidth=0.7, capsize=2, capthick=0.7, marker=look.marker,
        markersize=size, markerfacecolor="white" if look is _BASELINE else look.face,
        markeredgecolor=edge, markeredgewidth=0.8, zorder=zorder,
    )  # fmt: skip
    for n in np.flatnonzero(present):
        found, _, total = rows["chosen"].iloc[n].partition(" of ")
        if found != total:
            axes.annotate(
                f"{found} of {total}", (x[n], y[n]), (6, 3), textcoords="offset points", fontsize=6
            )
    # Crosses of different series are drawn at different heights so that they do not overlap.
    axes.scatter(
        x[~present], np.full((~present).sum(), 0.04 + 0.06 * place), s=22, marker="x",
        color=look.colour, linewidths=1.1, transform=axes.get_xaxis_transform(), clip_on=False,
    )  # fmt: skip
    for at in x[~present]:
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
        # Leave room for the crosses, one row per series.
        lines = table.loc[table["percent"].isna(), "series"].nunique()
        pad = max(1.0, 0.08 * (high - low))
        panel.axes.set_ylim(low - pad * (1 + lines), high + pad)


def _rule_key(rule: str, asr_below: float) -> Line2D:
    text = {
        "best_below": f"Best with ASR < {threshold_text(asr_below)}",
        **RULE_NAMES,
    }[rule]
    return Line2D([], [], color=style.INK, linewidth=1, label=text,
                  linestyle=_LINES[rule])  # fmt: skip


def _none_key() -> Line2D:
    return Line2D([], [], linestyle="none", marker="x", markersize=5, color=style.INK,
                  label="No model qualifies")  # fmt: skip
