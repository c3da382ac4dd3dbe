"""The verdict rules of N1 to N5, and what they compare, on tables with known answers."""

import itertools

import pandas as pd
import pytest

from gmmdiff.core.costs import COSTS
from gmmdiff.study import register
from gmmdiff.study.engine.classifiers import JointEnsemble
from gmmdiff.study.ngmg_stability import contrasts
from gmmdiff.study.ngmg_stability.runs import JOINT_COSTS, kinds

SEEDS = range(10)


def joint(spikes, defects=0.0, seeds=SEEDS, matched_spikes=None):
    """Experiment B in which NGMG s = 1 has ``spikes(lam)`` more spikes and variation than BCE.

    Brier lies in between; at lam 1 and 10.
    """
    rows = []
    for lam, (cost, signal), rate, seed in itertools.product(
        (0.0, 1.0, 10.0), kinds(JOINT_COSTS), (0.003, 0.01), seeds
    ):
        if lam == 0 and (cost, signal) != ("BCE", "raw"):
            continue
        ours = {"NGMG s=1": 1.0, "Brier": 0.5}.get(cost, 0.0) if lam else 0.0
        more = (spikes if signal == "raw" or matched_spikes is None else matched_spikes)(lam)
        base = (0.3 if lam else 0.05) + 0.01 * (seed % 3) + 0.001 * seed * (cost == "NGMG s=1")
        values = dict.fromkeys(("spike_rate", "variation"), base + ours * more)
        values |= {
            "final_loss": 1.0 + 0.01 * seed,
            "diverged": 0.0,
            "accuracy": 0.9,
            "validation_accuracy": 0.9,
            "energy_distance": 0.1,
        }
        values["defect"] = 0.2 + 0.001 * seed + defects * (cost == "NGMG s=1")
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
        best = 0.1 if cost == "NGMG s=1" else 0.01
        accuracy = (
            0.8
            - 0.1 * (rate != best)
            + 0.001 * seed
            + better(noise) * (cost == "NGMG s=1" and rate == best)
        )
        values = {
            "accuracy": accuracy,
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


def judged(spikes=lambda lam: -0.1, better=lambda noise: 0.05, **changes):
    tables = {
        "joint": joint(spikes, **changes),
        "classifier": classifier(better, changes.get("seeds", SEEDS)),
    }
    return {claim["id"]: claim for claim in register.judge("ngmg_stability", tables)}


def test_verdicts_follow_the_intervals():
    found = judged()
    assert [found[f"N{i}"]["verdict"] for i in range(1, 6)] == ["reproduced"] * 5
    assert found["N1"]["ci_high"] < 0 and found["N3"]["ci_low"] > 0 and found["N1"]["n_seeds"] == 10
    found = judged(lambda lam: 0.1, lambda noise: -0.01, defects=0.1)
    assert [found[f"N{i}"]["verdict"] for i in range(1, 6)] == ["not reproduced"] * 5


def test_some_cells_are_partly():
    found = judged(lambda lam: -0.1 if lam == 1 else 0.1, lambda noise: -0.01)
    assert found["N1"]["verdict"] == found["N2"]["verdict"] == found["N4"]["verdict"] == "partly"
    assert judged(better=lambda noise: 0.05 if noise else -0.05)["N3"]["verdict"] == "reproduced"


def test_matched_signals_are_judged_apart():
    found = judged(matched_spikes=lambda lam: 0.1)
    assert (found["N1"]["verdict"], found["N2"]["verdict"]) == ("reproduced", "not reproduced")


def test_where_nothing_is_above_the_reference_there_is_nothing_to_judge():
    tables = {"joint": joint(lambda lam: -0.1), "classifier": classifier(lambda noise: 0.0)}
    table = tables["joint"]
    calm = table["metric"].isin(["spike_rate", "variation"]) & (table["lam"] > 0)
    table.loc[calm, "value"] -= 0.29
    found = {claim["id"]: claim for claim in register.judge("ngmg_stability", tables)}
    assert found["N1"]["verdict"] == "inconclusive" and "no cell to judge" in found["N1"]["details"]


def test_too_few_seeds_give_no_verdict():
    found = judged(seeds=range(9))
    assert {claim["verdict"] for claim in found.values()} == {"inconclusive"}


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
    table = joint(lambda lam: 0.0)
    found = contrasts.with_spread(table).query("metric == 'spread' and cost == 'MAE'")
    assert found.empty
    found = contrasts.with_spread(table).query(
        "metric == 'spread' and cost == 'BCE' and lam == 1 and learning_rate == 0.01"
    )
    assert found.sort_values("seed")["value"].to_list() == pytest.approx(
        [abs(0.01 * seed - 0.045) / 1.045 for seed in SEEDS]
    )
