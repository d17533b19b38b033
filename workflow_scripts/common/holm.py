"""Holm's correction of p-values for the number of tests."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values, of any shape, corrected for the number of all of them; NaN stays NaN.

    Source: Holm, 1979.
    """
    given = np.asarray(p, float)
    flat = given.ravel()
    order = np.argsort(flat)[: np.count_nonzero(~np.isnan(flat))]  # NaN is sorted to the end
    factors = np.arange(len(order), 0, -1)
    corrected = np.full(flat.shape, np.nan)
    corrected[order] = np.maximum.accumulate(np.minimum(1, factors * flat[order]))
    return corrected.reshape(given.shape)
