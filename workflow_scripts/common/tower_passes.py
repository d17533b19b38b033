"""Count the tower passes per pair that a set of loss terms requires, as the unit of a budget."""

import functools
from collections.abc import Iterable
from typing import Any

from workflow_scripts.common import variants

View = tuple[str, bool]
"""Description of the embedded view, and whether the frozen start model embeds it."""


def image_views(terms: Iterable[str]) -> set[View]:
    """Return the distinct image views that loss terms use."""
    return {view for term in terms for view in _views(term)["image"]}


def tower_passes(terms: Iterable[str]) -> int:
    """Return the number of tower passes per pair, a forward and a backward pass for each view.

    Views that the start model embeds have no backward pass. The trained model always embeds at
    least one image and one caption view, even if no term uses it.
    """
    names = list(terms)
    passes = 0
    for tower in ("image", "text"):
        seen = {view for term in names for view in _views(term)[tower]}
        trained = {view for view in seen if not view[1]}
        passes += 2 * max(1, len(trained)) + len(seen - trained)
    return passes


def declared_views(term: str) -> list[dict[str, Any]]:
    """Return the views that a loss term declares.

    Raises:
        StepError: The loss term does not exist.
    """
    declared = variants.attribute("loss", term, "views", default={})
    found = declared.values() if isinstance(declared, dict) else ()
    return [view for view in found if isinstance(view, dict)]


# Cached, because thousands of runs use the same few terms.
@functools.cache
def _views(term: str) -> dict[str, frozenset[View]]:
    views = declared_views(term)
    return {
        tower: frozenset(
            (f"{view[tower]} {view.get('draw', 0)}", view.get("by_start", False))
            for view in views
            if view.get(tower) is not None
        )
        for tower in ("image", "text")
    }
