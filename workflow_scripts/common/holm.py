"""Holm's correction of p-values for multiple testing."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values corrected for the number of tests.

    Args:
        p: P-values of any shape. NaN stays NaN and is not counted as a test.

    Returns:
        Adjusted p-values, of the same shape.

    Source: Holm, 1979.
    """
    values = np.asarray(p, float)
    flat = values.ravel()
    order = np.argsort(flat)[: np.count_nonzero(~np.isnan(flat))]  # NaN sorts last
    factors = np.arange(len(order), 0, -1)
    corrected = np.full(flat.shape, np.nan)
    corrected[order] = np.maximum.accumulate(np.minimum(1, factors * flat[order]))
    return corrected.reshape(values.shape)
