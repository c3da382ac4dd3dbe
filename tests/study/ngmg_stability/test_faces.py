"""Experiment B on faces: its parts, and what the claims read of them."""

import itertools

import pandas as pd
import pytest

from gmmdiff.study import register
from gmmdiff.study.engine.classifiers import JointEnsemble
from gmmdiff.study.ngmg_stability import contrasts, faces
from gmmdiff.study.ngmg_stability.claims import CLAIMS

pytestmark = pytest.mark.usefixtures("few_replicates")
GOOD = {
    "lam": [0.0, 1.0, 3.0],
    "learning_rate": 1e-3,
    "steps": 200,
    "n_train": 50,
    "attributes": 4,
    "seeds": 20,
    "choosing_seeds": 5,
    "seed": 7,
    "size": 16,
    "held_out": 0.125,
}


def test_every_cost_has_its_seeds_and_others_choose():
    parts = {name: rows for name, (rows, _) in faces.parts(**GOOD).items()}
    assert list(parts) == ["lam_0.0", "lam_1.0", "lam_3.0", "choice"]
    assert set(parts["lam_1.0"].groupby(["cost", "signal"]).size()) == {20}
    assert set(zip(parts["lam_1.0"]["cost"], parts["lam_1.0"]["signal"], strict=True)) == {
        ("BCE", "raw"),
        ("Brier", "raw"),
        ("NGMG s=1", "raw"),
        ("NGMG s=1", "matched"),
    }
    assert parts["lam_0.0"].groupby("steps").size().to_dict() == {200: 20, 400: 5}
    assert set(parts["choice"]["seed"]) == set(range(27, 32))
    assert set(parts["choice"]["lam"]) == {1.0, 3.0}
    for rows, recipe in faces.parts(**GOOD).values():
        JointEnsemble.check(rows, recipe)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": [1.0, 3.0]}, r"lam must be 0 \(the reference\) and others, all distinct"),
        ({"lam": [0.0, 1.0, 1.0]}, "lam must be 0"),
        ({"choosing_seeds": 21}, "choosing_seeds must be in 1 .. seeds, which is 20, got 21"),
        ({"attributes": 9}, "attributes must be in 2..8, got 9"),
    ],
)
def test_bad_experiments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        for rows, recipe in faces.parts(**(GOOD | change)).values():
            JointEnsemble.check(rows, recipe)


def table(misses, seeds):
    """Runs whose misses are ``misses(cost, lam)`` and something of the seed."""
    rows = []
    for lam, (cost, signal), seed in itertools.product((0.0, 1.0, 3.0), faces.ARMS, seeds):
        if lam or cost == "BCE":
            value = misses(cost, lam) + 0.001 * (seed % 3)
            values = {"miss": value, "held-out miss": value, "defect": value}
            values |= {"spike_rate": 0.5 * bool(lam), "variation": 1.0 + bool(lam)}
            rows += [
                ("feature", 0.0, 50, 1e-3, 200, seed, cost, signal, lam, 0.0, name, one)
                for name, one in values.items()
            ]
    return pd.DataFrame(rows, columns=[*JointEnsemble.columns, "metric", "value"])


def judged(misses, chosen=None):
    tables = {
        "faces_joint": table(misses, range(20)),
        "faces_choice": table(chosen or misses, range(20, 25)).query("lam > 0"),
    }
    claims = [claim for claim in CLAIMS if claim.world == "faces"]
    return {claim.id: register.judged(claim, tables) for claim in claims}


def test_a_classifier_helps_where_it_misses_less_at_its_best_weight():
    def misses(cost, lam):
        return {0.0: 0.8, 1.0: 0.9, 3.0: 0.3 if cost == "NGMG s=1" else 0.7}[lam]

    found = judged(misses)
    assert found["N6a"]["verdict"] == found["N6b"]["verdict"] == "reproduced"
    assert {cell["factors"]["lam"] for cell in found["N6a"]["cells"]} == {3.0}
    assert found["N6b"]["cells"][0]["factors"]["rival_lam"] == 3.0
    worse = judged(lambda cost, lam: 0.5 + 0.4 * (cost == "NGMG s=1"))
    assert worse["N6a"]["verdict"] == worse["N6b"]["verdict"] == "reversed"


def test_other_seeds_choose_the_weight():
    def chosen(cost, lam):
        return 0.5 - 0.1 * lam

    best = contrasts.best_lambda(table(chosen, range(3)).query("lam > 0"))
    assert best == {"BCE": 3.0, "Brier": 3.0, "NGMG s=1": 3.0}
    found = judged(lambda cost, lam: {0.0: 0.8, 1.0: 0.3, 3.0: 0.9}[lam], chosen)
    assert {cell["factors"]["lam"] for cell in found["N6a"]["cells"]} == {3.0}


def test_equal_costs_have_no_effect():
    found = judged(lambda cost, lam: 0.8)
    assert [found[f"N{n}"]["verdict"] for n in (1, 2, 4)] == ["no effect"] * 3
    assert found["N5"]["verdict"] == "reproduced" and found["N6b"]["verdict"] == "no effect"
