"""The rule: as it stands in the design, on synthetic cells with known effects, and on bad input."""

from collections import Counter
from itertools import chain, combinations
from typing import get_args

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from gmmdiff.core.statistics import iqm, iqm_weights, percentile_ends, weighted_iqm
from gmmdiff.core.streams import numpy_stream
from gmmdiff.judging import rule as verdicts
from gmmdiff.judging.rule import DELTA, RATIOS, Cell, State, assess, level, rule, state, verdict

SEEDS, UNIT = 20, 1.0
STATES = {  # of an interval in units of delta
    "holds": [(-3, -1.1)],
    "leans": [(-3, -1), (-3, -0.1), (-1.1, -0.1)],
    "undecided": [(-3, 0), (-1.1, 0.5), (-0.5, 1.1), (-3, 3), (0, 3)],
    "negligible": [(-1, 1), (-0.9, -0.1), (0.1, 1)],
    "leans against": [(0.1, 1.1), (1, 3)],
    "reversed": [(1.1, 3)],
}
OF_A_MARGIN = {  # of which only one side counts
    "holds": [(-3, 0.9), (0.5, 0.9)],
    "undecided": [(-3, 1), (-0.5, 1.1), (0.5, 1.1), (1, 3)],
    "reversed": [(1.1, 3)],
}
VERDICTS = {
    "reproduced": [["holds", "holds"], ["holds", "not judged"]],
    "partly": [["leans"], ["holds", "leans"], ["holds", "negligible"], ["leans", "undecided"]],
    "no effect": [["negligible", "negligible"]],
    "inconclusive": [["negligible", "undecided"], ["undecided"], ["not judged"], []],
    "reversed": [["leans against"], ["reversed", "leans against"]],
    "mixed": [
        *(["holds", "reversed"], ["leans", "leans against"]),
        *(["negligible", "leans against"], ["undecided", "reversed"]),
    ],
}


def cases(table):
    return [(one, expected) for expected, every in table.items() for one in every]


@pytest.mark.parametrize(
    ("ends", "expected", "margin"),
    [(*case, False) for case in cases(STATES)] + [(*case, True) for case in cases(OF_A_MARGIN)],
)
def test_the_interval_alone_decides_the_state(ends, expected, margin):
    assert state(*ends, UNIT, margin) == expected


@pytest.mark.parametrize(("states", "expected"), cases(VERDICTS))
def test_the_states_decide_the_verdict(states, expected):
    assert verdict(states) == expected


def test_every_set_of_states_has_its_verdict():
    """The 63 sets, counted by hand: with one against, 3 of nothing else and 3 * 15 of more; else 12
    with one for it, of which one is all that holds; and three more.
    """
    every = set(get_args(State)) - {"not judged"}
    sets = chain.from_iterable(combinations(every, size) for size in range(1, 7))
    counted = Counter(map(verdict, sets))
    named = {"reproduced": 1, "no effect": 1, "inconclusive": 2, "reversed": 3}
    assert counted == named | {"partly": 11, "mixed": 45}


def test_delta_is_one_number_a_metric():
    assert DELTA["defect"] == DELTA["copy"] == DELTA["error"] == 0.02
    assert DELTA["spike_rate"] == 0.01
    factors = {metric: round(float(np.exp(DELTA[metric])), 6) for metric in RATIOS}
    assert factors == {"law": 1.1, "variation": 1.1, "validation_loss": 1.02}


def test_a_cell_compares_as_its_metric_asks():
    arms = {"a": np.array([1.0, 4.0]), "b": np.array([2.0, 2.0])}
    share = Cell({"metric": "defect"}, arms)
    assert (share.difference == [-1, 2]).all() and share.delta == 0.02
    np.testing.assert_allclose(np.exp(Cell({"metric": "law"}, arms).difference), [0.5, 2])
    assert Cell({"metric": "defect"}, arms, margin=0.05).delta == 0.05
    with pytest.raises(ValueError, match="cell metric law: seeds must be at least 2, got 1"):
        Cell({"metric": "law"}, {"a": np.zeros(1), "b": np.zeros(1)})


def test_a_level_has_scipys_interval():
    rng = numpy_stream(0, "levels of arms")
    for values in (rng.exponential(size=SEEDS), 5 + rng.normal(size=SEEDS)):
        how = {"method": "percentile", "n_resamples": 20_000, "random_state": 0}
        resampled = bootstrap((values,), lambda x, axis: trim_mean(x, 0.25, axis=axis), **how)
        expected, found = resampled.confidence_interval, level(values)
        assert found.estimate == pytest.approx(trim_mean(values, 0.25))
        width = expected.high - expected.low
        assert (found.low, found.high) == pytest.approx(expected, abs=0.03 * width)


