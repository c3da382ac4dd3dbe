"""The verdicts of N1 to N6 on tables with known answers, and what they compare."""

import math

import pandas as pd
import pytest

from gmmdiff.judging import findings, ngmg_stability as claims, register
from tests.judging.ngmg_stability_tables import OURS, classifier, everything, joint

pytestmark = pytest.mark.usefixtures("few_replicates")
UNSTEADY = ("spike_rate", "variation")


def judged(tables, *names):
    """Judgements of some claims by claim and world."""
    asked = [claim for claim in claims.CLAIMS if claim.id in names]
    return {(claim.id, claim.world): claim.judge(tables) for claim in asked}


def verdicts(tables, *names):
    """The verdicts of some claims, in every world where they are asked."""
    return [one.verdict for one in judged(tables, *names).values()]


def unsteady(amounts):
    """A change of spikes and variation: (cost, signal) -> by how much, others by 0.2."""

    def change(metric, group, cost, signal, lam):
        return amounts.get((cost, signal), 0.2) if metric in UNSTEADY else 0.0

    return change


@pytest.mark.parametrize(
    ("claim", "signal", "cost"),
    [("N1", "raw", "BCE"), ("N2", "matched", "BCE"), ("N4", "raw", "Brier")],
)
def test_steadiness_follows_the_levels(claim, signal, cost):
    """For each claim the numbers as claimed, turned round, and equal; on arcs N4 asks for the error
    as well, which is equal here.
    """
    ours, rival, also_error = (OURS, signal), (cost, "raw"), claim == "N4"
    as_claimed = verdicts(everything(unsteady({ours: 0.05, rival: 0.4})), claim)
    assert as_claimed == ["partly" if also_error else "reproduced", "reproduced"]
    turned = verdicts(everything(unsteady({ours: 0.4, rival: 0.05})), claim)
    assert turned == ["mixed" if also_error else "reversed", "reversed"]
    assert verdicts(everything(unsteady({})), claim) == ["no effect"] * 2


def test_matched_signals_are_judged_apart():
    found = everything(unsteady({(OURS, "raw"): 0.05, (OURS, "matched"): 0.4}))
    assert verdicts(found, "N1", "N2") == ["reproduced"] * 2 + ["reversed"] * 2


def test_where_nothing_is_above_the_reference_there_is_nothing_to_ask():
    none = unsteady({(OURS, "raw"): 0.0, ("BCE", "raw"): 0.005})
    found = judged(everything(none), "N1")["N1", "faces"]
    assert found.verdict == "inconclusive"
    assert {cell["state"] for cell in found.cells} == {"not judged"}
    assert [cell["factors"]["lam"] for cell in found.cells] == 2 * [0.1, 1.0, 10.0]
    above = unsteady({(OURS, "raw"): 0.3, ("BCE", "raw"): 0.005})
    assert verdicts(everything(above), "N1") == ["reversed"] * 2


def test_a_classifier_is_compared_at_each_costs_best_rate():
    for better, verdict in ((0.05, "reproduced"), (-0.05, "reversed"), (0.0, "no effect")):
        tables = everything(better=lambda cost, noise, b=better: b * (cost == OURS))
        assert verdicts(tables, "N3") == [verdict]
    some = everything(better=lambda cost, noise: 0.05 * (cost == OURS and noise > 0))
    assert verdicts(some, "N3", "N4") == ["partly", "partly", "inconclusive"]


def test_the_best_rate_is_chosen_on_validation_points_alone():
    table = classifier()
    other = (table["metric"] == "validation_accuracy") & (table["learning_rate"] == 1.0)
    table.loc[other, "value"] = 0.99
    assert set(claims.at_best_rate(table)["learning_rate"]) == {1.0}


@pytest.mark.parametrize(
    ("changed", "amount", "verdict"),
    [
        ("validation_loss", 0.01, "reproduced"),  # less than 2 %
        ("validation_loss", -0.3, "reproduced"),
        ("validation_loss", 0.1, "mixed"),  # the defects still hold
        ("defect", 0.01, "reproduced"),  # less than 2 points
        ("defect", 0.1, "mixed"),
        ("both", 0.1, "reversed"),
    ],
)
def test_quality_may_be_worse_by_less_than_delta(changed, amount, verdict):
    def change(metric, group, cost, signal, lam):
        mine = cost == OURS and lam <= 1 and metric in ("validation_loss", "defect")
        return amount if mine and changed in (metric, "both") else 0.0

    assert verdicts(everything(change), "N5") == [verdict] * 2


