"""The experiment's parts, and what one of them leaves behind."""

import pandas as pd
import pytest
from tqdm import tqdm

from gmmdiff.core.conditioning import GRANULARITIES
from gmmdiff.study.engine.evaluation import by_step
from gmmdiff.study.engine.runs import COLUMNS, PREPARED, Recipe, choose
from gmmdiff.study.engine.training import train
from gmmdiff.study.feature_vs_class import arcs
from gmmdiff.study.feature_vs_class.runs import conditions, with_arms
from tests.recipes import ARCS

SIZES = (500, 8000)
STEPS = [9000, 8000]
PARTS = arcs.parts([0.0, 0.1], SIZES, 1e-2, STEPS, 20, 7, [0.0, 0.05, 0.3], [2000, 4000], 5)
POINTS = ("none", "scrambled", "shared")  # as controls
SMALL = Recipe(ARCS, width=8, hidden=1, batch=8, n_eval=4, evaluations=4)


def small_parts(rate=1e-3):
    return arcs.parts([0.0, 0.1], [20], rate, [110], 1, 0, [0.3], [50], 1)


def test_every_arm_is_there_with_every_seed():
    assert list(PARTS) == ["500", "8000", "s_c", "steps", "v_prediction"]
    for size in SIZES:
        rows = PARTS[str(size)]
        seeds = rows.groupby(["granularity", "s_c"]).size()
        assert set(rows["granularity"]) == set(GRANULARITIES) and set(rows["n_train"]) == {size}
        assert all((arm in POINTS) == ((arm, 0.1) not in seeds) for arm in GRANULARITIES)
        few = seeds.index.get_level_values(0).isin(["none", "shared"])
        assert set(rows["steps"]) == {9000 if size == 500 else 8000}
        assert (seeds[few] == 5).all() and (seeds[~few] == 20).all()
        assert set(rows["seed"]) == set(range(7, 27))
    assert set(PARTS["s_c"]["s_c"]) == {0.05, 0.3} and set(PARTS["s_c"]["n_train"]) == {8000}


def test_what_a_claim_compares_is_trained_twice_as_long():
    steps = PARTS["steps"]
    longer = steps[steps["steps"] > 9000]
    assert set(zip(longer["n_train"], longer["steps"], strict=True)) == {
        (500, 18000),
        (8000, 16000),
    }
    assert set(longer["granularity"]) == {"coarse", "class", "feature"}
    assert set(longer["s_c"]) == {0.0, 0.1}
    shorter = steps[steps["steps"] < 9000]
    assert set(shorter["steps"]) == {2000, 4000} and set(shorter["n_train"]) == {8000}
    velocity = PARTS["v_prediction"]
    assert set(velocity["steps"]) == {2000, 4000}
    assert arcs.recipe_of("v_prediction", SMALL).prediction == "v_prediction"
    assert arcs.recipe_of("steps", SMALL) == SMALL


def test_an_unknown_part_is_named():
    with pytest.raises(
        ValueError, match="part must be one of 500, 8000, s_c, steps, v_prediction, got '400'"
    ):
        choose(PARTS, "400")


def test_a_sweep_gains_the_arms_that_differ_in_its_factor_alone():
    arms = pd.concat([PARTS[str(size)] for size in SIZES]).assign(value=1.0)
    scales = with_arms(PARTS["s_c"].assign(value=0.0), arms, "s_c")
    assert set(scales["s_c"]) == {0.0, 0.05, 0.1, 0.3} and set(scales["n_train"]) == {8000}
    assert set(scales["granularity"]) == {"class", "feature"}
    assert (scales["value"] == 1).sum() == 2 * 2 * 5
    lengths = with_arms(PARTS["steps"].assign(value=0.0), arms, "steps")
    assert set(lengths["steps"]) == {2000, 4000, 8000, 9000, 16000, 18000}
    assert set(lengths["s_c"]) == {0.0, 0.1}


