"""The common style of all figures: suitable for print, greyscale and colour-blind readers."""

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
"""Text width of a two-column paper in inches, so that 8 pt in the figure is 8 pt in print."""

START = "#D62728"
INK = "#222222"
FAINT = "#8A8A8A"
UNDER = "#A6A6A6"
BAND = "#EDEDED"

# Okabe and Ito's palette, light colours darkened for thin lines; red is reserved for start models.
_COLOURS = ("#0072B2", "#C97B00", "#009E73", "#C56A9A", "#3F9BD1", "#5B4B8A")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "h")
_LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MOST_LEVELS = 2 * len(_MARKERS)
# These defences look the same in every figure; any others use the remaining looks.
_DEFENCES = (
    "MMCL", "SSL", "MMCL + SSL (CleanCLIP)", "PAR", "MMCL + SSL + clustering",
    "MMCL + SSL + pseudo-labels", "MMCL + SSL, shrunk and perturbed", "Channel Lipschitzness",
    "WiSE-FT", "Task vector (oracle)", "SigLIP + SSL", "SigLIP with bias + SSL",
)  # fmt: skip

_SETTINGS = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so identical on every machine
    "text.parse_math": False,  # labels may contain dollar signs
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
    "pdf.fonttype": 42,  # embed text as text
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "figure",
}
# Without time stamps and versions, identical figures are byte-identical.
_METADATA = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
}


@dataclass(frozen=True)
class Look:
    """How one level of a grouping is drawn; levels never differ by colour alone."""

    colour: Any
    marker: str
    line: Any
    filled: bool

    @property
    def face(self) -> Any:
        """Face colour of the markers: translucent, so that overlaps are visible."""
        return (*mpl.colors.to_rgb(self.colour), 0.85 if self.filled else 0.3)


@contextlib.contextmanager
def paper() -> Iterator[None]:
    """Apply the style of all figures within the context, regardless of the user's settings."""
    with mpl.rc_context():
        mpl.rcdefaults()
        seaborn.set_theme(context="paper", style="ticks", rc=_SETTINGS)
        yield


def looks(levels: Sequence[str], *, ordered: bool = False) -> dict[str, Look]:
    """Return a distinct look for each level: a marker, a line style and a colour.

    Args:
        levels: Texts of the levels, in the order of the legend.
        ordered: The levels are numbers: colours run from dark to light.

    Raises:
        StepError: There are more levels than can be distinguished.
    """
    if len(levels) > MOST_LEVELS:
        raise StepError(
            f"a figure cannot distinguish {len(levels)} values ({levels[0]}, {levels[1]}, ...); "
            "choose another column for the figure's 'by'"
        )
    if not ordered:
        return {level: _look(n) for n, level in enumerate(levels)}
    scale = mpl.colormaps["viridis"]
    return {
        level: _look(n, scale(0.78 * n / max(1, len(levels) - 1))) for n, level in enumerate(levels)
    }


def defence_looks(levels: Sequence[str]) -> dict[str, Look]:
    """Return a look for each defence, consistent across figures."""
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
    """Write a figure reproducibly as PNG, PDF or SVG.

    Raises:
        StepError: The suffix is not one of these formats.
    """
    path = Path(path)
    if path.suffix not in _METADATA:
        raise StepError(f"{path}: unknown figure format (available: {', '.join(_METADATA)})")
    with atomic(path) as temporary:
        figure.savefig(temporary, metadata=_METADATA[path.suffix])
