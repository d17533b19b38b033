"""Paired differences between defences on the same start models, with Holm correction.

The unit of replication is a seed of the pre-training: start models with the same seed and different
attacks share initialisation and order of the pairs, so their differences are averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from workflow_scripts.common.holm import holm
from workflow_scripts.results.index.leaderboard import Interval
from workflow_scripts.results.replicates import over_starts, paired_p, start_means
from workflow_scripts.results.selection import ACCURACY, ASR

NUMBERS = {"oracle": ACCURACY, "free": ASR}
"""The number compared under each selection rule; the rule constrains the other one."""
_CELL = ("start_label", "dataset", "epochs", "pairs", "trials")


@dataclass(frozen=True)
class Comparison:
    """Comparison of a row with the best row of its cell.

    ``difference`` is row minus best with its limits (fractions), ``p`` the Holm-corrected p-value,
    ``starts`` the number of shared start models with different seeds, ``best`` the index of the
    best row.
    """

    difference: Interval
    p: float
    starts: int
    best: int


def comparisons(rows: Sequence[dict[str, Any]], rule: str) -> list[Comparison | None]:
    """Compare each row of the leaderboard with the best of its cell, on the same start models.

    A cell is a kind of start model at one budget. Holm's correction covers all pairs of rows
    within all cells, so the best row may be determined post hoc.

    Args:
        rows: Rows of the leaderboard, the best of each cell first.
        rule: ``oracle`` or ``free``; see :data:`NUMBERS` for the compared number.

    Returns:
        One comparison per row; None for the best row of a cell.
    """
    means = [_of_starts(row, rule) for row in rows]
    seeds = {start: seed for row in rows for start, seed in _seeds(row, rule).items()}
    cells: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(rows):
        cells.setdefault(tuple(row[key] for key in _CELL), []).append(place)
    pairs = [pair for places in cells.values() for pair in combinations(places, 2)]
    differences = [_differences(means[a], means[b], seeds) for a, b in pairs]
    corrected = holm([paired_p(list(d.values())) for d in differences])
    found: list[Comparison | None] = [None] * len(rows)
    firsts = {places[0] for places in cells.values()}
    for (best, place), own, p in zip(pairs, differences, corrected, strict=True):
        if best in firsts:
            interval = over_starts(list(own.values()), list(own))
            found[place] = Comparison(interval, float(p), len(own), best)
    return found


def _of_starts(row: dict[str, Any], rule: str) -> dict[str, float]:
    picks = row["picks"][rule]
    return start_means(picks[NUMBERS[rule]], list(picks["start"])) if len(picks) else {}


def _seeds(row: dict[str, Any], rule: str) -> dict[str, Any]:
    """Return the seed of each start model; its id if the seed is unknown."""
    picks = row["picks"][rule]
    if not len(picks):
        return {}
    return dict(zip(picks["start"], picks.get("start_seed", picks["start"]), strict=True))


def _differences(
    best: dict[str, float], other: dict[str, float], seeds: Mapping[str, Any]
) -> dict[str, float]:
    shared = [start for start in best if start in other]
    return start_means([other[s] - best[s] for s in shared], [str(seeds[s]) for s in shared])


def comparison_text(one: Comparison | None) -> str:
    """Return e.g. ``+3.1 points (1.0 to 5.2), p = 0.012``."""
    if one is None:
        return "best"
    if one.starts < 2 or np.isnan(one.difference[0]):
        reason = "undecided: one start model" if one.starts else "no selected models to compare"
        return f"{100 * one.difference[0]:+.1f} points, {reason}" if one.starts else reason
    value, low, high = (100 * part for part in one.difference)
    p = "undefined" if np.isnan(one.p) else "< 0.001" if one.p < 0.001 else f"= {one.p:.2g}"
    return f"{value:+.1f} points ({low:.1f} to {high:.1f}), p {p}, {one.starts} start models"
