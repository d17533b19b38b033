"""95 % intervals: of a share of images (Wilson) and of a mean over seeds (Student's t)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95


def wilson(
    share: ArrayLike, count: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the limits of the binomial score interval (Wilson, 1927) of ``share`` of ``count``.

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
    # The limits at 0 and 1 are exactly 0 and 1; rounding must not exclude the estimate.
    return np.minimum(middle - half, share).clip(0, 1), np.maximum(middle + half, share).clip(0, 1)


def student(values: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Return mean, lower and upper limit; the limits are NaN for fewer than two values."""
    array = np.asarray(values, float)
    array = array[~np.isnan(array)]
    if len(array) < 2:
        return (float(array[0]) if len(array) else np.nan), np.nan, np.nan
    half = stats.t.ppf((1 + confidence) / 2, len(array) - 1) * stats.sem(array)
    return float(array.mean()), float(array.mean() - half), float(array.mean() + half)
