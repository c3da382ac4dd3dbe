"""The verdict rules of N1 to N5, and what they compare, on tables with known answers."""

import itertools
import math

import pandas as pd
import pytest

from gmmdiff.core.costs import COSTS
from gmmdiff.study import register
from gmmdiff.study.engine.classifiers import JointEnsemble
from gmmdiff.study.ngmg_stability import contrasts
from gmmdiff.study.ngmg_stability.claims import CLAIMS, DEFECTS, STEADINESS
from gmmdiff.study.ngmg_stability.runs import JOINT_COSTS, kinds

pytestmark = pytest.mark.usefixtures("few_replicates")
SEEDS = range(20)


def joint(steadier, defects=0.0, seeds=SEEDS, matched=None, cost_over_reference=1.0):
    """Experiment B in which NGMG s = 1 has ``steadier(lam)`` times the variation of BCE, and more
    or fewer spikes by as many tenths as its logarithm; Brier lies in between.

    Args:
        defects: how many more NGMG makes than all others.
        matched: ``steadier`` at matched signals, if another.
        cost_over_reference: by how much BCE's spikes and log variation lie above those without a
            cost.
    """
    rows = []
    for lam, (cost, signal), rate, seed in itertools.product(
        (0.0, 1.0, 10.0), kinds(JOINT_COSTS), (0.003, 0.01), seeds
    ):
        if lam == 0 and (cost, signal) != ("BCE", "raw"):
            continue
        share = {"NGMG s=1": 1.0, "Brier": 0.5}.get(cost, 0.0)
        log = share * math.log((steadier if signal == "raw" or matched is None else matched)(lam))
        if not lam:
            log = -cost_over_reference
        wiggle = 0.0001 * ((7 * seed + len(cost)) % 5)
        values = {
            "spike_rate": 0.5 + 0.1 * log + 0.01 * (seed % 3) + wiggle,
            "variation": math.exp(log + 0.1 * (seed % 3) + wiggle),
            "final_loss": 1.0 + 0.01 * seed,
            "diverged": 0.0,
            "accuracy": 0.9,
            "validation_accuracy": 0.9,
            "energy_distance": 0.1,
            "defect": 0.2 + 0.001 * seed + wiggle + defects * (cost == "NGMG s=1"),
        }
        rows += [
            ("feature", 0.1, 50, rate, 100, seed, cost, signal, lam, 0.0, name, value)
            for name, value in values.items()
        ]
    return pd.DataFrame(rows, columns=[*JointEnsemble.columns, "metric", "value"])


def classifier(better, seeds=SEEDS):
    """Experiment A in which NGMG s = 1 is ``better(noise)`` more accurate at its best rate, 0.1."""
    rows = []
    for noise, (cost, signal), rate, seed in itertools.product(
        (0.0, 0.2), kinds(COSTS), (0.01, 0.1, 1.0), seeds
    ):
        ours = cost == "NGMG s=1"
        best = 0.1 if ours else 0.01
        accuracy = 0.8 - 0.1 * (rate != best) + 0.001 * seed + better(noise) * ours * (rate == best)
        values = {
            "accuracy": accuracy + 0.0001 * ((3 * seed + ours) % 4),
            "validation_accuracy": accuracy,
            "spike_rate": 0.0,
            "variation": 0.5,
            "final_loss": 1.0,
            "diverged": 0.0,
        }
        rows += [
            ("none", 0.0, 50, rate, 100, seed, cost, signal, 1.0, noise, name, value)
            for name, value in values.items()
        ]
    return pd.DataFrame(rows, columns=[*JointEnsemble.columns, "metric", "value"])


def on_arcs(tables):
    claims = [claim for claim in CLAIMS if claim.world == "arcs"]
    return {claim.id: register.judged(claim, tables) for claim in claims}


def judged(steadier=lambda lam: 0.5, better=lambda noise: 0.05, **changes):
    tables = {
        "joint": joint(steadier, **changes),
        "classifier": classifier(better, changes.get("seeds", SEEDS)),
    }
    return on_arcs(tables)


def verdicts(found):
    return [found[f"N{number}"]["verdict"] for number in range(1, 6)]


def test_verdicts_follow_the_cells():
    found = judged()
    assert verdicts(found) == ["reproduced"] * 5
    assert {cell["state"] for cell in found["N1"]["cells"]} == {"holds"}
    assert found["N1"]["delta"] == pytest.approx(STEADINESS, rel=1e-5)
    worse = judged(lambda lam: 2.0, lambda noise: -0.05, defects=0.1)
    assert verdicts(worse) == ["reversed"] * 5
    same = judged(lambda lam: 1.0, lambda noise: 0.0)
    assert verdicts(same)[:4] == ["no effect"] * 4 and same["N5"]["verdict"] == "reproduced"


