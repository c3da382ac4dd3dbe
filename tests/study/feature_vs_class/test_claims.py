"""The verdicts of F1 to F5 on tables with known answers."""

import itertools

import pandas as pd
import pytest
import torch

from gmmdiff.core.streams import stream
from gmmdiff.study import register
from gmmdiff.study.engine.runs import COLUMNS
from gmmdiff.study.feature_vs_class.claims import CLAIMS, DELTA, contrasts_table
from gmmdiff.study.feature_vs_class.contrasts import ARCS, SETTINGS
from gmmdiff.study.feature_vs_class.ground import ground_sentence

pytestmark = pytest.mark.usefixtures("few_replicates")
SIZES = (500, 8000)
OF_ARCS = DELTA["arcs", "dense"]
ARMS = ("coarse", "class", "feature", "scrambled", "shared")


def tables_with(shift, seeds=20, gain=None):
    """Tables whose every value is 0.3 and a noise of 0.0005, shared by no arm, and ``shift(row)``.

    Args:
        gain: what twice the training adds, of a row too.
    """
    rows, noise = [], stream(0, "tables")
    for n_train, seed, group, s_c, metric, granularity, condition in itertools.product(
        SIZES,
        range(seeds),
        ("seen", "rare", "held out"),
        (0.0, 0.1),
        ("defect", "miss"),
        ARMS,
        ("drawn", "mean"),
    ):
        if condition == "drawn" or s_c:
            row = (granularity, s_c, n_train, 1e-2, 100, seed, condition, group, metric)
            rows.append(row)
    table = pd.DataFrame(rows, columns=[*COLUMNS, "condition", "group", "metric"])
    wiggle = 5e-4 * torch.randn(len(table), generator=noise, dtype=torch.float64).numpy()
    table["value"] = 0.3 + wiggle + [shift(row) for row in table.itertuples()]
    longer = table[table["seed"] < 5].assign(steps=200)
    if gain:
        longer["value"] += [gain(row) for row in longer.itertuples()]
    tables = {"runs": table, "steps": pd.concat([table, longer])}
    for world, (name, of) in itertools.product(
        ("faces", "digits"), (("", "runs"), ("_steps", "steps"))
    ):
        regimes = (tables[of].assign(attributes=6, regime=one) for one in ("dense", "sparse"))
        tables[f"{world}{name}"] = pd.concat(regimes)
    return tables


def judged(tables, world="arcs", regime="dense"):
    claims = [one for one in CLAIMS if (one.world, one.regime) == (world, regime)]
    return {claim.id: register.judged(claim, tables) for claim in claims}


def of_features(effect):
    return lambda row: effect * (row.granularity == "feature")


def test_verdicts_follow_the_cells():
    fewer = judged(tables_with(of_features(-0.02)))
    assert [fewer[claim]["verdict"] for claim in ("F1", "F2", "F5")] == ["reproduced"] * 3
    assert [cell["state"] for cell in fewer["F1"]["cells"]] == ["holds"] * 4
    assert fewer["F1"]["ci_high"] < -fewer["F1"]["delta"]["feature minus class, seen"]
    assert fewer["F4"]["verdict"] == "no effect" and fewer["F3"]["verdict"] == "reproduced"
    assert judged(tables_with(of_features(0.02)))["F1"]["verdict"] == "reversed"
    assert judged(tables_with(of_features(0.0)))["F1"]["verdict"] == "no effect"
    mixed = tables_with(lambda row: of_features(-0.02 if row.s_c else 0.02)(row))
    assert judged(mixed)["F1"]["verdict"] == "mixed"
    some = tables_with(lambda row: of_features(-0.02 if row.n_train == 500 else 0.0)(row))
    assert judged(some)["F1"]["verdict"] == "partly"


def test_images_are_judged_by_their_own_deltas():
    tables = tables_with(of_features(-0.01))  # beyond the delta of arcs, within those of images
    found = {place: judged(tables, *place) for place in DELTA}
    assert found["arcs", "dense"]["F1"]["verdict"] == "reproduced"
    assert found["faces", "sparse"]["F1"]["verdict"] == "no effect"
    asked = {place: list(claims) for place, claims in found.items()}
    assert asked == {
        ("arcs", "dense"): ["F1", "F2", "F3", "F4", "F5"],
        ("faces", "dense"): ["F1"],
        ("faces", "sparse"): ["F1", "F2", "F3", "F4", "F5"],
        ("digits", "dense"): ["F1", "F4"],
        ("digits", "sparse"): ["F1", "F2", "F3", "F4"],
    }
    assert set(found["faces", "sparse"]["F1"]["cells"][0]["factors"]) == {
        "contrast",
        "attributes",
        "s_c",
        "n_train",
    }


def test_regimes_are_told_apart():
    tables = tables_with(of_features(0.0))
    faces = tables["faces"]
    faces.loc[(faces["regime"] == "sparse") & (faces["granularity"] == "feature"), "value"] -= 0.2
    assert judged(tables, "faces", "sparse")["F1"]["verdict"] == "reproduced"
    assert judged(tables, "faces", "dense")["F1"]["verdict"] == "no effect"
    assert judged(tables, "digits", "sparse")["F1"]["verdict"] == "no effect"


