"""Pairs drawn at random, including those whose image already shows the target.

Source: Carlini and Terzis, 2022; Bansal et al., 2023.
"""

import numpy as np

from workflow_scripts.poison.given import Chosen, Given

READS_CAPTIONS = False


def choose(given: Given) -> Chosen:
    """Return all pairs in random order."""
    return Chosen(given.shuffled(np.arange(len(given.pairs))))