def test_quality_is_asked_at_small_weights_and_of_bce_as_a_control():
    def change(metric, group, cost, signal, lam):
        return 0.5 * (metric == "defect" and (cost == "BCE" or lam == 10))

    tables = everything(change)
    assert verdicts(tables, "N5") == ["reproduced"] * 2
    found = claims.cells_table(tables)
    assert set(found["world"]) == {"arcs", "faces"}
    found = found.query("claim == 'N5' and metric == 'defect' and world == 'faces'")
    states = found.groupby("control")["state"].unique()
    assert list(states[False]) == ["holds"] and list(states[True]) == ["reversed"]


def helping(ours, bce):
    """Defects on rare and held-out combinations, ours and BCE's, changed at lambda 1, and 0.3 more
    at every other.
    """

    def change(metric, group, cost, signal, lam):
        if metric == "validation_loss":
            return 0.1 * (lam != 1)
        if metric != "defect" or group == "seen":
            return 0.0
        return {OURS: ours, "BCE": bce}.get(cost, 0.0) if lam == 1 else 0.3

    return change


def test_help_is_asked_beside_none_and_beside_bce():
    def found(ours, bce):
        return verdicts(everything(helping(ours, bce)), "N6a", "N6b")

    assert found(-0.1, 0.0) == ["reproduced"] * 2 and found(0.1, 0.0) == ["reversed"] * 2
    assert found(0.0, 0.0) == ["no effect"] * 2
    assert found(0.1, 0.2) == ["reversed", "reproduced"], "fewer than BCE is no help"
    assert found(-0.1, -0.2) == ["reproduced", "reversed"]


def test_other_seeds_choose_the_weight_by_validation_loss():
    def chosen(metric, group, cost, signal, lam):
        best = {"BCE": 0.1}.get(cost, 10.0)
        return {"validation_loss": 0.1 * (lam != best), "defect": -0.05 * lam / 10}.get(metric, 0.0)

    tables = everything(helping(-0.1, -0.1), chosen=chosen)
    best = claims.best_lambda(tables)
    assert best == {"BCE": 0.1, "Brier": 10.0, OURS: 10.0}
    cells = judged(tables, "N6b")["N6b", "faces"].cells
    assert [cell["factors"]["group"] for cell in cells] == ["rare", "held out"]
    assert (cells[0]["factors"]["lam"], cells[0]["factors"]["rival_lam"]) == (10.0, 0.1)


def test_the_rate_of_most_seeds_is_judged():
    """A control at another rate, on fewer seeds, moves nothing."""
    tables = everything(unsteady({(OURS, "raw"): 0.05}))
    other = joint(unsteady({(OURS, "raw"): 0.9}), (0.0, 1.0, 10.0), range(5), rate=0.02)
    tables["joint"] = pd.concat([other, tables["joint"]], ignore_index=True)
    assert verdicts(tables, "N1") == ["reproduced"] * 2
    seeds = claims.levels(tables["joint"]).groupby("learning_rate")["seeds"].unique()
    assert (list(seeds[0.01]), list(seeds[0.02])) == ([20], [5])


def test_what_is_not_finite_counts_as_unsteady():
    tables = everything(unsteady({}))
    for table in (tables["joint"], tables["faces_joint"]):
        ours = (table["cost"] == OURS) & (table["signal"] == "raw")
        table.loc[ours & (table["metric"] == "variation"), "value"] = math.nan
    found = judged(tables, "N1")["N1", "faces"]
    states = {cell["factors"]["metric"]: cell["state"] for cell in found.cells}
    assert states == {"spike_rate": "negligible", "variation": "reversed"}
    assert found.n_seeds == 20


def test_every_question_of_the_findings_has_its_cell():
    asked = {(claim.id, claim.world) for claim in claims.CLAIMS}
    rows = [row for row in findings.ROWS if (row["claims"][0], row.get("world")) in asked]
    answered = findings.findings(register.judge("ngmg_stability", everything()))
    assert [one.question for one in answered] == [row["question"] for row in rows]
    assert len(rows) >= 6


def test_an_undertrained_table_is_told_of_what_a_claim_compares():
    tables = everything()
    table = tables["faces_joint"]
    table.loc[(table["metric"] == "long_enough") & (table["lam"] == 10), "value"] = 0.0
    found = judged(tables, "N1", "N5")
    assert found["N1", "faces"].undertrained and not found["N1", "arcs"].undertrained
    assert found["N5", "faces"].undertrained is False, "asked at other weights; JSON can hold it"
