"""The explorer's controls, and the colours and shapes of its values."""

from collections.abc import Iterable, Sequence
from typing import Any

from workflow_scripts.common.html import Markup, element, joined
from workflow_scripts.results.index.data import DIMENSIONS, NOT_CLEANED, ROLES

STYLE = {
    "colours": ["#0072B2", "#C97B00", "#009E73", "#C56A9A", "#3F9BD1", "#8673C4", "#B5532C"],
    "shapes": [
        "circle", "triangle-up", "square", "diamond", "triangle-down", "cross", "triangle-right",
        "triangle-left", "wedge", "arrow",
    ],
    "glyphs": {
        "circle": "●", "triangle-up": "▲", "square": "■", "diamond": "◆", "triangle-down": "▼",
        "cross": "✚", "triangle-right": "▶", "triangle-left": "◀", "wedge": "▴", "arrow": "↑",
        "stroke": "―",
    },
    "star": "M0,-1L.24,-.32L.95,-.31L.38,.12L.59,.81L0,.4L-.59,.81L-.38,.12L-.95,-.31L-.24,-.32Z",
}  # fmt: skip
_AXES = {"x": "x axis", "y": "y axis"}
_LOOKS = {"colour": "Colour", "shape": "Shape", "facet": "Panels"}
_SCALES = (("symlog", "ASR: symlog"), ("linear", "ASR: linear"))
_MODELS = (("compared", "cleaned, start and clean control"), ("", "all epochs"))


def view_controls(measures: Sequence[dict[str, Any]]) -> Markup:
    """Return the selects for axes, looks, panels, scale and kinds of models."""
    axes = [(measure["key"], measure["label"]) for measure in measures]
    looks = list(DIMENSIONS.items())
    one = [("", "one panel")]
    return joined(
        [
            *(_select(name, label, axes) for name, label in _AXES.items()),
            *(
                _select(name, label, [*(one if name == "facet" else []), *looks])
                for name, label in _LOOKS.items()
            ),
            _select("scale", "Scale", _SCALES),
            _select("role", "Models", [*_MODELS, *((role, role) for role in ROLES)]),
        ]
    )


def filter_controls(coded: dict[str, dict[str, Any]]) -> Markup:
    """Return a select for each dimension with several values.

    Args:
        coded: ``levels`` of each dimension, from ``data.runs_of``.
    """
    selects = []
    for name, label in DIMENSIONS.items():
        if name == "role":
            continue
        texts = coded[name]["levels"]
        if name == "experiments":
            texts = [one for text in texts for one in text.split(", ")]
        values = [text for text in dict.fromkeys(texts) if text not in ("", NOT_CLEANED)]
        if len(values) > 1:
            options = [("", "all"), *((text, text) for text in values)]
            selects.append(_select(f"f.{name}", label, options))
    return joined(selects)


def _select(name: str, label: str, options: Iterable[tuple[str, str]]) -> Markup:
    choices = [element("option", text, value=value) for value, text in options]
    return element("label", f"{label} ", element("select", *choices, id=name))
