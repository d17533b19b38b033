"""The original captions of the victims, unchanged."""

import numpy as np

from workflow_scripts.poison.given import Given


def write(given: Given, rows: np.ndarray) -> np.ndarray:
    """Return the original captions."""
    return given.pairs["caption"].iloc[rows].to_numpy(object)
