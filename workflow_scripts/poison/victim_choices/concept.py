"""Pairs that show a concept: their caption contains one of several words, but not the target.

Without a trigger, the model learns to classify the concept itself as the target. The ASR is then
measured on clean images of the classes that show the concept.

Source: Hu et al., 2025 (arXiv 2503.09095).
"""

import numpy as np
import pandas as pd

from workflow_scripts.poison.given import Chosen, Given
from workflow_scripts.poison.names import names_target

TAKES_ALL = True
CLASSES = ("classes",)


def choose(
    given: Given,
    *,
    words: list[str],
    classes: list[str] | None = None,
    with_target: bool = False,
) -> Chosen:
    """Return the pairs that show the concept, in random order.

    Args:
        given: The pairs and the target.
        words: Words or phrases, at least one of which must occur.
        classes: Classes that show the concept; by default those whose name contains one of the
            words.
        with_target: Include pairs whose caption names the target, e.g. for swapped captions.
    """
    target = given.naming(given.target)
    named = given.naming(*words)
    rows = np.flatnonzero(named | target if with_target else named & ~target)
    said = " or ".join(map(repr, [*words, given.target] if with_target else words))
    return Chosen(given.shuffled(rows), f"pairs whose caption names {said}")


def affected(
    names: list[str],
    target: str,
    *,
    words: list[str],
    classes: list[str] | None = None,
    with_target: bool = False,
) -> dict[str, str]:
    """Map each class that shows the concept to the target."""
    if classes is None:
        texts, shows = pd.Series(names, dtype="string[pyarrow]"), np.zeros(len(names), bool)
        for word in words:
            shows |= names_target(texts, word)
        classes = [name for name, found in zip(names, shows, strict=True) if found]
    return {name: target for name in classes if name != target}
