"""Trajectory of each cleaning run over its epochs, from the start model: accuracy against ASR."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workflow_scripts.results import style
from workflow_scripts.results.figures import _marks as marks
from workflow_scripts.results.figures._options import Column, Inches, Share
from workflow_scripts.results.figures._panels import Panels
from workflow_scripts.results.figures._points import grouped, of_starts, points, references
from workflow_scripts.results.formatting import column_text
from workflow_scripts.results.selection import ACCURACY, ASR, cleaned_models

NUMBERS = (
    "panel", "series", "role", "run", "epoch", "learning_rate", "accuracy_percent", "asr_percent",
)  # fmt: skip

# Experiments without cleaning have nothing to draw.
SHOWS_CLEANED = True


def draw(
    metrics: pd.DataFrame,
    *,
    by: Column = "learning_rate",
    column: Column | None = "defence",
    row: Column | None = "start_label",
    asr_below: Share = 0.05,
    over: Column | Sequence[Column] | None = None,
    accuracy: Column = ACCURACY,
    asr: Column = ASR,
    order: Sequence[str | float | bool] | None = None,
    labels: Mapping[str, str] | None = None,
    share_y: bool = True,
    width: Inches = style.WIDTH,
    panel_height: Inches | None = None,
) -> Figure:
    """Draw the trajectories; small dots are epochs, markers are last epochs.

    See the package's docstring for the options shared with other kinds.

    Args:
        metrics: The tidy table; cleaning runs are drawn from their start model on.

    Raises:
        StepError: There is nothing to draw.
    """
    table = points(metrics, accuracy, asr, over)
    cleaned, compared = cleaned_models(table), references(metrics, accuracy, asr, over)
    cleaned, looks = grouped(cleaned, by, labels, order)
    panels = Panels(cleaned, column, row, labels, width=width, height=panel_height, share_y=share_y)
    drawn = []
    for panel in panels:
        shown = cleaned.loc[panel.rows].sort_values("epoch", kind="stable")
        both = pd.concat([of_starts(compared, shown), shown.assign(role="cleaned")])
        both = both.assign(interval_drawn=False, panel=panel.name)
        drawn.append(both)
        marks.asr_axis(panel.axes, asr_below)
        _paths(panel.axes, shown, both[both["role"] == "start"], looks)
        marks.references(panel.axes, both)
        panels.heading(panel)
    marks.fit_y([panel.axes for panel in panels], drawn, share_y)
    panels.axis_texts("Attack success rate (%)", "Zero-shot accuracy (%)")
    groups = [_key(name, look) for name, look in looks.items()]
    panels.figure.numbers = _numbers(pd.concat(drawn))
    others = marks.reference_handles(panels.figure.numbers["role"])
    panels.legend(groups, others, column_text(by, labels) + ", last epoch marked")
    return panels.figure


def _paths(
    axes: Axes, shown: pd.DataFrame, starts: pd.DataFrame, looks: dict[str, style.Look]
) -> None:
    origin = starts.set_index("start")[["asr", "accuracy"]]
    # A run has several series only if `by` is a column that varies between its epochs.
    for (_, name), run in shown.groupby(["run", "series"], sort=False):
        look = looks[name]
        path = 100 * run[["asr", "accuracy"]].to_numpy(float)
        if run["start"].iloc[0] in origin.index:
            path = np.vstack([100 * origin.loc[[run["start"].iloc[0]]].to_numpy(float), path])
        axes.plot(
            *path.T, color=look.colour, linewidth=0.9, linestyle=look.line, alpha=0.8,
            marker=".", markersize=2.5, zorder=2, gid=name,
        )  # fmt: skip
        x, y = path[-1]
        axes.scatter(
            x, y, s=24, marker=look.marker, facecolors=[look.face],
            edgecolors=[look.colour], linewidths=0.8, zorder=3,
        )  # fmt: skip


def _key(name: str, look: style.Look) -> Line2D:
    return Line2D(
        [], [], color=look.colour, linestyle=look.line, linewidth=0.9, marker=look.marker,
        markersize=5, markerfacecolor=look.face, markeredgecolor=look.colour, label=name,
    )  # fmt: skip


def _numbers(drawn: pd.DataFrame) -> pd.DataFrame:
    percents = {f"{name}_percent": 100 * drawn[name] for name in ("accuracy", "asr")}
    return drawn.assign(**percents)[list(NUMBERS)].reset_index(drop=True)
