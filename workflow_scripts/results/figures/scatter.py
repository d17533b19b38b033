"""Accuracy against ASR: one point per epoch of each run, with one panel per start model.

A good defence is at the top left. Red stars are start models, hollow stars their clean controls;
a ring marks the best model with a low ASR (shaded band).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import style
from workflow_scripts.results.figures import _marks as marks
from workflow_scripts.results.figures._options import Column, Inches, Share
from workflow_scripts.results.figures._panels import Facets, Panels, panel_names
from workflow_scripts.results.figures._points import (
    check_option,
    grouped,
    of_starts,
    points,
    references,
)
from workflow_scripts.results.formatting import column_text, percent_text, threshold_text
from workflow_scripts.results.selection import (
    ACCURACY,
    ASR,
    RECOVERY,
    best_below,
    cleaned_models,
    start_models,
)

RINGS = ("panel", "group", "none")
INTERVALS = ("auto", "all", "marked", "none")
_FEW = 40  # maximum number of points in a panel for distinguishable intervals
_DENSE = 150  # number of points in a panel above which they are drawn smaller
_VISIBLE = 0.005  # shorter half-intervals are hidden by the markers
NUMBERS = (
    "panel", "series", "role", "run", "epoch", "learning_rate",
    "accuracy_percent", "accuracy_low_percent", "accuracy_high_percent",
    "asr_percent", "asr_low_percent", "asr_high_percent", "recovery_percent", "interval_drawn",
)  # fmt: skip

# Experiments without cleaning have nothing to draw.
SHOWS_CLEANED = True


def draw(
    metrics: pd.DataFrame,
    *,
    by: Column = "defence",
    column: Column | None = "start_label",
    row: Column | None = None,
    asr_below: Share = 0.05,
    ring: Literal["panel", "group", "none"] = "panel",
    intervals: Literal["auto", "all", "marked", "none"] = "auto",
    over: Column | Sequence[Column] | None = None,
    accuracy: Column = ACCURACY,
    asr: Column = ASR,
    order: Sequence[str | float | bool] | None = None,
    labels: Mapping[str, str] | None = None,
    share_y: bool = True,
    width: Inches = style.WIDTH,
    panel_height: Inches | None = None,
    under: pd.DataFrame | None = None,
    under_label: str = "For comparison",
) -> Figure:
    """Draw a scatter plot of accuracy against ASR.

    See the package's docstring for the options shared with other kinds.

    Args:
        metrics: The tidy table; cleaning runs are drawn from epoch 1 on.
        ring: Ring the best model of each ``panel``, of each ``group`` in a panel, or ``none``.
        intervals: Draw 95 % intervals of ``all`` points, of ``marked`` points (stars and rings)
            or of ``none``; ``auto``: of all points if they are few, else of the marked ones, and
            only if wide enough to be visible.
        under: Another tidy table, drawn in grey in the background of the panels with the same
            names; its start models are grey stars.
        under_label: Its label in the legend.

    Raises:
        StepError: An option has an unknown value, or there is nothing to draw.
    """
    check_option("ring", ring, RINGS)
    check_option("intervals", intervals, INTERVALS)
    table = points(metrics, accuracy, asr, over)
    cleaned, compared = cleaned_models(table), references(metrics, accuracy, asr, over)
    cleaned, looks = grouped(cleaned, by, labels, order)
    panels = Panels(cleaned, column, row, labels, width=width, height=panel_height, share_y=share_y)
    beneath = _beneath(under, accuracy, asr, (column, row, labels))
    numbers = []
    for panel in panels:
        shown = cleaned.loc[panel.rows]
        ringed = _ringed(shown, ring, asr_below)
        drawn = pd.concat([
            beneath.get(panel.name, shown.iloc[:0].assign(role="under")),
            shown.assign(role="cleaned"),
            of_starts(compared, shown),
            shown.loc[ringed].assign(role="best"),
        ])  # fmt: skip
        drawn = drawn.assign(interval_drawn=_with_interval(drawn, intervals), panel=panel.name)
        marks.asr_axis(panel.axes, asr_below)
        _draw_points(panel.axes, drawn, looks)
        marks.references(panel.axes, drawn)
        marks.ring(panel.axes, drawn[drawn["role"] == "best"])
        starts = drawn.loc[drawn["role"] == "start", "asr"]
        learned = starts.empty or starts.max() >= asr_below
        note = _note(shown, asr_below, panels.narrow) if learned else "The attack was not learned"
        panels.heading(panel, note)
        numbers.append(drawn)
    if under is not None and not any((n["role"] == "under").any() for n in numbers):
        raise StepError("'under': no panel of the background points has the name of a panel drawn")
    marks.fit_y([panel.axes for panel in panels], numbers, share_y)
    panels.axis_texts("Attack success rate (%)", "Zero-shot accuracy (%)")
    panels.figure.numbers = _numbers(pd.concat(numbers))
    roles = set(panels.figure.numbers["role"])
    others = marks.reference_handles(roles)
    if "best" in roles:
        others.append(marks.ring_handle(f"Best with ASR < {threshold_text(asr_below)} (shaded)"))
    if "under" in roles:
        others.append(marks.under_handle(under_label))
    keys = [marks.handle(name, look) for name, look in looks.items()]
    panels.legend(keys, others, column_text(by, labels))
    return panels.figure


def _ringed(shown: pd.DataFrame, ring: str, asr_below: float) -> list[Any]:
    groups = {"none": [], "panel": [shown], "group": [g for _, g in shown.groupby("series")]}
    found = [best_below(group, asr_below) for group in groups[ring]]
    return [label for label in found if label is not None]


def _with_interval(drawn: pd.DataFrame, intervals: str) -> pd.Series:
    foreground = ~drawn["role"].str.startswith("under")
    marked = drawn["role"].isin(["start", "baseline", "best"])
    if intervals in ("none", "all", "marked"):
        return {"none": foreground & False, "all": foreground, "marked": marked}[intervals]
    few = (drawn["role"] == "cleaned").sum() <= _FEW
    half = (drawn["accuracy_high"] - drawn["accuracy_low"]) / 2
    return (foreground if few else marked) & (half[foreground].max() > _VISIBLE)


def _draw_points(axes: Axes, drawn: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    cleaned = drawn[drawn["role"] == "cleaned"]
    dense = len(cleaned) > _DENSE
    for role, size, marker in (("under", 5, "o"), ("under_start", 70, "*")):
        beneath = drawn[drawn["role"] == role]
        axes.scatter(
            100 * beneath["asr"], 100 * beneath["accuracy"], s=size, marker=marker,
            color=style.UNDER, linewidths=0, zorder=1, gid=role,
        )  # fmt: skip
    for name, look in looks.items():
        rows = cleaned[cleaned["series"] == name]
        marks.bars(axes, rows[rows["interval_drawn"]], look.colour)
        axes.scatter(
            100 * rows["asr"], 100 * rows["accuracy"], s=11 if dense else 20, marker=look.marker,
            facecolors=[look.face], edgecolors=[look.colour], linewidths=0.45 if dense else 0.7,
            zorder=3, gid=name,
        )  # fmt: skip


def _note(shown: pd.DataFrame, asr_below: float, short: bool) -> str:
    best, low = best_below(shown, asr_below), f"ASR < {threshold_text(asr_below)}"
    if best is None:
        return f"None with {low}" if short else f"No model with {low}"
    best = shown.loc[best]
    found = percent_text(best["accuracy"])
    if short:
        return f"Best: {found}"
    defence = f", {best['defence']}" if shown["defence"].nunique() > 1 else ""
    return f"Best with {low}: {found}{defence}"


def _beneath(
    under: pd.DataFrame | None, accuracy: str, asr: str, facets: Facets
) -> dict[str, pd.DataFrame]:
    if under is None:
        return {}
    table = points(under, accuracy, asr)
    models = cleaned_models(table).assign(role="under", series="")
    starts = start_models(table).assign(role="under_start", series="")
    names = panel_names(models, *facets)
    return {
        name: pd.concat([models.loc[rows], of_starts(starts, models.loc[rows])])
        for line in names
        for name, rows in line
    }


def _numbers(drawn: pd.DataFrame) -> pd.DataFrame:
    drawn["recovery_percent"] = 100 * drawn[RECOVERY]
    for name in ("accuracy", "asr"):
        for end in ("", "_low", "_high"):
            drawn[f"{name}{end}_percent"] = 100 * drawn[name + end]
    return drawn[list(NUMBERS)].reset_index(drop=True)
