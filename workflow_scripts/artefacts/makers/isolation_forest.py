"""Poison detection by isolation forests (Liu et al., 2008).

Source: Huang et al., ICLR 2025 (arXiv 2502.01385), with one forest per batch.
"""

from typing import Annotated

import numpy as np
from sklearn.ensemble import IsolationForest

from workflow_scripts.artefacts.makers import Given, Made
from workflow_scripts.artefacts.neighbours import (
    Reference,
    clean_pairs,
    embedded_pairs,
    random_blocks,
    scored,
)

NEEDS = ("pairs",)
USES = ("embeddings",)


def make(
    given: Given,
    *,
    embeddings: str,
    trees: Annotated[int, ">= 1"] = 100,
    reference: Reference = "batch",
    clean: str | None = None,
) -> Made:
    """Score each pair by the negative of scikit-learn's ``score_samples`` on its image embedding.

    Args:
        given: The pairs.
        embeddings: The embeddings of the pairs.
        trees: Number of trees per forest.
        reference: The images and texts that a forest is fitted to: ``batch``, those of a random
            block of rows, including the scored row; ``full``, those of all rows; ``clean``, those
            of the pairs in ``clean``.
        clean: The embeddings of the clean pairs.
    """
    pairs = embedded_pairs(given, embeddings)
    blocks = random_blocks(given, len(pairs)) if reference == "batch" else [np.arange(len(pairs))]
    scores = np.zeros(len(pairs))
    for number, rows in enumerate(blocks):
        fitted = clean_pairs(clean) if reference == "clean" else pairs[rows]
        draw = int(given.generator("forest", number).integers(2**31))
        forest = IsolationForest(n_estimators=trees, random_state=draw).fit(fitted.references)
        scores[rows] = -forest.score_samples(pairs.images[rows])
    return scored(given, scores)
