"""The verdicts of F1 to F8 on tables with known answers."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import trim_mean

from gmmdiff.core.streams import numpy_stream
from gmmdiff.judging import register
from gmmdiff.judging.feature_vs_class import CLAIMS, JUDGED, Setting, claim_of, contrasts_table

pytestmark = pytest.mark.usefixtures("few_replicates")
MEASURED = ("defect", "wrong", "copy", "law")
ARMS = [("class", 0.0), ("class", 0.1), ("feature", 0.0), ("feature", 0.1)]
CONTROLS = [("scrambled", 0.0), ("shared", 0.0), ("class", 0.25)]
PLACE = ["granularity", "s_c", "seed", "condition", "group", "metric"]
RATIOS = ("law", "validation_loss")


def runs(effects=(), noise=1e-3, seeds=20, arms=(*ARMS, *CONTROLS)):
    """Runs whose every value is 0.3 times a lognormal noise, and what the effects do to it.

    Args:
        effects: pairs of a query and a shift: of a share added, of a ratio's logarithm.
    """
    rows = []
    for (granularity, s_c), seed in itertools.product(arms, range(seeds)):
        run = granularity, s_c, seed
        for condition in ("drawn", "mean") if s_c else ("drawn",):
            of_groups = itertools.product(("seen", "rare", "held out"), MEASURED)
            rows += [(*run, condition, *of_group) for of_group in of_groups]
        rows += [(*run, "drawn", "all", metric) for metric in ("validation_loss", "long_enough")]
    table = pd.DataFrame(rows, columns=PLACE).assign(n_train=1000, value=0.3)
    table["value"] *= numpy_stream(0, "noise").lognormal(0, noise, len(table))
    for query, shift in effects:
        where = table.eval(query)
        ratio = where & table["metric"].isin(RATIOS)
        table.loc[ratio, "value"] *= np.exp(shift)
        table.loc[where & ~ratio, "value"] += shift
    table.loc[table["metric"] == "long_enough", "value"] = 1.0
    return table


MOONS = Setting("moons", "dense", tuple(JUDGED))


def judged(claim, table):
    return claim_of(claim, MOONS, "moons").judge({"moons": table})


FEWER = "granularity == 'feature' and metric == '{}' and group == '{}'"
PLANTED = {  # claim -> what shifts, and by how much where the claim holds
    "F1": (FEWER.format("defect", "seen"), -0.04),
    "F2": (FEWER.format("defect", "rare"), -0.04),
    "F4": ("s_c > 0 and condition == 'drawn' and metric == 'defect' and group == 'seen'", -0.04),
    "F5": ("granularity == 'feature' and group == 'rare' and metric in ['defect', 'law']", -0.2),
    "F6": (FEWER.format("copy", "rare"), -0.04),
    "F7": (FEWER.format("law", "rare"), -0.2),
    "F8": ("s_c > 0 and metric == 'validation_loss'", -0.04),
}


@pytest.mark.parametrize("claim", PLANTED)
def test_a_verdict_follows_what_is_planted(claim):
    query, shift = PLANTED[claim]
    assert judged(claim, runs([(query, shift)])).verdict == "reproduced"
    assert judged(claim, runs([(query, -shift)])).verdict == "reversed"
    assert judged(claim, runs()).verdict == "no effect"
    noisy = judged(claim, runs(noise=1.0))
    assert noisy.verdict == "inconclusive" and noisy.replication < 1


@pytest.mark.parametrize("claim", sorted(PLANTED.keys() - {"F5"}))  # which has two deltas
def test_an_effect_of_delta_leans(claim):
    query, (delta,) = PLANTED[claim][0], claim_of(claim, MOONS, "moons").delta.values()
    for sign, state, verdict in ((-1, "leans", "partly"), (1, "leans against", "reversed")):
        found = judged(claim, runs([(query, sign * delta)], noise=0.01))
        assert {cell["state"] for cell in found.cells} == {state} and found.verdict == verdict


@pytest.mark.parametrize("claim", ["F1", "F2", "F6", "F7"])
def test_points_and_mixtures_are_cells_of_their_own(claim):
    query, shift = PLANTED[claim]
    both = [(f"{query} and s_c == 0", shift), (f"{query} and s_c > 0", -shift)]
    mixed = judged(claim, runs(both))
    assert [cell["factors"]["s_c"] for cell in mixed.cells] == [0, 0.1]
    assert [cell["state"] for cell in mixed.cells] == ["holds", "reversed"]
    assert mixed.verdict == "mixed"
    assert judged(claim, runs([(f"{query} and s_c > 0", shift)])).verdict == "partly"


@pytest.mark.parametrize("claim", ["F4", "F8"])
def test_each_granularity_is_a_cell(claim):
    query, shift = PLANTED[claim]
    found = judged(claim, runs([(f"{query} and granularity == 'class'", shift)]))
    states = {cell["factors"]["granularity"]: cell["state"] for cell in found.cells}
    assert states == {"class": "holds", "feature": "negligible"} and found.verdict == "partly"


def test_composing_is_less_than_five_points_worse_than_rare():
    def held_out(effect, metrics="metric in ['defect', 'wrong']"):
        where = f"granularity == 'feature' and group == 'held out' and {metrics}"
        return judged("F3", runs([(where, effect)]))

    good = held_out(0.04)
    assert good.verdict == "reproduced" and all(cell["margin"] for cell in good.cells)
    assert {cell["delta"] for cell in good.cells} == {0.05} and len(good.cells) == 4
    assert held_out(-0.2).verdict == "reproduced"
    assert held_out(0.06).verdict == "reversed"
    assert held_out(0.05).verdict == "inconclusive"
    malformed = held_out(0.06, "metric == 'defect'")
    assert malformed.verdict == "mixed"
    states = {(cell["factors"]["metric"], cell["state"]) for cell in malformed.cells}
    assert states == {("defect", "reversed"), ("wrong", "holds")}


def test_controls_do_not_decide():
    others = "granularity in ['scrambled', 'shared'] or s_c == 0.25 or condition == 'mean'"
    calm, moved = runs(), runs([(others, 0.2)])
    for claim in set(JUDGED) - {"F5"}:
        assert judged(claim, moved) == judged(claim, calm)
    before, after = (contrasts_table({"moons": table}, MOONS) for table in (calm, moved))
    same = before["state"] == after["state"]
    assert same[~before["control"] & (before["claim"] != "F5")].all()
    beside = before[before["control"]]
    assert not same[beside.index][beside["claim"] != "F3"].any()
    two = dict.fromkeys(("F1", "F2", "F4", "F5", "F6", "F7"), 2)
    assert beside["claim"].value_counts().to_dict() == {"F3": 8} | two


def test_the_own_unit_stands_beside_on_fewer_seeds():
    table = runs().query("s_c != 0.25 or seed < 5")
    found = contrasts_table({"moons": table}, Setting("moons", "dense", ("F1", "F4", "F8")))
    own = found[found["name"] == "feature against class, own unit"]
    assert own["control"].to_list() == [True]
    assert judged("F4", table).n_seeds == judged("F8", table).n_seeds == 20


def test_cells_hold_both_arms_own_levels():
    table = runs([(FEWER.format("defect", "seen"), -0.1)], noise=0.1)
    point, _ = judged("F1", table).cells
    asked = "s_c == 0 and group == 'seen' and metric == 'defect'"
    for level, arm in zip(point["levels"], ("feature", "class"), strict=True):
        values = table.query(f"{asked} and granularity == '{arm}'")["value"]
        assert level["arm"] == arm and level["estimate"] == pytest.approx(trim_mean(values, 0.25))
        assert level["low"] < level["estimate"] < level["high"]
    feature, _ = judged("F7", table).cells[0]["levels"]
    assert feature["estimate"] == pytest.approx(0.3, rel=0.1), "not its logarithm"


def test_contrasts_are_paired_by_seed():
    """A shift that differs by seed but is shared by the arms leaves the interval as it was."""
    plain, table = judged("F1", runs()), runs()
    table["value"] += 10.0 * table["seed"]
    for one, other in zip(plain.cells, judged("F1", table).cells, strict=True):
        assert other["low"] == pytest.approx(one["low"], abs=1e-9)


@pytest.mark.parametrize(("short", "expected"), [(8, False), (9, True)])
def test_undertrained_is_fewer_than_nine_in_ten_of_the_runs_compared(short, expected):
    """Of F1's 80 runs 8 may be too short; those of others do not count."""
    table = runs()
    ours = table.query("metric == 'long_enough' and granularity == 'feature'")
    table.loc[ours.index[:short], "value"] = 0.0
    table.loc[table.eval("metric == 'long_enough' and granularity == 'shared'"), "value"] = 0.0
    found = judged("F1", table)
    assert found.undertrained is expected and found.verdict == "no effect"
    assert found.details.startswith("Undertrained: ") is expected
    assert not judged("F1", table[table["metric"] != "long_enough"]).undertrained


