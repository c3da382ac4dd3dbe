"""The verdict rules of F1 to F4 on tables with known answers."""

import itertools

import pandas as pd

from gmmdiff.study import register
from gmmdiff.study.engine.runs import COLUMNS
from gmmdiff.study.feature_vs_class.contrasts import feature_contrasts

SIZES = (500, 2000, 8000)


def tables_with(difference, seeds=10, gain=0.0, spread=0.1):
    """Tables in which feature conditioning makes ``difference(n_train)`` more defects than class,
    mixtures ``spread`` more than points, and twice the steps ``gain`` fewer.
    """
    rows = []
    for n_train, seed, group, s_c, metric, granularity in itertools.product(
        SIZES,
        range(seeds),
        ("seen", "rare", "held out"),
        (0.0, 0.1),
        ("defect", "off_manifold", "wrong_attributes"),
        ("coarse", "class", "feature"),
    ):
        value = (
            0.4 + 0.01 * (seed % 3) + 0.001 * seed * (granularity == "feature") + (s_c > 0) * spread
        )
        value += difference(n_train) * (granularity == "feature")
        rows.append((granularity, s_c, n_train, 1e-2, 100, seed, group, metric, value))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "group", "metric", "value"])
    longer = table[table["n_train"] == max(SIZES)]
    return {
        "runs": table,
        "steps": pd.concat([longer, longer.assign(steps=200, value=longer["value"] - gain)]),
    }


def judged(tables):
    return {c["id"]: c for c in register.judge("feature_vs_class", tables)}


def test_verdicts_follow_the_intervals():
    fewer = judged(tables_with(lambda n: -0.2))
    assert [fewer[claim]["verdict"] for claim in ("F1", "F2", "F3")] == ["reproduced"] * 3
    assert fewer["F1"]["ci_high"] < 0 and fewer["F1"]["n_seeds"] == 10
    assert (
        fewer["F4"]["verdict"] == "not reproduced" and fewer["F4"]["ci_low"] > 0
    )  # points make 0.1 fewer
    assert judged(tables_with(lambda n: -0.2 if n == 500 else 0.2))["F1"]["verdict"] == "partly"
    assert judged(tables_with(lambda n: 0.2))["F1"]["verdict"] == "not reproduced"


def test_too_few_seeds_give_no_verdict():
    assert judged(tables_with(lambda n: -0.2, seeds=9))["F1"]["verdict"] == "inconclusive"


def test_undertrained_arms_give_no_verdict():
    found = judged(tables_with(lambda n: -0.2, gain=0.05))
    assert found["F1"]["verdict"] == found["F4"]["verdict"] == "inconclusive"
    told = "Not trained long enough for a verdict: 200 steps change the defects by class, s_c = 0.1"
    assert found["F1"]["details"].startswith(f"{told} -0.050")
    assert judged(tables_with(lambda n: -0.2, gain=0.01))["F1"]["verdict"] == "reproduced"


def test_only_the_compared_arms_must_be_trained_out():
    tables = tables_with(lambda n: -0.2)
    steps = tables["steps"]
    steps.loc[(steps["granularity"] == "coarse") & (steps["steps"] == 200), "value"] -= 0.05
    found = judged(tables)
    assert (found["F1"]["verdict"], found["F4"]["verdict"]) == ("reproduced", "inconclusive")


def test_a_mixture_that_helps_reproduces_f4():
    assert judged(tables_with(lambda n: 0.0, spread=-0.1))["F4"]["verdict"] == "reproduced"
    tables = tables_with(lambda n: 0.0, spread=0.1)
    table = tables["runs"]
    table.loc[
        (table["granularity"] == "class") & (table["n_train"] == 500) & (table["s_c"] > 0), "value"
    ] -= 0.2
    assert judged(tables)["F4"]["verdict"] == "partly"


def test_each_claim_reads_its_own_group_and_metric():
    tables = tables_with(lambda n: 0.0)
    table = tables["runs"]
    table.loc[
        (table["group"] == "rare")
        & (table["metric"] == "defect")
        & (table["granularity"] == "feature"),
        "value",
    ] -= 0.2
    table.loc[
        (table["metric"] == "off_manifold") & (table["granularity"] == "feature"), "value"
    ] -= 0.3
    found = judged(tables)
    assert [found[claim]["verdict"] for claim in ("F1", "F2", "F3")] == [
        "not reproduced",
        "reproduced",
        "not reproduced",
    ]


def test_contrasts_are_paired_by_seed():
    """A shift that differs by seed but is shared by the arms leaves the paired interval narrow."""
    tables = tables_with(lambda n: -0.2)
    tables["runs"]["value"] += tables["runs"]["seed"] * 10.0
    found = feature_contrasts(tables).query("claim == 'F1' and judged")
    assert (found["high"] - found["low"]).max() < 0.01 and (
        found["corrected"] <= 3 * 2 / 2**10 + 1e-12
    ).all()
