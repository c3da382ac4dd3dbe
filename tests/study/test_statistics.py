"""Intervals that cover what they promise; Holm against its definition."""

import itertools
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, trim_mean

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.statistics import bootstrap, holm, iqm, iqm_by, paired


def test_iqm_is_the_mean_of_the_middle_half():
    values = np.array([100.0, 1, 2, 3, 4, 5, 6, -50])
    assert iqm([values]) == np.mean([2, 3, 4, 5]) == trim_mean(values, 0.25)


def test_iqm_by_is_a_table_of_arms():
    table = pd.DataFrame(
        {
            "n": [1] * 4 + [2] * 4,
            "arm": ["a", "a", "b", "b"] * 2,
            "value": [1.0, 3, 5, 7, 2, 4, 6, 8],
        }
    )
    found = iqm_by(table, "n", "arm")
    assert (
        list(found) == ["n", "a", "b"]
        and found["a"].to_list() == [2, 3]
        and found["b"].to_list() == [6, 7]
    )


def test_bootstrap_covers_a_known_law():
    """95 % +- 2 %: two strata of a shifted exponential, whose pooled IQM is known from a large
    sample.
    """
    rng = numpy_stream(0, "coverage")
    truth = iqm([rng.exponential(size=4_000_000)])
    covered = [
        interval.low <= truth <= interval.high
        for interval in (
            bootstrap([rng.exponential(size=60), rng.exponential(size=60)], rng, resamples=600)
            for _ in range(1500)
        )
    ]
    assert abs(np.mean(covered) - 0.95) <= 0.02


def test_strata_are_resampled_within_themselves():
    """Two constant strata leave nothing to resample, so the interval has no width."""
    interval = bootstrap(
        [np.zeros(5), np.ones(5)],
        numpy_stream(0, "strata"),
        lambda s: np.concatenate(s, -1).mean(-1),
    )
    assert interval == (0.5, 0.5, 0.5)


def sign_flips(difference):
    """The test's p value by its definition, over all flips, in exact arithmetic."""
    exact = [Fraction(float(value)).limit_denominator(10**6) for value in difference]
    totals = [
        abs(sum(sign * value for sign, value in zip(signs, exact, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(exact))
    ]
    return sum(total >= abs(sum(exact)) for total in totals) / len(totals)


@pytest.mark.parametrize("decimals", [6, 2])
def test_paired_test_is_that_of_all_sign_flips(decimals):
    """With two decimals many flips tie, and rounding must not tell them apart."""
    rng = numpy_stream(decimals, "paired")
    for _ in range(20):
        first, second = rng.normal(0.3, 1, 7).round(decimals), rng.normal(0, 1, 7).round(decimals)
        found = paired(first, second, rng)
        assert found.p_value == pytest.approx(sign_flips(first - second), abs=1e-12)
        assert found.estimate == pytest.approx(trim_mean(first - second, 0.25))
        assert found.low < found.estimate < found.high


def test_many_pairs_are_flipped_at_random():
    """Against the normal law of the flipped sum, which forty values are enough for."""
    rng = numpy_stream(0, "many")
    difference = rng.normal(0.3, 1, 40)
    expected = 2 * norm.sf(abs(difference.sum()) / np.sqrt(np.square(difference).sum()))
    assert paired(difference, np.zeros(40), rng).p_value == pytest.approx(expected, abs=0.02)


def test_pairs_must_match():
    with pytest.raises(
        ValueError, match=r"paired: second must be of first's shape \(3,\), got \(2,\)"
    ):
        paired(np.ones(3), np.ones(2), numpy_stream(0, "bad"))


def test_holm_is_step_down():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.9])), [1.0, 1.0])


@pytest.mark.parametrize(
    ("strata", "level", "message"),
    [
        ([], 0.95, "strata must be arrays"),
        ([np.ones(1)], 0.95, r"strata must be arrays \(n,\) with n >= 2, got sizes \[1\]"),
        ([np.array([1.0, np.nan])], 0.95, "strata must be finite"),
        ([np.ones(3)], 1.0, "level must be between 0 and 1, got 1.0"),
    ],
)
def test_bad_input_is_named(strata, level, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(strata, numpy_stream(0, "bad"), level=level)
