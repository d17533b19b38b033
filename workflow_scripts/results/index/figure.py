"""The main figure as Vega-Lite: ASR and accuracy after cleaning."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workflow_scripts.results.formatting import interval_text
from workflow_scripts.results.index.board import RULES, Row, named, picked_text
from workflow_scripts.results.index.leaderboard import Outcome

_ORACLE, _FREE = "oracle (by ASR)", "oracle-free"
_TOOLTIP = ("Defence", "Start model", "Selection", "text", "Rate, epoch", "Verdict")
_OTHER = "#5B4B8A"
_TICKS = (0, 1, 2, 5, 10, 20, 50, 100)


def main_figure(rows: Sequence[Row], number: str, colours: Mapping[str, Row]) -> Row:
    """Return the panel of one number.

    Args:
        rows: Rows of the leaderboard at one budget.
        number: ``ASR`` or ``Accuracy``.
        colours: Defence to a mapping with its ``colour``.
    """
    points = [point for row in rows for rule in RULES for point in _points(row, rule, number)]
    x: dict[str, Any] = {"type": "quantitative", "title": f"{number} (%)"}
    if number == "ASR":
        x["scale"] = {"type": "symlog", "constant": 1, "domain": [0, 100], "nice": False}
        x["axis"] = {"values": _TICKS}
    else:
        x |= {"scale": {"zero": False}, "axis": {"tickCount": 6}}
    layers = [_intervals(x), _marks(x)]
    for layer in layers:
        layer["encoding"] |= _places(rows)
        layer["encoding"]["stroke"] = _colour(rows, colours)
    layers[1]["encoding"]["fill"] = {
        "condition": {"test": f"datum.Selection === {_ORACLE!r}", **_colour(rows, colours)},
        "value": "transparent",
    }
    return {
        "width": "container",
        "height": {"step": 15},
        "data": {"values": points},
        "layer": [*([_low(x)] if number == "ASR" else []), *layers],
        "description": "; ".join(f"{p['what']}, {p['Selection']}: {p['text']}" for p in points),
    }


def _points(row: Row, rule: str, number: str) -> list[Row]:
    outcome: Outcome = row[rule]
    value, low, high = outcome.asr if number == "ASR" else outcome.accuracy
    if math.isnan(value):
        return []
    return [
        {
            "what": _name(row),
            "Defence": named(row),
            "Start model": row["start_label"],
            "Selection": _ORACLE if rule == "oracle" else _FREE,
            "Rate, epoch": picked_text(outcome),
            "Verdict": outcome.verdict,
            "text": f"{number} {interval_text(value, low, high)}",
            **{k: round(100 * v, 3) for k, v in (("value", value), ("low", low), ("high", high))},
        }
    ]


def _name(row: Row) -> str:
    return f"{row['start_label']} · {named(row)}"


def _places(rows: Sequence[Row]) -> Row:
    order = dict.fromkeys(_name(row) for row in sorted(rows, key=lambda row: row["start_label"]))
    label = "split(replace(datum.label, ' · ', ' · by '), ' · ')"
    axis = {"grid": True, "labelExpr": label, "labelFontSize": 11}
    return {
        "y": {"field": "what", "type": "nominal", "sort": [*order], "title": None, "axis": axis},
        "yOffset": {"field": "Selection", "sort": [_FREE, _ORACLE]},
    }


def _colour(rows: Sequence[Row], colours: Mapping[str, Row]) -> Row:
    known = {named(row): colours.get(row["defence"], {}).get("colour", _OTHER) for row in rows}
    scale = {"domain": [*known], "range": [*known.values()]}
    return {"field": "Defence", "scale": scale, "legend": None}


def _intervals(x: Row) -> Row:
    ends = {"x": x | {"field": "low"}, "x2": {"field": "high"}}
    return {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": ends}


def _marks(x: Row) -> Row:
    return {
        "mark": {"type": "point", "size": 75, "opacity": 1, "strokeWidth": 2},
        "encoding": {"x": x | {"field": "value"}, "tooltip": [{"field": f} for f in _TOOLTIP]},
    }


def _low(x: Row) -> Row:
    return {
        "data": {"values": [{"from": 0, "to": 5}]},
        "mark": {"type": "rect", "opacity": 0.1, "color": "#777"},
        "encoding": {"x": x | {"field": "from"}, "x2": {"field": "to"}},
    }
