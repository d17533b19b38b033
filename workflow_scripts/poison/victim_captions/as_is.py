"""The victims' own captions."""

import numpy as np

from workflow_scripts.poison.given import Given


def write(given: Given, rows: np.ndarray) -> np.ndarray:
    """Return the captions as they are."""
    return given.pairs["caption"].iloc[rows].to_numpy(object)
