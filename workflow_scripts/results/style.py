"""How all figures look: one theme, fit for a paper, readable in grey and by the colour-blind."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn
from matplotlib.figure import Figure

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic

WIDTH = 6.9
"""Inches: the text width of a two-column paper, so that 8 pt in the figure is 8 pt in print."""

START = "#D62728"
INK = "#222222"
FAINT = "#8A8A8A"
UNDER = "#A6A6A6"
BAND = "#EDEDED"

# Okabe and Ito's colours, the pale ones darker for thin lines; red is kept for the start model.
_COLOURS = ("#0072B2", "#C97B00", "#009E73", "#C56A9A", "#3F9BD1", "#5B4B8A")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "h")
_LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MOST_LEVELS = 2 * len(_MARKERS)
# Each defence has the same look in every figure; others take the looks after these.
_DEFENCES = (
    "MMCL", "SSL", "MMCL + SSL (CleanCLIP)", "PAR", "MMCL + SSL + clustering",
    "MMCL + SSL + pseudo-labels", "MMCL + SSL, shrunk and perturbed", "Channel Lipschitzness",
    "WiSE-FT", "Task vector (oracle)", "SigLIP + SSL", "SigLIP with bias + SSL",
)  # fmt: skip

_SETTINGS = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "mathtext.fontset": "dejavusans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "grid.linewidth": 0.4,
    "grid.color": "#E2E2E2",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "figure",
}
# No time stamp and no version: the same figure is the same bytes.
_METADATA = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
}


@dataclass(frozen=True)
class Look:
    """How one level of a grouping is drawn: never told apart by its colour alone."""

    colour: Any
    marker: str
    line: Any
    filled: bool

    @property
    def face(self) -> Any:
        """The inside of its markers: pale, so that points which overlap are seen to."""
        return (*mpl.colors.to_rgb(self.colour), 0.85 if self.filled else 0.3)


@contextlib.contextmanager
def paper() -> Iterator[None]:
    """Draw what is drawn inside in the style of all figures, whatever the user's own settings."""
    with mpl.rc_context():
        mpl.rcdefaults()
        seaborn.set_theme(context="paper", style="ticks", rc=_SETTINGS)
        yield


def looks(levels: Sequence[str], *, ordered: bool = False) -> dict[str, Look]:
    """Return a look for each level: a marker, a line and a colour of its own.

    Args:
        levels: Their texts, in the order of the legend.
        ordered: They are numbers: colours go from dark to light in their order.

    Raises:
        StepError: There are more levels than can be told apart.
    """
    if len(levels) > MOST_LEVELS:
        raise StepError(
            f"a figure cannot tell {len(levels)} values apart ({levels[0]}, {levels[1]}, ...); "
            "choose another column for the figure's 'by'"
        )
    if not ordered:
        return {level: _look(n) for n, level in enumerate(levels)}
    scale = mpl.colormaps["viridis"]
    return {
        level: _look(n, scale(0.78 * n / max(1, len(levels) - 1))) for n, level in enumerate(levels)
    }


def defence_looks(levels: Sequence[str]) -> dict[str, Look]:
    """Return a look for each defence, the same one in every figure."""
    others = [level for level in levels if level not in _DEFENCES]
    places = [*_DEFENCES, *others]
    return {level: _look(places.index(level)) for level in levels}


def _look(place: int, colour: Any = None) -> Look:
    return Look(
        colour=_COLOURS[place % len(_COLOURS)] if colour is None else colour,
        marker=_MARKERS[place % len(_MARKERS)],
        line=_LINES[place % len(_LINES)],
        filled=place >= len(_MARKERS),
    )


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, PDF or SVG; drawn again, it is the same bytes.

    Raises:
        StepError: The suffix is of no format that can be written so.
    """
    path = Path(path)
    if path.suffix not in _METADATA:
        raise StepError(f"{path}: a figure is written as {', '.join(_METADATA)}; choose one")
    with atomic(path) as temporary:
        figure.savefig(temporary, metadata=_METADATA[path.suffix])
