"""Panels of a figure: one axes for each value of a column and, in rows, of another column."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import style
from workflow_scripts.results.figures._points import levels
from workflow_scripts.results.formatting import column_text

MOST_PANELS = 40
_LETTERS_PER_INCH = 17  # in a legend; fewer in a bold title
_BETWEEN = "; "
_BEFORE = {"start_label": "Pre-trained: ", "defence": "Cleaned by ", "variant": ""}
_ACROSS = 4  # maximum number of panels side by side


Facets = tuple[str | None, str | None, Mapping[str, str] | None]
"""Column that varies between panels, column that varies between rows, and labels for both."""


@dataclass(frozen=True)
class Panel:
    """One axes and the rows of the table that belong to it."""

    axes: Axes
    name: str
    rows: pd.Index
    title: str
    row_title: str


def panel_names(
    table: pd.DataFrame, column: str | None, row: str | None, labels: Mapping[str, str] | None
) -> list[list[tuple[str, pd.Index]]]:
    """Return rows of panels, each panel with its name and the index of its rows of ``table``.

    Raises:
        StepError: The table is empty or lacks a column.
    """
    if table.empty:
        raise StepError("there is nothing to draw: the metrics have no model of the required kind")
    across = _facet(table, column, labels, bare=row is None)
    if row is None:
        wrap = {1: 1, 2: 2, 4: 2}.get(len(across), 3)
        return [across[n : n + wrap] for n in range(0, len(across), wrap)]
    pieces = -(-len(across) // _ACROSS)
    wrap = -(-len(across) // pieces)
    return [
        [
            (_BETWEEN.join((right, down)), rows.intersection(below, sort=False))
            for right, rows in across[n : n + wrap]
        ]
        for down, below in _facet(table, row, labels, bare=False)
        for n in range(0, len(across), wrap)
    ]


def _facet(
    table: pd.DataFrame, key: str | None, labels: Mapping[str, str] | None, bare: bool
) -> list[tuple[str, pd.Index]]:
    if key is None:
        return [("", table.index)]
    texts, ordered, _ = levels(table, key, labels, most=MOST_PANELS)
    before = _BEFORE.get(key, f"{column_text(key, labels)}: ")
    if bare and key == "start_label":
        before = ""
    found = [(before + text, table.index[texts == text]) for text in ordered]
    return [(text, rows) for text, rows in found if len(rows)]


class Panels:
    """A figure's panels.

    Args:
        table: The rows to draw; panels refer to them by index.
        column: Column that varies between panels; without ``row``, panels wrap.
        row: Column that varies between rows of panels, or None.
        labels: Custom labels of columns and values.
        width: Width of the figure in inches.
        height: Height of a panel in inches; None: depends on the number of panels.
        share_y: Use the same y scale in all panels.

    Attributes:
        narrow: Whether there is room for only a few words above a panel.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        column: str | None,
        row: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        width: float = style.WIDTH,
        height: float | None = None,
        share_y: bool = True,
    ) -> None:
        names = panel_names(table, column, row, labels)
        lines, across = len(names), max(len(line) for line in names)
        if lines * across > MOST_PANELS:
            raise StepError(
                f"a figure of {lines} x {across} panels cannot be read; choose another column "
                "for the figure's 'column' or 'row'"
            )
        height = height or min(2.9 if lines < 3 else 2.3, max(1.7, 0.85 * width / across))
        # Approximate size of the axes within a panel.
        self._width, self._height = (width - 0.6) / across - 0.15, height - 0.4
        # Typed as Any because figure kinds add the attribute ``numbers``.
        self.figure: Any = Figure(figsize=(width, height * lines + 0.8), layout="constrained")
        engine = self.figure.get_layout_engine()
        assert isinstance(engine, ConstrainedLayoutEngine)
        engine.set(w_pad=0.05, h_pad=0.05, wspace=0.03, hspace=0.04)
        grid = self.figure.subplots(lines, across, sharex=True, sharey=share_y, squeeze=False)
        self.panels: list[Panel] = []
        above: list[str] = []
        for axes_line, line in zip(grid, names, strict=True):
            titles = [name.partition(_BETWEEN)[0] for name, _ in line]
            for axes, named in zip(axes_line, [*line, *[None] * (across - len(line))], strict=True):
                if named is None:
                    axes.set_axis_off()
                    continue
                title, _, down = named[0].partition(_BETWEEN)
                # Titles shared by a whole column are shown once.
                title = "" if titles == above else title
                # Without a prefix, "MMCL" could be mistaken for a defence in the legend.
                if column == "start_label" and row is None and title:
                    title = _BEFORE[column] + title
                self.panels.append(Panel(axes, *named, title, down if named is line[-1] else ""))
            above = titles
        self.narrow = across == _ACROSS
        self._lowest = list(grid[-1])
        for place, axes in enumerate(grid[:-1]):
            # Panels with an empty place below show their own tick labels.
            for n in range(len(names[place + 1]), len(names[place])):
                axes[n].xaxis.set_tick_params(labelbottom=True)
                self._lowest += [axes[n]] if row is None else []

    def __iter__(self) -> Iterator[Panel]:
        return iter(self.panels)

    def axis_texts(self, x: str, y: str) -> None:
        """Label the outer axes: at the bottom and on the left."""
        for panel in self.panels:
            if _place(panel.axes).is_first_col():
                panel.axes.set_ylabel(y)
            if panel.axes in self._lowest:
                panel.axes.set_xlabel(x)

    def heading(self, panel: Panel, note: str = "") -> None:
        """Write a panel's title above it, and below the title a note in small print."""
        title = _wrapped(panel.title, self._width)
        panel.axes.set_title(title, loc="left", pad=14 if note else 4)
        if note:
            panel.axes.annotate(
                note, (0, 1), (0, 4), "axes fraction", textcoords="offset points",
                fontsize=7, color=style.INK, ha="left", va="bottom",
            )  # fmt: skip
        if panel.row_title:
            text = panel.axes.annotate(
                _wrapped(panel.row_title, self._height), (1, 0.5), (5, 0), "axes fraction",
                textcoords="offset points", fontsize=8, fontweight="bold", rotation=270,
                ha="left", va="center", multialignment="center",
            )  # fmt: skip
            # At the end of a shorter row there is free space, so the layout can ignore the text.
            text.set_in_layout(_place(panel.axes).is_last_col())

    def legend(
        self, series: list[Line2D], others: Sequence[Line2D] = (), title: str | None = None
    ) -> None:
        """Draw one legend below all panels: the series first, then the other keys.

        Series with an empty name are omitted.
        """
        series = [handle for handle in series if handle.get_label()]
        first, second = _lines(series, self.figure), _lines(list(others), self.figure)
        blank = Line2D([], [], linestyle="none", label=" ")
        # The second block is drawn over blank lines of the first, so that its columns can differ.
        if first and second:
            below = [*first, *[[blank]] * len(second)]
            blocks = [(below, "outside lower center", title), (second, "lower center", None)]
        else:
            blocks = [(first or second, "outside lower center", title if first else None)]
        for lines, place, heading in blocks:
            if not lines:
                continue
            across = max(len(line) for line in lines)
            filled = [[*line, *[blank] * (across - len(line))] for line in lines]
            # Matplotlib fills a legend column by column.
            self.figure.legend(
                handles=[line[n] for n in range(across) for line in filled],
                title=heading, loc=place, ncols=across,
                columnspacing=1.6, handletextpad=0.5, title_fontsize=7.5,
            )  # fmt: skip


def _place(axes: Axes) -> SubplotSpec:
    place = axes.get_subplotspec()
    assert place is not None  # created by subplots()
    return place


def _wrapped(text: str, inches: float) -> str:
    """Wrap a bold text to a width in inches."""
    return "\n".join(textwrap.wrap(text, max(12, int(inches * 0.8 * _LETTERS_PER_INCH))))


def _lines(handles: list[Line2D], figure: Figure) -> list[list[Line2D]]:
    """Split legend keys evenly into the minimum number of lines for the figure's width."""
    if not handles:
        return []
    widest = max(len(str(handle.get_label())) for handle in handles) + 6
    most = max(1, int(_LETTERS_PER_INCH * figure.get_figwidth() // widest))
    count = -(-len(handles) // most)
    each = -(-len(handles) // count)
    return [handles[n : n + each] for n in range(0, len(handles), each)]
