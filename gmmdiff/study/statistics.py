"""Interquartile means, bootstrap intervals and corrected tests (arXiv 2108.13264)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, trim_mean

from gmmdiff.core.checks import require
from gmmdiff.core.streams import numpy_stream

FLIPS = 2**14  # of signs: all of them up to 14 pairs, as many random ones beyond
Statistic = Callable[[list[np.ndarray]], np.ndarray]


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    estimate: float
    low: float
    high: float


def iqm(strata: list[np.ndarray]) -> np.ndarray:
    """Interquartile mean over the pooled last axes: each stratum ``(..., n_i)`` -> ``(...)``."""
    return trim_mean(np.concatenate(strata, -1), 0.25, axis=-1)


def iqm_by(table: pd.DataFrame, index: str, columns: str) -> pd.DataFrame:
    """Interquartile means of ``value``: a row a level of ``index``, a column a level of
    ``columns``.
    """
    return table.pivot_table(
        index=index, columns=columns, values="value", aggfunc=lambda v: float(iqm([v.to_numpy()]))
    ).reset_index()


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
    counts = [values.size for values in strata]
    enough = len(counts) > 0 and min(counts) >= 2 and all(values.ndim == 1 for values in strata)
    require(enough, "bootstrap", "strata", "arrays (n,) with n >= 2", f"sizes {counts}")
    require(
        all(np.isfinite(v).all() for v in strata),
        "bootstrap",
        "strata",
        "finite",
        "NaN or infinity",
    )
    require(0 < level < 1, "bootstrap", "level", "between 0 and 1", level)
    drawn = [values[rng.integers(0, values.size, (resamples, values.size))] for values in strata]
    low, high = np.quantile(statistic(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(strata)), float(low), float(high))


class Contrast(NamedTuple):
    """A paired difference: interquartile mean, ends of its interval, p value of "no difference"."""

    estimate: float
    low: float
    high: float
    p_value: float


def _total(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    """Sums of differences; rounded, or flips that tie would be told apart by their last digits."""
    return np.sum(first - second, axis=axis).round(12)


def paired(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> Contrast:
    """first minus second, ``(n,)`` each and paired: IQM, percentile interval, and a sign-flip test
    of the mean.

    The test is exact where 2^n is at most ``FLIPS``, and takes as many random flips beyond.

    Raises:
        ValueError: on sizes that differ or are below 2, NaN or infinity.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    require(
        first.shape == second.shape,
        "paired",
        "second",
        f"of first's shape {first.shape}",
        second.shape,
    )
    difference = first - second
    interval = bootstrap([difference], rng)
    test = permutation_test(
        (first, second),
        _total,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        rng=rng,
    )
    return Contrast(*interval, float(test.pvalue))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p values ``(n,)`` (Holm 1979, Scand. J. Statist. 6:65)."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(p_values.size, 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def paired_by_seed(runs: pd.DataFrame, first: str, second: str, **labels: Any) -> dict[str, Any]:
    """One contrast: two queries of the runs table, paired by seed."""
    one, other = (runs.query(query).set_index("seed")["value"] for query in (first, second))
    pairs = pd.concat([one, other], axis=1, join="inner", keys=["one", "other"])
    name = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in labels.items()
    )
    found = paired(
        pairs["one"].to_numpy(),
        pairs["other"].to_numpy(),
        numpy_stream(0, f"{first} - {second}, {name}"),
    )
    return {**labels, **found._asdict(), "n_seeds": len(pairs)}
