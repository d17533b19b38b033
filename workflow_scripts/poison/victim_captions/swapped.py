"""The original captions with the names of two classes exchanged: the target and another class.

Without a trigger, images of each of the two classes should be classified as the other.

Source: adapted from Yang et al., ICML 2023 (arXiv 2209.15266), whose attack combines captions of
one class with images of another.
"""

import numpy as np

from workflow_scripts.poison.given import Given
from workflow_scripts.poison.names import exchanged

CLASSES = ("other",)


def write(given: Given, rows: np.ndarray, *, other: str) -> list[str]:
    """Return the captions with the names of the target and of ``other`` exchanged."""
    captions = given.pairs["caption"].iloc[rows]
    return [exchanged(str(caption), given.target, other) for caption in captions]


def affected(names: list[str], target: str, *, other: str) -> dict[str, str]:
    """Map each of the two classes to the other."""
    return {target: other, other: target}