def test_loss_curves_are_tidy():
    rows = small_parts()["steps"].query("s_c == 0").reset_index(drop=True)
    curves = by_step(rows, loss=(trained := train(rows, SMALL)).losses)
    assert list(curves.columns) == [*COLUMNS, "step", "loss"]
    for _, own in curves.groupby(list(COLUMNS)):
        length = own["steps"].iloc[0]
        assert own["step"].tolist() == [*range(PREPARED, length, PREPARED), length]
    assert curves["loss"].to_list() == pytest.approx(
        trained.losses[~trained.losses.isnan()].tolist()
    )


def test_mixtures_are_measured_with_drawn_conditions_and_at_their_mean():
    rows = small_parts()["20"]
    found = arcs.run_part(rows, SMALL, "cpu", tqdm, False)["runs"]
    arms = found.groupby("condition")["s_c"].agg(set)
    assert arms["drawn"] == {0.0, 0.1} and arms["mean"] == {0.1}
    assert not found.duplicated([*COLUMNS, "condition", "group", "metric"]).any()
    metrics = set(found.loc[found["group"] == "held out", "metric"])
    assert metrics >= {"miss", "distance_50", "distance_90", "energy_distance"}


def test_the_noise_of_an_arm_is_counted_in_its_own_gap():
    arms = conditions(PARTS["8000"], SMALL).set_index(["granularity", "s_c"])
    told = arms[~arms["gap"].isna()]
    scales = told.index.get_level_values("s_c")
    assert told["noise"].to_list() == pytest.approx((scales * told["gap"]).to_list())
    assert arms.loc[("class", 0.1), "noise"] == pytest.approx(
        2 * arms.loc[("feature", 0.1), "noise"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_train": [500, 500]}, r"n_train, steps must be distinct sizes, .*, got \[500, 500\]"),
        (
            {"s_c": [0.1, 0.2]},
            r"s_c must be 0 \(point\) and at least one larger scale \(mixture\), got \[0.1, 0.2\]",
        ),
        ({"s_c": [0.0]}, r"s_c must be 0 \(point\) and at least one larger scale"),
        (
            {"swept_s_c": [0.1]},
            r"swept_s_c must be at least one scale beside s_c = \[0.0, 0.1\], got \[0.1\]",
        ),
        (
            {"swept_steps": [50, 100]},
            r"swept_steps must be below 100, the steps of the largest n_train, got \[50, 100\]",
        ),
        (
            {"steps": [100, 100]},
            r"n_train, steps must be distinct sizes, and one number of steps for each, got \[500\]",
        ),
        ({"swept_seeds": 3}, r"swept_seeds must be in 1 .. seeds = 2, got 3"),
        ({"seeds": 0}, "swept_seeds must be in 1 .. seeds = 0, got 2"),
    ],
)
def test_bad_experiments_are_named(change, message):
    good = {
        "s_c": [0.0, 0.1],
        "n_train": [500],
        "learning_rate": 1e-2,
        "steps": [100],
        "seeds": 2,
        "first_seed": 0,
        "swept_s_c": [0.3],
        "swept_steps": [50],
        "swept_seeds": 2,
    }
    arcs.parts(**good)
    with pytest.raises(ValueError, match=message):
        arcs.parts(**(good | change))


def test_a_part_whose_runs_diverge_is_measured_all_the_same():
    rows = arcs.parts([0.0, 0.1], [20], 1e30, [50], 2, 0, [0.3], [25], 2)["20"]
    tables = arcs.run_part(rows, SMALL, "cpu", tqdm, False) | {
        "pictures": arcs.pictures(rows, train(rows, SMALL), SMALL)
    }
    values = tables["runs"].set_index("metric")["value"]
    assert (values["diverged"] == 1).all() and len(values["diverged"]) == len(rows)
    assert tables["pictures"]["defect"].all() and tables["losses"].empty
