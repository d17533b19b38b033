"""The victims' own captions with the names of two classes exchanged: the target and another one.

Without a trigger, images of each of the two classes are to be taken for the other.

Source: after Yang et al., ICML 2023 (arXiv 2209.15266), whose attack pairs captions of one class
with images of another one.
"""

import numpy as np

from workflow_scripts.poison.given import Given
from workflow_scripts.poison.names import exchanged

CLASSES = ("other",)


def write(given: Given, rows: np.ndarray, *, other: str) -> list[str]:
    """Return the captions with the target's name and that of ``other`` exchanged."""
    captions = given.pairs["caption"].iloc[rows]
    return [exchanged(str(caption), given.target, other) for caption in captions]


def affected(names: list[str], target: str, *, other: str) -> dict[str, str]:
    """Return both classes, each with the other one."""
    return {target: other, other: target}
