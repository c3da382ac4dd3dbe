"""Interquartile means, bootstrap intervals and corrected tests (arXiv 2108.13264)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import trim_mean

from gmmdiff.core.checks import require

Statistic = Callable[[list[np.ndarray]], np.ndarray]


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    estimate: float
    low: float
    high: float


def iqm(strata: list[np.ndarray]) -> np.ndarray:
    """Interquartile mean over the pooled last axes: each stratum ``(..., n_i)`` -> ``(...)``."""
    return trim_mean(np.concatenate(strata, -1), 0.25, axis=-1)


def bootstrap(
    strata: Sequence[np.ndarray],
    rng: np.random.Generator,
    statistic: Statistic = iqm,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic; each stratum is resampled within itself.

    Args:
        strata: one or more ``(n_i,)`` arrays, n_i >= 2.
        statistic: maps arrays ``(..., n_i)`` to ``(...)``.
        level: coverage, in (0, 1).

    Raises:
        ValueError: on a stratum of fewer than two values, NaN or infinity, or a bad level.
    """
    strata = [np.asarray(values, dtype=float) for values in strata]
    shapes = [values.shape for values in strata]
    good = len(strata) > 0 and all(len(shape) == 1 and shape[0] >= 2 for shape in shapes)
    require(good, "bootstrap", "strata", "arrays (n,) with n >= 2", shapes)
    good = all(np.isfinite(values).all() for values in strata)
    require(good, "bootstrap", "strata", "finite", "NaN or infinity")
    require(0 < level < 1, "bootstrap", "level", "between 0 and 1", level)
    drawn = [values[rng.integers(0, values.size, (resamples, values.size))] for values in strata]
    low, high = np.quantile(statistic(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(strata)), float(low), float(high))


def iqm_weights(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Bootstrap resamples of n values, each as weights ``(resamples, n)`` of the *sorted* values.

    So weighted their sum is the resample's interquartile mean.
    """
    drawn = rng.integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n)
    cut, ends = n // 4, counts.cumsum(1)
    # Of a value that stands at places a .. b of a sorted resample, what lies in its middle half.
    inside = np.minimum(ends, n - cut) - np.maximum(ends - counts, cut)
    return np.maximum(inside, 0) / (n - 2 * cut)


def weighted_iqm(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """IQMs ``(..., r)`` of resamples of values ``(..., n)``, by ``iqm_weights`` ``(r, n)``."""
    return np.sort(values, -1) @ weights.T


def percentile_ends(resampled: np.ndarray, level: float) -> np.ndarray:
    """Ends of percentile intervals: ``(..., r)`` -> ``(2, ...)``; numpy's quantiles, but sooner."""
    places = (resampled.shape[-1] - 1) * np.array([(1 - level) / 2, (1 + level) / 2])
    below = places.astype(int)
    above = np.minimum(below + 1, resampled.shape[-1] - 1)
    ordered = np.partition(resampled, [*below, *above], -1)
    found = ordered[..., below] + (ordered[..., above] - ordered[..., below]) * (places - below)
    return np.moveaxis(found, -1, 0)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p values ``(n,)`` (Holm 1979, Scand. J. Statist. 6:65).

    Raises:
        ValueError: on another shape, NaN, or a value outside [0, 1].
    """
    p_values = np.asarray(p_values, dtype=float)
    good = p_values.ndim == 1 and bool(((p_values >= 0) & (p_values <= 1)).all())
    require(good, "holm", "p_values", "(n,) in [0, 1]", p_values.tolist())
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(p_values.size, 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
