"""The rule: as it stands in the design, on synthetic cells with known effects, and on bad input."""

import numpy as np
import pytest
from scipy.stats import trim_mean

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study import verdicts
from gmmdiff.study.statistics import iqm, resample_counts, weighted_iqm
from gmmdiff.study.verdicts import Cell, assess, rule, state, verdict

SEEDS, DELTA = 20, 1.0


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected"),
    [
        (-3, -1.1, False, "holds"),
        (-3, -0.9, False, "undecided"),
        (-1, 1, False, "negligible"),
        (-0.5, 1.1, False, "undecided"),
        (1.1, 3, False, "reversed"),
        (0.9, 3, False, "undecided"),
        (-3, 3, False, "undecided"),
        (-3, 0.9, True, "holds"),
        (-0.5, 0.5, True, "holds"),
        (0.5, 1.1, True, "undecided"),
        (1.1, 3, True, "reversed"),
    ],
)
def test_the_interval_alone_decides_the_state(low, high, margin, expected):
    assert state(low, high, DELTA, margin) == expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["holds", "holds"], "reproduced"),
        (["negligible", "negligible"], "no effect"),
        (["reversed", "reversed"], "reversed"),
        (["holds", "negligible"], "partly"),
        (["holds", "undecided"], "partly"),
        (["holds", "reversed"], "mixed"),
        (["negligible", "reversed"], "mixed"),
        (["undecided", "reversed"], "mixed"),
        (["negligible", "undecided"], "inconclusive"),
        (["undecided"], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_the_states_decide_the_verdict(states, expected):
    assert verdict(states) == expected


@pytest.mark.parametrize("n", [5, 7, 20])
def test_resamples_by_their_counts_are_resamples(n):
    """Trimmed means of the resampled values themselves, and as many of each value as drawn."""
    rng = numpy_stream(n, "counts")
    values, counts = rng.normal(size=(3, n)), resample_counts(n, 50, rng)
    assert counts.shape == (50, n) and (counts.sum(1) == n).all()
    for row, of_row in zip(values, weighted_iqm(values, counts), strict=True):
        resamples = np.stack([np.repeat(np.sort(row), count) for count in counts])
        np.testing.assert_allclose(of_row, trim_mean(resamples, 0.25, axis=1))


def intervals_of(draws, tail=0.025):
    counts = resample_counts(SEEDS, 2000, numpy_stream(0, "operating"))
    return verdicts._intervals(draws, counts, tail)


LAWS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("effect", "error", "expected", "least", "most"),
    [
        (-2.0, 0.1, "holds", 0.93, 1),
        (0.0, 0.1, "negligible", 0.93, 1),
        (2.0, 0.1, "reversed", 0.93, 1),
        (-0.5, 0.1, "negligible", 0.93, 1),
        (0.0, 1.0, "holds", 0, 0.025),
    ],
)
def test_known_effects_get_their_states(law, effect, error, expected, least, most):
    """2,000 draws of 20 seeds; the law's own IQM and its standard error are taken out and put in.

    The claimed side is below 0.
    """
    rng = numpy_stream(0, f"{law} {effect} {error}")
    centre = iqm([LAWS[law](rng, 1_000_000)])
    spread = iqm([LAWS[law](rng, (20_000, SEEDS))]).std()
    draws = effect + error * (LAWS[law](rng, (2000, SEEDS)) - centre) / spread
    found = [state(*ends, DELTA) for ends in intervals_of(draws).T]
    assert least <= np.mean([one == expected for one in found]) <= most


def cells(*effects, spread=0.2, seeds=SEEDS, **options):
    rng = numpy_stream(0, "cells")
    return [
        Cell({"cell": number}, effect + spread * rng.normal(size=seeds), DELTA, **options)
        for number, effect in enumerate(effects)
    ]


def test_intervals_are_simultaneous():
    """Of ten cells each end is farther out than of one: its tail is a tenth."""
    many = cells(*[0.0] * 10)
    (alone,), _ = assess("claim", many[:1])
    together = assess("claim", many)[0][0]
    assert together.estimate == alone.estimate == pytest.approx(iqm([many[0].difference]))
    assert together.low < alone.low < alone.high < together.high


def test_a_clear_verdict_replicates_and_one_on_the_border_does_not():
    clear = rule("claim", cells(-3, -2))
    assert (clear.verdict, clear.replication, clear.rival) == ("reproduced", 1, None)
    spread = 1.0
    edge = spread * 0.52  # half the width of the interval, about
    border = rule("claim", cells(-1 - edge, spread=spread))
    assert border.verdict in ("reproduced", "inconclusive") and border.replication < 0.9
    assert {border.verdict, border.rival} == {"reproduced", "inconclusive"}


def test_replicates_are_the_whole_rule_on_resampled_seeds(monkeypatch):
    """Against the rule itself, run again and again on seeds drawn here, the same for all cells."""
    whole = cells(-1.3, -0.2, spread=1.0)
    found, rng = rule("claim", whole), numpy_stream(0, "again")
    monkeypatch.setattr(verdicts, "RESAMPLES", 1000)
    same = 0
    for _ in range(400):
        chosen = rng.integers(0, SEEDS, SEEDS)
        again = [Cell(cell.factors, cell.difference[chosen], DELTA) for cell in whole]
        same += verdict(assess("claim", again)[1]) == found.verdict
    assert found.replication == pytest.approx(same / 400, abs=0.08)


def test_a_cell_with_nothing_to_ask_is_not_judged():
    calm, restless = np.full(SEEDS, 0.9), np.full(SEEDS, 1.1)
    one, other = cells(-3, 3)
    quiet = Cell(other.factors, other.difference, DELTA, above=(calm, calm))
    found = rule("claim", [one, quiet])
    assert (found.verdict, found.states) == ("reproduced", ["holds", None])
    loud = Cell(other.factors, other.difference, DELTA, above=(calm, restless))
    assert rule("claim", [one, loud]).states == ["holds", "reversed"]
    assert rule("claim", [quiet]).verdict == "inconclusive"


def test_too_few_seeds_give_no_verdict():
    found = rule("claim", cells(-3, seeds=19))
    assert (found.verdict, found.states, found.replication) == ("inconclusive", ["holds"], 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cell({"arm": "a"}, np.zeros(20), -0.1), "cell arm a: delta must be > 0, got -0.1"),
        (
            lambda: Cell({"arm": "a"}, np.zeros(1), 0.1),
            "cell arm a: seeds must be at least 2, got 1",
        ),
        (
            lambda: Cell({"arm": "a"}, np.zeros(20), 0.1, above=[np.zeros(19)]),
            r"cell arm a: seeds must be alike in all differences, got \[19, 20\]",
        ),
        (lambda: rule("F1", []), "F1: cells must be at least one, got none"),
        (
            lambda: rule("F1", [*cells(0.0), *cells(0.0, seeds=10)]),
            r"F1: seeds of its cells must be as many in each, got \[10, 20\]",
        ),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
