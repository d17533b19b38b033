"""95 % intervals: of a share of images (binomial) and of a mean over seeds (Student's t)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
FEW = 40
"""Below this number of images, intervals are exact instead of approximate."""


def binomial(
    share: ArrayLike, count: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the limits of the interval of ``share`` of ``count``.

    The score interval (Wilson, 1927); for fewer than ``FEW`` images, as in attacks on individual
    images, the exact interval (Clopper and Pearson, 1934), which is wider.

    Args:
        share: Fractions 0..1, any shape; NaN gives NaN.
        count: Number of images behind each share, broadcast against ``share``; a missing or
            zero count gives NaN.
        confidence: Confidence level.
    """
    share, count = np.broadcast_arrays(np.asarray(share, float), np.asarray(count, float))
    count = np.where(count > 0, count, np.nan)
    z = stats.norm.ppf((1 + confidence) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    hits, tail = share * count, (1 - confidence) / 2
    # A Beta distribution has positive parameters; at 0 and at all hits, a limit is 0 or 1.
    exact_low = stats.beta.ppf(tail, np.maximum(hits, 1e-9), count - hits + 1)
    exact_high = stats.beta.ppf(1 - tail, hits + 1, np.maximum(count - hits, 1e-9))
    few = count < FEW
    low = np.where(few, np.where(hits > 0, exact_low, 0), middle - half)
    high = np.where(few, np.where(hits < count, exact_high, 1), middle + half)
    # The limits at 0 and 1 are exactly 0 and 1; rounding must not exclude the estimate.
    return np.minimum(low, share).clip(0, 1), np.maximum(high, share).clip(0, 1)


def student(values: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Return mean, lower and upper limit; the limits are NaN for fewer than two values."""
    array = np.asarray(values, float)
    array = array[~np.isnan(array)]
    if len(array) < 2:
        return (float(array[0]) if len(array) else np.nan), np.nan, np.nan
    half = stats.t.ppf((1 + confidence) / 2, len(array) - 1) * stats.sem(array)
    return float(array.mean()), float(array.mean() - half), float(array.mean() + half)
