"""95 % intervals: of a share of images (Wilson) and of a mean over seeds (Student)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95


def wilson(
    share: ArrayLike, count: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the binomial score interval (Wilson, 1927) of ``share`` of ``count``.

    Args:
        share: Fractions 0..1, any shape; NaN gives NaN.
        count: How many images each is a share of, broadcast against ``share``; a missing or
            zero count gives NaN.
        confidence: How much of the time the interval holds the true share.
    """
    share, count = np.broadcast_arrays(np.asarray(share, float), np.asarray(count, float))
    count = np.where(count > 0, count, np.nan)
    z = stats.norm.ppf((1 + confidence) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    # At 0 and 1 the exact ends are 0 and 1; rounding must not put the point outside.
    return np.minimum(middle - half, share).clip(0, 1), np.maximum(middle + half, share).clip(0, 1)


def student(values: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Return mean and interval ends of ``values``; the ends are NaN for fewer than two."""
    given = np.asarray(values, float)
    given = given[~np.isnan(given)]
    if len(given) < 2:
        return (float(given[0]) if len(given) else np.nan), np.nan, np.nan
    half = stats.t.ppf((1 + confidence) / 2, len(given) - 1) * stats.sem(given)
    return float(given.mean()), float(given.mean() - half), float(given.mean() + half)
