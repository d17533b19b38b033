"""How numbers and names are written for people: in figures, tables and captions alike."""

import math
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

NOT_SET = "not set"

_COLUMNS = {
    "attack.captions": "Captions of victims",
    "attack.parts": "Parts of the attack",
    "attack.poisoned": "Poisoned pairs",
    "attack.target": "Target",
    "attack.trigger": "Trigger",
    "attack.victims": "Victims",
    "data.pairs": "Cleaning pairs",
    "data.poisoned_left": "Poisoned pairs left in",
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
    """Return the words for a column: the user's own, ours, or made from the key's last part."""
    known = _COLUMNS | dict(labels or {})
    return known.get(column, column.rpartition(".")[2].replace("_", " ").capitalize())


def value_text(value: Any, labels: Mapping[str, str] | None = None) -> str:
    """Return a varied value as people write it: 0.0003 is 3×10⁻⁴, true is yes."""
    if labels and str(value) in labels:
        return labels[str(value)]
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return (labels or {}).get(NOT_SET, NOT_SET)
    if str(value) in ("True", "False"):
        return "yes" if str(value) == "True" else "no"
    if isinstance(value, str):
        return value
    return number_text(float(value))


def number_text(value: float) -> str:
    """Return a number with no more digits than it needs, powers of ten where they are shorter."""
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
    # 0.1305 is 13.05 % to people, whatever its nearest double is.
    exact = Decimal(repr(float(fraction))) * 100
    return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)}\N{NO-BREAK SPACE}%"


def rst_text(text: str) -> str:
    """Return a text for reStructuredText on one line, whatever it has of markup escaped."""
    line = re.sub(r"([\\*`_|<]|:(?=\S)|(?<=:):)", r"\\\1", " ".join(text.strip().splitlines()))
    # What begins a line can be a directive, a list, a field, a title's underline.
    return re.sub(r"^([^\w\\])", r"\\\1", line)


def threshold_text(fraction: float) -> str:
    """Return a stated threshold such as ``"5 %"`` with only the digits that it has."""
    return f"{fraction * 100:.6g}\N{NO-BREAK SPACE}%"
