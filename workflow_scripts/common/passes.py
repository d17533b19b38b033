"""How many tower passes a training takes, as its loss terms ask for views: the unit of a budget."""

import functools
from collections.abc import Iterable

from workflow_scripts.common import variants

View = tuple[str, bool]
"""What is embedded, in words, and whether the frozen start model embeds it."""


def image_views(terms: Iterable[str]) -> set[View]:
    """Return the image views of loss terms, those that several terms look at once."""
    return {view for term in terms for view in _views(term)["image"]}


def tower_passes(terms: Iterable[str]) -> int:
    """Return the passes of a tower for each pair: a forward and a backward one for each view.

    What the start model embeds has no backward pass. The trained model embeds an image and a
    caption at least, also where no term looks at one of them.
    """
    names = list(terms)
    passes = 0
    for tower in ("image", "text"):
        seen = {view for term in names for view in _views(term)[tower]}
        trained = {view for view in seen if not view[1]}
        passes += 2 * max(1, len(trained)) + len(seen - trained)
    return passes


# The same few terms are asked for by thousands of runs.
@functools.cache
def _views(term: str) -> dict[str, frozenset[View]]:
    declared = variants.attribute("loss", term, "views", default={})
    found = declared.values() if isinstance(declared, dict) else ()
    views = [view for view in found if isinstance(view, dict)]
    return {
        tower: frozenset(
            (f"{view[tower]} {view.get('draw', 0)}", view.get("by_start", False))
            for view in views
            if view.get(tower) is not None
        )
        for tower in ("image", "text")
    }
