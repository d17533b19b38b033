"""Accuracy and ASR by epoch of the pre-training runs, with one panel per start model.

Shows when the backdoor is learned, and whether before or after the classes. Grey lines without
markers are the clean controls.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import style
from workflow_scripts.results.figures import _marks as marks
from workflow_scripts.results.figures._options import Column, Inches
from workflow_scripts.results.figures._panels import Panels
from workflow_scripts.results.figures._points import grouped, points
from workflow_scripts.results.formatting import column_text
from workflow_scripts.results.selection import ACCURACY, ASR

NUMBERS = (
    "panel", "series", "kind", "run", "epoch",
    "accuracy_percent", "accuracy_low_percent", "accuracy_high_percent",
    "asr_percent", "asr_low_percent", "asr_high_percent",
)  # fmt: skip
_SHARES = {"accuracy": "Zero-shot accuracy", "asr": "Attack success rate"}
_MARKS = 9  # maximum number of markers per line


def draw(
    metrics: pd.DataFrame,
    *,
    by: Column | None = None,
    column: Column | None = "start_label",
    row: Column | None = None,
    over: Column | Sequence[Column] | None = None,
    accuracy: Column = ACCURACY,
    asr: Column = ASR,
    order: Sequence[str | float | bool] | None = None,
    labels: Mapping[str, str] | None = None,
    width: Inches = style.WIDTH,
    panel_height: Inches | None = None,
) -> Figure:
    """Draw the training dynamics; bands are 95 % intervals.

    See the package's docstring for the options shared with other kinds.

    Args:
        metrics: The tidy table; its pre-training runs and their clean controls are drawn.
        by: Column that varies between the lines of a panel, e.g. ``attack.poisoned``; or None.

    Raises:
        StepError: There is no pre-training run.
    """
    table = points(metrics, accuracy, asr, over)
    table = table[table["kind"] != "cleaning"].sort_values("epoch", kind="stable")
    if not (table["kind"] == "pretraining").any():
        raise StepError("the metrics contain no pre-training run; 'dynamics' needs at least one")
    # Looks distinguish the groups if there are any, otherwise the two shares.
    looks = style.looks(list(_SHARES))
    table = table.assign(series="", panel="")
    baselines = table[table["kind"] == "baseline"]
    table = table[table["kind"] == "pretraining"]
    if by:
        table, looks = grouped(table, by, labels, order)
    panels = Panels(table, column, row, labels, width=width, height=panel_height)
    numbers = []
    for panel in panels:
        shown = table.loc[panel.rows]
        controls = baselines[baselines["start"].isin(shown["start"])]
        controls = controls.drop_duplicates(["run", "epoch"])
        numbers.append(pd.concat([shown, controls]).assign(panel=panel.name))
        for _, run in controls.groupby("run", sort=False):
            for share in _SHARES:
                _line(panel.axes, run, share, None)
        for _, run in shown.groupby(["run", "series"], sort=False):
            for share in _SHARES:
                look = looks[run["series"].iloc[0]] if by else looks[share]
                _line(panel.axes, run, share, look)
        panel.axes.set_ylim(-4, 104)
        panel.axes.grid(True)
        locator = panel.axes.xaxis.get_major_locator()
        assert isinstance(locator, MaxNLocator)  # the default for a linear axis
        locator.set_params(integer=True)
        panels.heading(panel)
    panels.axis_texts("Epoch of pre-training", "Evaluation images (%)")
    shares = [_key(share, look=None if by else looks[share]) for share in _SHARES]
    groups = [
        Line2D([], [], color=k.colour, marker=k.marker, markersize=4, label=name)
        for name, k in looks.items()
    ]
    controls = [
        Line2D([], [], color=style.FAINT, linestyle=_line_of(share), linewidth=1.1,
               label=f"{text}, {marks.BASELINE.lower()}")
        for share, text in _SHARES.items()
    ]  # fmt: skip
    others = [*(shares if by else ()), *(controls if len(baselines) else ())]
    panels.legend(groups if by else shares, others, column_text(by, labels) if by else None)
    panels.figure.numbers = _numbers(pd.concat(numbers))
    return panels.figure


def _line(axes: Axes, run: pd.DataFrame, share: str, look: style.Look | None) -> None:
    """Draw a share by epoch; without a look, as a clean control."""
    every = max(1, -(-len(run) // _MARKS))
    colour = look.colour if look else style.FAINT
    axes.fill_between(
        run["epoch"].astype(float), 100 * run[f"{share}_low"], 100 * run[f"{share}_high"],
        color=colour, alpha=0.18, linewidth=0,
    )  # fmt: skip
    axes.plot(
        run["epoch"].astype(float), 100 * run[share], color=colour, linewidth=1.1,
        linestyle=_line_of(share), marker=look.marker if look else None, markersize=4,
        markevery=every, markerfacecolor="white" if share == "asr" else colour,
        gid=share if look else f"baseline {share}",
    )  # fmt: skip


def _line_of(share: str) -> Literal["-", "--"]:
    return "-" if share == "accuracy" else "--"


def _key(share: str, look: style.Look | None) -> Line2D:
    colour = look.colour if look else style.INK
    return Line2D(
        [], [], color=colour, linestyle=_line_of(share), marker=look.marker if look else None,
        markersize=4, markerfacecolor="white" if share == "asr" else colour, label=_SHARES[share],
    )  # fmt: skip


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    percents = {
        f"{share}{end}_percent": 100 * table[share + end]
        for share in _SHARES
        for end in ("", "_low", "_high")
    }
    return table.assign(**percents)[list(NUMBERS)].reset_index(drop=True)