def test_cells_that_differ_are_mixed_or_partly():
    assert judged(lambda lam: 0.5 if lam == 1 else 2.0)["N1"]["verdict"] == "mixed"
    assert judged(lambda lam: 0.5 if lam == 1 else 1.0)["N1"]["verdict"] == "partly"
    assert judged(better=lambda noise: 0.05 if noise else 0.0)["N3"]["verdict"] == "partly"


def test_a_ratio_of_variations_is_told_as_one():
    """To the third digit, though the seeds differ by more."""
    told = judged(lambda lam: 0.5)["N1"]["details"]
    assert "Variation, as a factor (delta 1.1): lambda 1, rate 0.003: 0.5 [0.5, 0.5], holds" in told


def test_matched_signals_are_judged_apart():
    found = judged(matched=lambda lam: 2.0)
    assert (found["N1"]["verdict"], found["N2"]["verdict"]) == ("reproduced", "reversed")


def test_where_nothing_is_above_the_reference_there_is_nothing_to_judge():
    found = judged(cost_over_reference=0.01)["N1"]
    assert found["verdict"] == "inconclusive"
    assert {cell["state"] for cell in found["cells"]} == {"not judged"}
    above = judged(lambda lam: 2.0, cost_over_reference=0.01)["N1"]  # of NGMG, though not of BCE
    assert above["verdict"] == "reversed"


def test_quality_is_judged_beside_bce_and_beside_the_run_without_a_cost():
    assert judged(defects=0.5 * DEFECTS["defect"])["N5"]["verdict"] == "reproduced"
    tables = {"joint": joint(lambda lam: 0.5), "classifier": classifier(lambda noise: 0.0)}
    table = tables["joint"]
    table.loc[(table["lam"] == 0) & (table["metric"] == "defect"), "value"] -= 0.1
    found = on_arcs(tables)["N5"]
    states = {cell["factors"]["metric"]: cell["state"] for cell in found["cells"]}
    assert states == {"defects, minus BCE": "holds", "defects, minus without a cost": "reversed"}
    assert found["verdict"] == "mixed"


def test_too_few_seeds_give_no_verdict():
    assert set(verdicts(judged(seeds=range(19)))) == {"inconclusive"}


def test_a_run_without_a_variation_leaves_its_seed_out():
    tables = {"joint": joint(lambda lam: 0.5), "classifier": classifier(lambda noise: 0.0)}
    table = tables["joint"]
    gone = (table["seed"] == 3) & (table["cost"] == "NGMG s=1") & (table["metric"] == "variation")
    table.loc[gone & (table["lam"] == 10), "value"] = math.nan
    found = on_arcs(tables)["N1"]
    assert (found["n_seeds"], found["verdict"]) == (19, "inconclusive")


def test_every_cost_is_judged_as_n1_judges_one():
    tables = {"joint": joint(lambda lam: 0.5)}
    found = contrasts.every_cost(tables, STEADINESS).set_index(["rival", "signal", "cost"])
    assert found.loc[("BCE", "raw", "NGMG s=1"), "holds"] == 8
    assert found.loc[("BCE", "raw", "NGMG with entropy"), "negligible"] == 8
    assert ("Brier", "raw", "Brier") not in found.index


def test_the_best_rate_is_chosen_on_validation_points_alone():
    table = classifier(lambda noise: 0.0)
    table.loc[
        (table["metric"] == "validation_accuracy") & (table["learning_rate"] == 1.0), "value"
    ] = 0.99
    assert set(contrasts.at_best_rate(table)["learning_rate"]) == {1.0}


def test_basins_count_decades_near_the_best():
    table = classifier(lambda noise: 0.0)
    accurate = (table["metric"] == "accuracy") & (table["cost"] == "BCE")
    table.loc[accurate, "value"] = table.loc[accurate, "learning_rate"].map(
        {0.01: 0.9, 0.1: 0.86, 1.0: 0.5}
    )
    found = contrasts.basins(table).groupby("cost")["value"].first()
    assert found["BCE"] == pytest.approx(1.0) and found["MAE"] == 0.0


def test_spread_is_the_distance_from_the_arms_median():
    table = contrasts.with_spread(joint(lambda lam: 1.0))
    assert table.query("metric == 'spread' and cost == 'MAE'").empty
    found = table.query(
        "metric == 'spread' and cost == 'BCE' and lam == 1 and learning_rate == 0.01"
    )
    assert found.sort_values("seed")["value"].to_list() == pytest.approx(
        [abs(0.01 * seed - 0.095) / 1.095 for seed in SEEDS]
    )
