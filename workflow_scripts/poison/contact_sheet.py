"""Contact sheet: original and triggered images side by side, for visual inspection."""

import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from workflow_scripts.common.attacks import captions_of, named, parts_of, without_trigger
from workflow_scripts.common.files import atomic
from workflow_scripts.data.images import squash
from workflow_scripts.data.manifest import ImageReader
from workflow_scripts.poison.storing import load_image, places_of

_SHOWN, _ACROSS = 12, 3
_FONT = "DejaVu Sans"  # ships with matplotlib: the same on every machine
_INK, _FAINT, _POISON = "#222222", "#777777", "#B3261E"

# Inches.
_WIDTH, _HEIGHT = 3.9, 2.58  # of an original, its triggered version and their captions
_IMAGE, _GAP, _EDGE = 1.75, 0.06, 0.17
_HEADER = 0.55
_LINE = 0.145  # height of a line of text
_LETTERS, _LINES = 50, 2  # per line and per caption
_LARGE = 100  # pixels; larger images are smoothed when drawn


def write_contact_sheet(
    path: Path,
    originals: pd.DataFrame,
    victims: pd.DataFrame,
    attack: dict[str, Any],
    *,
    pairs: int,
    root: Path,
) -> None:
    """Draw image and caption of up to twelve evenly spaced victims, before and after poisoning.

    Args:
        path: PNG to write.
        originals: The victims' rows of the subset's manifest.
        victims: The same rows of the poisoned manifest.
        attack: The attack's spec.
        pairs: Number of pairs in the subset.
        root: Folder that tar paths are relative to.
    """
    number, reader = min(_SHOWN, len(victims)), ImageReader(root)
    shown = np.linspace(0, len(victims) - 1, number).astype(int)
    down = -(-number // _ACROSS)
    size = np.array([_WIDTH * _ACROSS, _HEIGHT * down + _HEADER])
    figure = Figure(figsize=(size[0], size[1]))
    _write_header(figure, size, attack, len(victims), pairs)
    # Positions are computed here, because layout engines are not reproducible to the last bit.
    columns = zip(
        places_of(originals.iloc[shown]),
        places_of(victims.iloc[shown]),
        originals["caption"].iloc[shown],
        victims["caption"].iloc[shown],
        strict=True,
    )
    for place, (before, after, *captions) in enumerate(columns):
        corner = np.array([place % _ACROSS * _WIDTH + _EDGE, _HEADER + place // _ACROSS * _HEIGHT])
        images = [squash(load_image(p, reader), attack["image_size"]) for p in (before, after)]
        for half, image in enumerate(images):
            left, below = corner[0] + half * (_IMAGE + _GAP), size[1] - corner[1] - _IMAGE
            box = np.array([left, below, _IMAGE, _IMAGE])
            _draw_image(figure.add_axes(tuple(box / np.tile(size, 2))), image.numpy(), half == 1)
        _write_captions(figure, size, corner, captions)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})


def _draw_image(axes: Axes, pixels: np.ndarray, triggered: bool) -> None:
    smooth = "antialiased" if pixels.shape[-1] > _LARGE else "nearest"
    axes.imshow(pixels.transpose(1, 2, 0), interpolation=smooth)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=_POISON if triggered else _FAINT, linewidth=1.5 if triggered else 0.5)


def _write_header(
    figure: Figure, size: np.ndarray, attack: dict[str, Any], poisoned: int, pairs: int
) -> None:
    parts = parts_of(attack)
    title = "; ".join(_title(part, with_options=len(parts) == 1) for part in parts)
    number = f"{poisoned:,} of {pairs:,} pairs are poisoned"
    below = f"{number}."
    if poisoned:
        below += " Left: original. Right, framed in red: the image used for training."
    if all(captions_of(part)[0] == "as_is" for part in parts):
        below += " Captions are unchanged."
    lines = ((title, 0.14, 10, _INK, "bold"), (below, 0.33, 8, _FAINT, "normal"))
    for text, top, points, colour, weight in lines:
        _write(figure, size, (_EDGE, top), text, fontsize=points, color=colour, weight=weight)


def _title(part: dict[str, Any], with_options: bool) -> str:
    if without_trigger(part):
        return (
            f"No trigger, victims {Path(named(part['victims'])[0]).stem}, target {part['target']}"
        )
    name, options = named(part["trigger"])
    shown = ", ".join(f"{key} {value}" for key, value in options.items()) if with_options else ""
    return f"Trigger {Path(name).stem}{f' ({shown})' if shown else ''}, target {part['target']}"


def _write_captions(
    figure: Figure, size: np.ndarray, corner: np.ndarray, captions: Sequence[str]
) -> None:
    before, after = captions
    top = corner[1] + _IMAGE + 0.06
    lines = _lines(before)
    _write(figure, size, (corner[0], top), "\n".join(lines), fontsize=8, color=_FAINT)
    if after != before:
        top += _LINE * len(lines) + 0.03
        text = "\n".join(_lines(after))
        _write(figure, size, (corner[0], top), text, fontsize=8, color=_POISON)


def _write(
    figure: Figure, size: np.ndarray, place: tuple[float, float], text: str, **style: Any
) -> None:
    """Write text with its upper left corner at ``place``, in inches from the upper left."""
    x, y = place[0] / size[0], 1 - place[1] / size[1]
    # Dollar signs in captions are not maths markup.
    figure.text(x, y, text, va="top", family=_FONT, linespacing=1.2, parse_math=False, **style)


def _lines(caption: str) -> list[str]:
    """Wrap a caption; if it is too long, truncate it with an ellipsis."""
    known = "".join(c if c.isspace() or _has_glyph(c) else "\N{WHITE SQUARE}" for c in caption)
    return textwrap.wrap(known, _LETTERS, max_lines=_LINES, placeholder=" …") or [""]


@functools.cache
def _has_glyph(character: str) -> bool:
    return get_font(findfont(_FONT)).get_char_index(ord(character)) != 0
