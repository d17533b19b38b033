"""Formatting of numbers and names in figures, tables and captions."""

import math
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

NOT_SET = "not set"
_PERCENT = "\N{NO-BREAK SPACE}%"

_COLUMNS = {
    "attack.captions": "Victim captions",
    "attack.parts": "Parts of the attack",
    "attack.poisoned": "Poisoned pairs",
    "attack.target": "Target",
    "attack.trigger": "Trigger",
    "attack.victims": "Victims",
    "data.pairs": "Cleaning pairs",
    "data.poisoned_left": "Residual poisoned pairs",
    "defence": "Cleaned by",
    "learning_rate": "Learning rate",
    "objective.mmcl": "MMCL weight",
    "objective.ssl": "SSL weight",
    "start_change.shrink": "Shrink factor",
    "start_change.u": "Pruning threshold (standard deviations)",
    "start_label": "Start model",
}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def column_text(column: str, labels: Mapping[str, str] | None = None) -> str:
    """Return the label of a column: the user's, the built-in one, or the key's last part."""
    known = _COLUMNS | dict(labels or {})
    of_start = column.removeprefix("start.")
    if of_start != column and column not in known:
        return f"{column_text(of_start, labels)} of the start model"
    return known.get(column, column.rpartition(".")[2].replace("_", " ").capitalize())


def value_text(value: Any, labels: Mapping[str, str] | None = None) -> str:
    """Return a varied value as text: 0.0003 becomes 3×10⁻⁴, true becomes yes."""
    if labels and str(value) in labels:
        return labels[str(value)]
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return (labels or {}).get(NOT_SET, NOT_SET)
    if str(value) in ("True", "False"):
        return "yes" if str(value) == "True" else "no"
    if isinstance(value, str):
        # A column that also has texts holds its numbers as texts.
        return re.sub(r"^(-?\d+)\.0$", r"\1", value)
    return number_text(float(value))


def number_text(value: float) -> str:
    """Return a number without redundant digits, as a power of ten where that is shorter."""
    if value == 0 or 0.01 <= abs(value) < 1e6:
        return f"{value:,.6g}" if abs(value) >= 10_000 else f"{value:.6g}"
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa}×{power}"


def percent_text(fraction: float, digits: int = 1) -> str:
    """Return a fraction as e.g. ``"24.0 %"``, halves rounded up, "–" if missing."""
    if fraction is None or math.isnan(fraction):
        return "–"
    # Round the shortest decimal representation, not the binary value.
    exact = Decimal(repr(float(fraction))) * 100
    return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)}{_PERCENT}"


def interval_text(value: float, low: float, high: float) -> str:
    """Return a fraction and its interval as e.g. ``"69.0 % (66.6–71.3)"``, "–" if missing."""
    text, *ends = map(percent_text, (value, low, high))
    if math.isnan(value) or math.isnan(low):
        return text
    return f"{text} ({'–'.join(end.removesuffix(_PERCENT) for end in ends)})"


def rst_text(text: str) -> str:
    """Return a text on one line of reStructuredText, with all markup escaped."""
    line = re.sub(r"([\\*`_|<]|:(?=\S)|(?<=:):)", r"\\\1", " ".join(text.strip().splitlines()))
    # The first character of a line may start a directive, list, field or title underline.
    return re.sub(r"^([^\w\\])", r"\\\1", line)


def threshold_text(fraction: float) -> str:
    """Return a threshold such as ``"5 %"`` without redundant digits."""
    return f"{fraction * 100:.6g}{_PERCENT}"
