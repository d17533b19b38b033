"""Pairs whose caption names the target; they keep their captions.

Source: Turner et al., 2019; Bansal et al., 2023.
"""

import numpy as np

from workflow_scripts.poison.given import Chosen, Given

CAPTIONS = "as_is"
TAKES_ALL = True


def choose(given: Given) -> Chosen:
    """Return the pairs whose caption names the target, in random order."""
    rows = np.flatnonzero(given.naming(given.target))
    return Chosen(given.shuffled(rows), f"pairs whose caption names {given.target!r}")