LAWS = {"normal": np.random.Generator.normal, "skewed": np.random.Generator.exponential}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("effect", "error", "expected", "least", "most"),
    [
        (-2.0, 0.1, "holds", 0.93, 1),
        (-1.0, 0.1, "leans", 0.9, 1),
        (0.0, 0.1, "negligible", 0.93, 1),
        (-0.5, 0.1, "negligible", 0.93, 1),
        (1.0, 0.1, "leans against", 0.9, 1),
        (2.0, 0.1, "reversed", 0.93, 1),
        (0.0, 1.0, "holds", 0, 0.025),
    ],
)
def test_known_effects_get_their_states(law, effect, error, expected, least, most):
    """2,000 draws of 20 seeds; the law's own IQM and its standard error are taken out and put in.

    The claimed side is below 0.
    """
    rng = numpy_stream(0, f"{law} {effect} {error}")
    centre = iqm([LAWS[law](rng, size=400_000)])
    spread = iqm([LAWS[law](rng, size=(5_000, SEEDS))]).std()
    draws = effect + error * (LAWS[law](rng, size=(2000, SEEDS)) - centre) / spread
    resampled = weighted_iqm(draws, iqm_weights(SEEDS, 2000, rng))
    found = [state(*ends, UNIT) for ends in percentile_ends(resampled, 0.95).T]
    assert least <= np.mean([one == expected for one in found]) <= most


def cells(*effects, spread=0.2, seeds=SEEDS, reference=None):
    """Cells with these differences and a delta of UNIT."""
    rng, found = numpy_stream(0, "cells"), []
    for number, effect in enumerate(effects):
        arms = {"a": effect + spread * rng.normal(size=seeds), "b": np.zeros(seeds)}
        found.append(Cell({"cell": number, "metric": "unit"}, arms, reference))
    return found


def states(ruling):
    return [cell.state for cell in ruling.cells]


@pytest.fixture(autouse=True)
def unit(monkeypatch):
    monkeypatch.setitem(DELTA, "unit", UNIT)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_intervals_are_simultaneous(count):
    """Of the resamples drawn here 5 % in all, over the cells, lie outside, half of them on either
    side: 1.25 % below of each of two.
    """
    many = cells(*[0.0] * count)
    found = assess("claim", many)[0]
    drawn = numpy_stream(0, "again").choice(many[0].difference, (100_000, SEEDS))
    resampled = trim_mean(drawn, 0.25, axis=1)
    tail = 0.05 / count / 2
    outside = (resampled < found.low).mean(), (resampled > found.high).mean()
    assert outside == pytest.approx((tail, tail), rel=0.25)
    assert found.estimate == pytest.approx(trim_mean(many[0].difference, 0.25))


def test_a_clear_verdict_replicates_and_one_on_the_border_does_not():
    clear = rule("claim", cells(-3, -2))
    assert (clear.verdict, clear.replication, clear.rival) == ("reproduced", 1, None)
    edge = 0.52  # half the width of the interval, about
    border = rule("claim", cells(-1 - edge, spread=1.0))
    assert {border.verdict, border.rival} == {"reproduced", "partly"} and border.replication < 0.9
    near, far = (rule("claim", cells(-1 - beyond, spread=1.0)) for beyond in (0.8, 1.3))
    assert 0.6 < near.replication < 0.9 < far.replication
    assert (near.rival, far.rival) == ("partly", None)


def test_of_four_resamples_of_two_opposite_seeds_two_decide_nothing():
    arms = {"a": np.array([-3.0, 3.0]), "b": np.zeros(2)}
    found = rule("claim", [Cell({"metric": "unit"}, arms)])
    assert states(found) == ["undecided"] and found.replication == pytest.approx(0.5, abs=0.035)


@pytest.mark.parametrize(("effects", "reference"), [((-1.3, -0.2), None), ((3,), 1.5)])
def test_replicates_are_the_whole_rule_on_resampled_seeds(monkeypatch, effects, reference):
    """Against the rule itself, run again and again on seeds drawn here, the same for all cells."""
    constant = None if reference is None else np.full(SEEDS, reference)  # no matter which seeds
    whole = cells(*effects, spread=1.0, reference=constant)
    found, rng = rule("claim", whole), numpy_stream(0, "again")
    monkeypatch.setattr(verdicts, "RESAMPLES", 500)
    same = 0
    for _ in range(300):
        chosen = rng.integers(0, SEEDS, SEEDS)
        again = [
            Cell(cell.factors, {arm: own[chosen] for arm, own in cell.arms.items()}, constant)
            for cell in whole
        ]
        same += verdict(cell.state for cell in assess("claim", again)) == found.verdict
    assert found.replication == pytest.approx(same / 300, abs=0.08)


@pytest.mark.usefixtures("few_replicates")
def test_a_cell_with_nothing_to_ask_is_not_judged():
    """No arm lies above its reference by delta."""
    (one,) = cells(-3)
    (quiet,), (loud,) = (cells(3, reference=np.full(SEEDS, level)) for level in (2.5, 1.5))
    found = rule("claim", [one, quiet])
    assert (found.verdict, states(found)) == ("reproduced", ["holds", "not judged"])
    assert states(rule("claim", [one, loud])) == ["holds", "reversed"]
    assert rule("claim", [quiet]).verdict == "inconclusive"
    (second,) = cells(-3, reference=np.full(SEEDS, -1.1))  # below the second arm, at 0
    assert states(rule("claim", [second])) == ["holds"]


@pytest.mark.usefixtures("few_replicates")
def test_too_few_seeds_give_no_verdict():
    found = rule("claim", cells(-3, seeds=19))
    assert (found.verdict, states(found), found.replication) == ("inconclusive", ["holds"], 1)