@pytest.mark.parametrize(("gain", "expected"), [(0.005, False), (0.02, True)])
def test_undertrained_is_also_what_a_longer_training_betters(gain, expected):
    """By more than a hundredth, in any arm that the claim compares."""
    table, arms = runs(), ["granularity", "s_c", "seed"]
    losses = table[table["metric"] == "validation_loss"]
    longer = losses[losses["seed"] < 5][[*arms, "metric", "value"]].assign(step=100)
    mixture = (longer["granularity"] == "feature") & (longer["s_c"] > 0)
    longer["value"] *= 1 - gain * mixture
    worse = longer.assign(step=200, value=2 * longer["value"])
    tables = {"moons": table, "story": pd.concat([longer, worse])}
    setting = Setting("moons", "dense", ("F1", "F5"), "story")
    found = {name: claim_of(name, setting, "moons").judge(tables) for name in setting.claims}
    assert found["F1"].undertrained is expected
    assert not found["F5"].undertrained  # of points alone
    assert not judged("F1", table).undertrained


def test_details_are_a_sentence_a_cell():
    told = judged("F5", runs([PLANTED["F5"]])).details
    assert "Defect (rare), feature against scrambled, points: feature 10.0 % [" in told
    assert "scrambled 30.0 % [" in told and "percentage points: holds. Law (rare), " in told
    assert "ratio 0.819 [" in told


