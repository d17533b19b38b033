"""Statistics over start models: the unit of replication is the start model, not the image.

Cleaning seeds are nested in start models, so both levels are resampled: start models first, then
seeds within each (hierarchical bootstrap; Davison and Hinkley, 1997, section 3.8).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from workflow_scripts.common.intervals import CONFIDENCE, student

DRAWS = 2000
Interval = tuple[float, float, float]


def over_starts(values: ArrayLike, starts: Sequence[str], seed: int = 0) -> Interval:
    """Return the mean over start models and its 95 % interval by the hierarchical bootstrap.

    Percentile intervals are too narrow for few start models. Deviations from the mean are
    therefore widened by the factor sqrt(n / (n - 1)) t / z (Hesterberg, 2015), and the interval is
    at least Student's over the start models' means.

    Args:
        values: [replicates], one number per start model, clean split and seed; NaN is ignored.
        starts: [replicates], the start model of each value.
        seed: Seed of the bootstrap.

    Returns:
        Mean of the start models' means, lower and upper limit; the limits are NaN for a single
        start model.
    """
    groups = _groups(values, starts)
    means = np.array([group.mean() for group in groups.values()])
    n = len(means)
    if n < 2:
        return (float(means[0]) if n else np.nan), np.nan, np.nan
    random = np.random.default_rng(seed)
    # [start models, n x DRAWS]: seeds are resampled for every start model drawn.
    drawn = np.stack([_drawn_means(group, n * DRAWS, random) for group in groups.values()])
    places = random.integers(n, size=n * DRAWS)
    totals = drawn[places, np.arange(n * DRAWS)].reshape(DRAWS, n).mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    widening = np.sqrt(n / (n - 1)) * stats.t.ppf(1 - tail, n - 1) / stats.norm.ppf(1 - tail)
    low, high = np.quantile(totals, [tail, 1 - tail])
    mean, least, most = student(means)
    return (
        mean,
        float(min(least, mean + widening * (low - mean))),
        float(max(most, mean + widening * (high - mean))),
    )


def start_means(values: ArrayLike, starts: Sequence[str]) -> dict[str, float]:
    """Return the mean of each start model over its seeds."""
    return {start: float(group.mean()) for start, group in _groups(values, starts).items()}


def paired_p(differences: ArrayLike) -> float:
    """Return the two-sided p-value of Student's paired t-test.

    Args:
        differences: [start models], paired differences.

    Returns:
        The p-value; NaN for fewer than two differences, or if they are equal: shares of few images
        may coincide, which does not show that there is no variation.
    """
    array = np.asarray(differences, float)
    if len(array) < 2 or np.ptp(array) < 1e-12:
        return np.nan
    return float(stats.ttest_1samp(array, 0).pvalue)


def _groups(values: ArrayLike, starts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    array, names = np.asarray(values, float), np.asarray(starts, dtype=object)
    valid = ~np.isnan(array)
    return {name: array[valid & (names == name)] for name in dict.fromkeys(names[valid])}


def _drawn_means(
    group: NDArray[np.float64], draws: int, random: np.random.Generator
) -> NDArray[np.float64]:
    if len(group) == 1:
        return np.full(draws, group[0])
    return group[random.integers(len(group), size=(draws, len(group)))].mean(axis=1)
