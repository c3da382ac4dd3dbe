"""Intervals that cover what they promise; Holm against its definition."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipys_bootstrap, trim_mean

from gmmdiff.core.statistics import bootstrap, holm, iqm, iqm_weights, percentile_ends, weighted_iqm
from gmmdiff.core.streams import numpy_stream


def test_iqm_is_the_mean_of_the_middle_half():
    assert iqm([np.array([100.0, 1, 2, 3]), np.array([4.0, 5, 6, -50])]) == 3.5


def test_bootstrap_covers_a_known_law():
    """95 % +- 3 %: two strata of an exponential, whose pooled IQM is known from a large sample."""
    rng = numpy_stream(0, "coverage")
    truth = iqm([rng.exponential(size=4_000_000)])
    drawn = (rng.exponential(size=(2, 60)) for _ in range(400))
    intervals = [bootstrap(list(strata), rng, resamples=300) for strata in drawn]
    covered = [interval.low <= truth <= interval.high for interval in intervals]
    assert abs(np.mean(covered) - 0.95) <= 0.03


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_an_interval_has_scipys_ends(level):
    values = numpy_stream(0, "values").exponential(size=30)
    found = bootstrap([values], numpy_stream(0, "interval"), resamples=20_000, level=level)
    how = {"method": "percentile", "n_resamples": 20_000, "random_state": 0}
    of = lambda x, axis: trim_mean(x, 0.25, axis=axis)  # noqa: E731
    expected = scipys_bootstrap((values,), of, confidence_level=level, **how).confidence_interval
    assert found[1:] == pytest.approx(expected, abs=0.03 * (expected.high - expected.low))


@pytest.mark.parametrize("n", [5, 7, 20])
def test_resamples_by_their_weights_are_resamples(n):
    """Against the trimmed means of the values that the same generator draws."""
    values = np.sort(numpy_stream(1, "values").normal(size=(3, n)))
    weights = iqm_weights(n, 50, numpy_stream(0, "same"))
    drawn = numpy_stream(0, "same").integers(0, n, (50, n))
    expected = trim_mean(values[:, drawn], 0.25, axis=-1)
    np.testing.assert_allclose(weighted_iqm(values[:, ::-1], weights), expected)


@pytest.mark.parametrize("level", [0.95, 0.99, 1 - 0.05 / 7])
def test_ends_are_quantiles(level):
    values = numpy_stream(0, "ends").normal(size=(3, 4, 777))
    expected = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    np.testing.assert_allclose(percentile_ends(values, level), expected, rtol=1e-12)


def test_strata_are_resampled_within_themselves():
    """Two constant strata leave nothing to resample, so the interval has no width."""
    rng, strata = numpy_stream(0, "strata"), [np.zeros(5), np.ones(5)]
    mean = lambda strata: np.concatenate(strata, -1).mean(-1)  # noqa: E731
    assert bootstrap(strata, rng, mean) == (0.5, 0.5, 0.5)


def test_holm_is_step_down():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.9, 0.0])), [1.0, 1.0, 0.0])
