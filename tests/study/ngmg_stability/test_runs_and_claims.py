"""The experiment's parts, its measures, and the verdict rules of N1 to N5 on tables with known
answers.
"""

import itertools
from functools import partial

import pandas as pd
import pytest
import torch
from tqdm import tqdm

from gmmdiff.core.costs import COSTS
from gmmdiff.study import register
from gmmdiff.study.engine.classifiers import JointEnsemble
from gmmdiff.study.engine.runs import Recipe, Run
from gmmdiff.study.ngmg_stability import contrasts, runs

GOOD = {
    "label_noise": [0.0, 0.2],
    "learning_rate": [1e-3, 1e-1],
    "classifier_steps": 150,
    "lam": [0.0, 1.0, 10.0],
    "joint_learning_rate": [3e-3, 1e-2],
    "steps": 200,
    "n_train": 50,
    "s_c": 0.1,
    "seeds": 10,
    "first_seed": 5,
}
PARTS = runs.parts(**GOOD)
RECIPE = Recipe(width=8, hidden=1, batch=8, n_eval=4, evaluations=4)
QUIET = partial(tqdm, disable=True)


def test_every_arm_is_there_with_every_seed():
    assert list(PARTS) == ["label_noise_0.0", "label_noise_0.2", "lam_0.0", "lam_1.0", "lam_10.0"]
    noisy = PARTS["label_noise_0.2"]
    arms = noisy.groupby(["cost", "signal", "learning_rate"]).size()
    assert (
        (arms == 10).all()
        and len(arms) == 2 * (2 * len(COSTS) - 1)
        and ("BCE", "matched") not in {a[:2] for a in arms.index}
    )
    assert (
        set(noisy["label_noise"]) == {0.2}
        and set(noisy["lam"]) == {1.0}
        and set(noisy["seed"]) == set(range(5, 15))
    )
    joint = PARTS["lam_10.0"]
    assert set(joint["cost"]) == set(runs.JOINT_COSTS) and len(joint) == 9 * 2 * 10
    reference = PARTS["lam_0.0"]
    assert set(reference["steps"]) == {200, 400} and len(reference) == 2 * 2 * 10


def test_parts_are_called_as_their_levels_are_written():
    """As DVC writes them into a stage's command, whole numbers and close levels too."""
    found = runs.parts(**(GOOD | {"lam": [0, 1, 0.25], "label_noise": [0, 0.05]}))
    assert list(found) == ["label_noise_0", "label_noise_0.05", "lam_0", "lam_1", "lam_0.25"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lam": [0.1, 1.0]},
            r"lam must be 0 \(the reference\) and at least one larger, got \[0.1, 1.0\]",
        ),
        ({"lam": [0.0]}, "lam must be 0"),
        ({"label_noise": [0.2, 0.2]}, r"label_noise must be distinct levels, got \[0.2, 0.2\]"),
        ({"learning_rate": []}, r"learning_rate must be distinct levels, got \[\]"),
        ({"seeds": 0}, "seeds must be >= 1, got 0"),
    ],
)
def test_bad_experiments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        runs.parts(**(GOOD | change))


def test_a_part_is_measured():
    for part, metrics in (("label_noise_0.2", 6), ("lam_1.0", 8)):
        rows = PARTS[part].query("seed < 7 and learning_rate <= 0.003")
        tables = runs.run_part(rows, RECIPE, 200, "cpu", QUIET)
        found = tables["runs"]
        assert (
            len(found) == metrics * len(rows)
            and not found.isna().any().any()
            and ("traces" in tables) == (metrics == 8)
        )
        assert not found.duplicated([*JointEnsemble.columns, "metric"]).any()


def test_a_perfect_classifier_is_accurate(monkeypatch):
    """Logits that know the attributes score 1, their opposite 0."""
    row = next(PARTS["lam_1.0"].itertuples(index=False))
    run = Run(row, RECIPE)
    seen, parameters = {}, torch.zeros(JointEnsemble([run], "cpu").count)
    monkeypatch.setattr(JointEnsemble, "take", lambda self, drawn: seen.update(draws=drawn[0]))
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        monkeypatch.setattr(
            JointEnsemble,
            "logits",
            lambda self, number, sign=sign: sign * (runs.attributes(run, seen["draws"]) - 0.5),
        )
        assert runs.accuracies(run, JointEnsemble, parameters, 50)["accuracy"] == expected


def test_ngmg_in_known_terms():
    table = runs.known_terms(0)
    assert table["measured"].to_list() == pytest.approx(table["expected"].to_list(), rel=0.01)


SEEDS = range(10)


def joint(spikes, defects=0.0, seeds=SEEDS, matched_spikes=None):
    """Experiment B in which NGMG s = 1 has ``spikes(lam)`` more spikes and variation than BCE,
    Brier in between, at lam 1 and 10.
    """
    rows = []
    kinds = [
        (cost, signal)
        for cost in runs.JOINT_COSTS
        for signal in ("raw", "matched")
        if (cost, signal) != ("BCE", "matched")
    ]
    for lam, (cost, signal), rate, seed in itertools.product(
        (0.0, 1.0, 10.0), kinds, (0.003, 0.01), seeds
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
    """Experiment A in which NGMG s = 1 is ``better(noise)`` more accurate than all others at its
    best rate, 0.1.
    """
    rows = []
    kinds = [
        (cost, signal)
        for cost in COSTS
        for signal in ("raw", "matched")
        if (cost, signal) != ("BCE", "matched")
    ]
    for noise, (cost, signal), rate, seed in itertools.product(
        (0.0, 0.2), kinds, (0.01, 0.1, 1.0), seeds
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
