"""Poison detection by the simplified local outlier factor (SLOF).

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
    """Return the mean of d_k(row) / d_k(o) over the row's neighbours o."""
    return (near.own[:, -1:] / near.theirs[:, :, -1]).mean(1)
