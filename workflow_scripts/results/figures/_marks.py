"""Elements shared by figure kinds: the ASR axis, stars, rings, intervals and legend keys.

Tables have fractions in ``accuracy``, ``asr`` and their interval limits, as returned by
``_points.points``; axes are in percent.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from workflow_scripts.results import style

BASELINE = "Clean control"


def asr_axis(axes: Axes, asr_below: float) -> None:
    """Scale x to ASRs from 0 to 100 % with a margin for markers, and shade ASRs below the limit.

    Stars and rings may be larger than the margin of a small panel; they are drawn unclipped.
    """
    axes.axvspan(-4, 100 * asr_below, color=style.BAND, linewidth=0, zorder=0)
    axes.set_xlim(-4, 104)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.grid(True)
    axes.set_axisbelow(True)


def bars(axes: Axes, rows: pd.DataFrame, colour: Any) -> None:
    """Draw the 95 % intervals of both shares."""
    x, y = 100 * rows["asr"], 100 * rows["accuracy"]
    # Student's interval is NaN for a single seed and may exceed 0 to 100 %.
    across = [x - 100 * rows["asr_low"].clip(0, 1), 100 * rows["asr_high"].clip(0, 1) - x]
    up = [y - 100 * rows["accuracy_low"].clip(0, 1), 100 * rows["accuracy_high"].clip(0, 1) - y]
    axes.errorbar(
        x, y, xerr=np.clip(across, 0, None), yerr=np.clip(up, 0, None),
        fmt="none", ecolor=colour, elinewidth=0.5, alpha=0.45, zorder=2,
    )  # fmt: skip


def references(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw start models as red stars with a dotted line at their accuracy; controls are hollow."""
    start, baseline = (rows[rows["role"] == role] for role in ("start", "baseline"))
    bars(axes, baseline[baseline["interval_drawn"]], style.INK)
    axes.scatter(
        100 * baseline["asr"], 100 * baseline["accuracy"], s=55, marker="*", facecolors="white",
        edgecolors="black", linewidths=0.8, zorder=6, gid="baseline", clip_on=False,
    )  # fmt: skip
    for accuracy in start["accuracy"]:
        axes.axhline(100 * accuracy, color=style.START, linewidth=0.6, linestyle=":", zorder=1)
    bars(axes, start[start["interval_drawn"]], style.START)
    axes.scatter(
        100 * start["asr"], 100 * start["accuracy"], s=100, marker="*", facecolors=style.START,
        edgecolors="black", linewidths=0.6, zorder=6, gid="start", clip_on=False,
    )  # fmt: skip


def ring(axes: Axes, best: pd.DataFrame) -> None:
    """Draw a black ring with a white outline around each point of ``best``."""
    for colour, line, name in (("white", 2.6, None), ("black", 1.2, "best")):
        axes.scatter(
            100 * best["asr"], 100 * best["accuracy"], s=95, marker="o", facecolors="none",
            edgecolors=colour, linewidths=line, zorder=5, gid=name, clip_on=False,
        )  # fmt: skip


def fit_y(axes: Sequence[Axes], drawn: Sequence[pd.DataFrame], share: bool) -> None:
    """Scale y to the drawn points and intervals, with a margin for markers."""
    separate = [([one], [table]) for one, table in zip(axes, drawn, strict=True)]
    for group, tables in [(axes, drawn)] if share else separate:
        table = pd.concat(tables)
        shown = table[table["interval_drawn"]]
        ends = pd.concat([table["accuracy"], shown["accuracy_low"], shown["accuracy_high"]])
        low, high = 100 * ends.clip(0, 1).min(), 100 * ends.clip(0, 1).max()
        pad = max(0.5, 0.07 * (high - low))
        for one in group:
            one.set_ylim(low - pad, high + pad)


def handle(name: str, look: style.Look) -> Line2D:
    """Return the legend key of one level, a marker."""
    return Line2D(
        [], [], linestyle="none", marker=look.marker, markersize=5, markerfacecolor=look.face,
        markeredgecolor=look.colour, markeredgewidth=0.8, label=name,
    )  # fmt: skip


def reference_handles(roles: Iterable[str]) -> list[Line2D]:
    """Return the legend keys of start model and clean control, if they are in ``roles``."""
    looks = {"start": ("Start model", style.START, 10), "baseline": (BASELINE, "white", 7.5)}
    drawn = set(roles)
    return [
        Line2D(
            [], [], linestyle="none", marker="*", markersize=size, markerfacecolor=face,
            markeredgecolor="black", markeredgewidth=0.7, label=label,
        )
        for role, (label, face, size) in looks.items() if role in drawn
    ]  # fmt: skip


def ring_handle(text: str) -> Line2D:
    """Return the legend key of the ring."""
    return Line2D(
        [], [], linestyle="none", marker="o", markersize=8.5, markerfacecolor="none",
        markeredgecolor="black", markeredgewidth=1.2, label=text,
    )  # fmt: skip


def under_handle(label: str) -> Line2D:
    """Return the legend key of the background points."""
    return Line2D(
        [], [], linestyle="none", marker="o", markersize=3, markerfacecolor=style.UNDER,
        markeredgewidth=0, label=label,
    )  # fmt: skip
