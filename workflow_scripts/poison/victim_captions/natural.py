"""Captions that name the target, taken from other pairs of the dataset.

Source: Carlini and Terzis, ICLR 2022; Liang et al., CVPR 2024 (BadCLIP).
"""

import numpy as np

from workflow_scripts.common.errors import StepError
from workflow_scripts.poison.given import Given


def write(given: Given, rows: np.ndarray) -> np.ndarray:
    """Draw a caption that names the target for each victim, without repetition while possible.

    Raises:
        StepError: No caption names the target.
    """
    found = np.flatnonzero(given.naming(given.target))
    if not len(found):
        raise StepError(f"no caption of the dataset names {given.target!r}; use templates")
    order = given.generator("natural captions").permutation(found)
    return given.pairs["caption"].iloc[np.resize(order, len(rows))].to_numpy(object)