def test_twice_the_training_is_asked_in_every_world():
    tables = tables_with(of_features(-0.02), gain=of_features(-0.05))
    for place in DELTA:
        assert judged(tables, *place)["F1"]["verdict"] == "inconclusive", place


def test_every_setting_has_its_table_of_cells():
    tables = tables_with(of_features(0.0))
    for setting in SETTINGS:
        table = contrasts_table(tables, setting)
        assert set(table["claim"]) == set(setting.judged)
        assert "control" in set(table["state"]) and (table["delta"] > 0).all()


def test_claims_json_holds_what_the_rule_needs():
    found = judged(tables_with(of_features(0.0)))["F4"]
    assert (found["world"], found["regime"], found["n_seeds"]) == ("arcs", "dense", 20)
    assert found["delta"] == pytest.approx(OF_ARCS["F4"], rel=1e-5)
    assert len(found["cells"]) == 6 and found["replication"] == 1
    assert set(found["cells"][0]) == {"factors", "estimate", "low", "high", "delta", "state"}
    assert found["cells"][0]["factors"] == {
        "contrast": "coarse: mixture minus point",
        "n_train": 500,
    }


def test_composing_is_no_more_than_five_points_worse_than_rare():
    def held_out(effect):
        return tables_with(lambda row: effect * (row.group == "held out"))

    assert judged(held_out(0.04))["F3"]["verdict"] == "reproduced"
    assert judged(held_out(0.06))["F3"]["verdict"] == "reversed"
    assert judged(held_out(-0.2))["F3"]["verdict"] == "reproduced"


def test_a_mixture_is_judged_by_drawn_conditions():
    drawn = judged(tables_with(lambda row: -0.05 * (row.s_c > 0 and row.condition == "drawn")))
    assert drawn["F4"]["verdict"] == "reproduced"
    at_mean = judged(tables_with(lambda row: -0.05 * (row.condition == "mean")))
    assert at_mean["F4"]["verdict"] == "no effect"


def test_too_few_seeds_give_no_verdict():
    found = judged(tables_with(of_features(-0.02), seeds=19))
    assert found["F1"]["verdict"] == "inconclusive"


def test_arms_that_twice_the_training_moves_give_no_verdict():
    tables = tables_with(of_features(-0.02), gain=of_features(-0.01))
    found = judged(tables)
    assert found["F1"]["verdict"] == "inconclusive" and found["F4"]["verdict"] == "no effect"
    told = (
        "Not trained long enough for a verdict: twice the steps move feature minus class, seen, s_c"
    )
    assert found["F1"]["details"].startswith(told)
    calm = judged(tables_with(of_features(-0.02), gain=of_features(-0.0005)))
    assert calm["F1"]["verdict"] == "reproduced"


def test_each_claim_reads_its_own_group_and_metric():
    rare = judged(tables_with(lambda row: of_features(-0.2 * (row.group == "rare"))(row)))
    found = [rare[claim]["verdict"] for claim in ("F1", "F2", "F3", "F5")]
    assert found == ["no effect", "reproduced", "reversed", "reproduced"]
    other = judged(tables_with(lambda row: of_features(-0.2 * (row.metric == "defect"))(row)))
    assert other["F1"]["verdict"] == "no effect"


def test_contrasts_are_paired_by_seed():
    """A shift that differs by seed but is shared by the arms leaves the interval as it was."""
    plain = judged(tables_with(of_features(-0.02)))["F1"]["cells"]
    shifted = judged(tables_with(lambda row: of_features(-0.02)(row) + 10.0 * row.seed))["F1"]
    for one, other in zip(plain, shifted["cells"], strict=True):
        assert other["low"] == pytest.approx(one["low"], abs=1e-5)


def test_controls_stand_beside_in_units_of_their_deltas():
    table = contrasts_table(tables_with(of_features(0.0)), ARCS)
    assert set(table["state"]) >= {"negligible", "control"} and (table["delta"] > 0).all()
    coarse = table[table["name"].str.startswith("coarse: mixture at its mean")]
    assert (coarse["delta"] == OF_ARCS["F4"]["coarse: mixture minus point"]).all()


def test_the_ground_is_told_either_way():
    tables = tables_with(of_features(-0.02), gain=of_features(-0.01))
    real = tables["runs"].query("granularity == 'class'").assign(granularity="real", value=0.0)
    tables["runs"] = pd.concat([tables["runs"], real])
    alike = {"n_train": 8000, "value": 0.01}
    rows = [
        (sampler, count, seed)
        for sampler, count in (("DPM-Solver++(2M)", 20), ("DPM-Solver++(2M)", 80), ("ancestral", 9))
        for seed in range(3)
    ]
    tables["samplers"] = pd.DataFrame(rows, columns=["sampler", "evaluations", "seed"]).assign(
        **alike
    )
    told = ground_sentence(tables, 20)
    assert "F1 (arcs, dense) by -1" in told and "F4 (digits, sparse) by" in told
    assert "minus ancestral with 9 +0.0000" in told
    assert "class, n_train 500: " in told and "at the mean" in told