def test_missing_arms_are_named_in_one_line():
    with pytest.raises(ValueError, match="moons, dense: tables must be with one of moons, got"):
        claim_of("F1", Setting("moons", "dense", ("F1",)), "moons").judge({"suns": runs()})
    message = r"F5 \(moons, dense\), scrambled: runs must be with defect where .*, got none$"
    with pytest.raises(ValueError, match=message):
        judged("F5", runs(arms=ARMS))
    apart = runs(arms=[("feature", 0.0), ("class", 0.0)])
    with pytest.raises(ValueError, match=r"F1 \(moons, dense\): arms must be with seeds and"):
        judged("F1", apart[(apart["seed"] < 5) == (apart["granularity"] == "class")])


def test_a_run_that_diverged_leaves_its_seed_out():
    table = runs()
    lost = table.eval("metric == 'law' and seed == 3 and granularity == 'class' and s_c == 0.1")
    table.loc[lost, "value"] = np.nan
    found = judged("F7", table)
    assert (found.n_seeds, found.verdict) == (19, "inconclusive")


def test_sizes_of_the_training_set_are_cells_where_there_are_several():
    both = pd.concat([runs(), runs([PLANTED["F1"]]).assign(n_train=4000)])
    found = judged("F1", both)
    assert [cell["factors"]["n_train"] for cell in found.cells] == [1000, 4000] * 2
    assert found.verdict == "partly"


def test_a_setting_reads_the_runs_of_its_world_and_regime():
    good, bad = runs([PLANTED["F1"]]), runs([(PLANTED["F1"][0], 0.04)])
    both = pd.concat([good.assign(regime="sparse"), bad.assign(regime="dense")])
    tables = {"arcs": good, "faces": both, "digits": both}
    found = [register.judged(claim, tables) for claim in CLAIMS if claim.id == "F1"]
    verdicts = [(one["world"], one["regime"], one["verdict"]) for one in found]
    assert verdicts == [
        *(("arcs", "dense", "reproduced"), ("faces", "sparse", "reproduced")),
        *(("faces", "dense", "reversed"), ("digits", "sparse", "reproduced")),
        ("digits", "dense", "reversed"),
    ]


def test_claims_json_holds_what_the_rule_needs():
    found = register.judged(claim_of("F5", MOONS, "moons"), {"moons": runs()})
    assert (found["world"], found["regime"], found["stage"]) == ("moons", "dense", "moons")
    assert (found["n_seeds"], found["undertrained"]) == (20, False)
    assert found["delta"] == {"defect": 0.02, "law": 0.0953102}
    cell = found["cells"][0]
    assert " ".join(cell) == "factors estimate low high delta state margin levels"
    factors = {"metric": "defect", "contrast": "feature against scrambled", "group": "rare"}
    assert cell["factors"] == factors | {"s_c": 0.0}
    low = cell["levels"][0]["low"]
    assert low == float(f"{low:.6g}")
