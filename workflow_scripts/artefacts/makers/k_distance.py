"""Poison detection by the distance to the k-th nearest neighbour.

Source: Huang et al., ICLR 2025 (arXiv 2502.01385), and its code.
"""

from typing import Annotated

import numpy as np

from workflow_scripts.artefacts.makers import Given, Made
from workflow_scripts.artefacts.neighbours import (
    Neighbourhood,
    Reference,
    Variant,
    local_outliers,
)

NEEDS = ("pairs",)
USES = ("embeddings",)


def make(
    given: Given,
    *,
    embeddings: str,
    neighbours: Annotated[int, ">= 1"] = 16,
    reference: Reference = "batch",
    variant: Variant = "corrected",
    clean: str | None = None,
) -> Made:
    """Score each pair; for the options see :func:`local_outliers`."""
    return local_outliers(
        given,
        score,
        embeddings=embeddings,
        neighbours=neighbours,
        reference=reference,
        variant=variant,
        clean=clean,
    )


def score(near: Neighbourhood) -> np.ndarray:
    """Return d_k of each row, where d_0 is the distance to the nearest reference."""
    return near.own[:, -1]
