"""Any pairs, drawn at random; those whose image shows the target already are included.

Source: Carlini and Terzis, 2022; Bansal et al., 2023.
"""

import numpy as np

from workflow_scripts.poison.given import Chosen, Given


def choose(given: Given) -> Chosen:
    """Return all pairs in random order."""
    return Chosen(given.shuffled(np.arange(len(given.pairs))))
