"""The experiment's parts, and what one of them leaves behind."""

import pandas as pd
import pytest
from tqdm import tqdm

from gmmdiff.study.engine.evaluation import by_step
from gmmdiff.study.engine.runs import COLUMNS, Recipe, choose
from gmmdiff.study.engine.training import train
from gmmdiff.study.feature_vs_class import runs

SIZES = (500, 2000, 8000)
PARTS = runs.parts([0.0, 0.1], SIZES, 1e-2, 8000, 10, 7, [0.0, 0.05, 0.3], [4000, 16000], 5)


def test_every_arm_is_there_with_every_seed():
    assert list(PARTS) == ["500", "2000", "8000", "s_c", "steps"]
    for size in SIZES:
        rows = PARTS[str(size)]
        assert (rows.groupby(["granularity", "s_c"]).size() == 10).all() and len(rows) == 80
        assert set(rows["seed"]) == set(range(7, 17)) and set(rows["n_train"]) == {size}
    assert set(PARTS["s_c"]["s_c"]) == {0.05, 0.3} and set(PARTS["s_c"]["n_train"]) == {2000}
    assert set(PARTS["steps"]["steps"]) == {4000, 16000} and set(PARTS["steps"]["n_train"]) == {
        8000
    }
    assert set(PARTS["steps"]["granularity"]) == {"coarse", "class", "feature"}


def test_an_unknown_part_is_named():
    with pytest.raises(
        ValueError, match="part must be one of 500, 2000, 8000, s_c, steps, got '400'"
    ):
        choose(PARTS, "400")


def test_a_sweep_gains_the_arms_that_differ_in_its_factor_alone():
    arms = pd.concat([PARTS[str(size)] for size in SIZES]).assign(value=1.0)
    scales = runs.with_arms(PARTS["s_c"].assign(value=0.0), arms, "s_c")
    assert set(scales["s_c"]) == {0.0, 0.05, 0.1, 0.3} and set(scales["n_train"]) == {2000}
    assert (
        set(scales["granularity"]) == {"class", "feature"}
        and (scales["value"] == 1).sum() == 2 * 2 * 5
    )
    lengths = runs.with_arms(PARTS["steps"].assign(value=0.0), arms, "steps")
    assert set(lengths["steps"]) == {4000, 8000, 16000} and set(lengths["s_c"]) == {0.0, 0.1}


def test_loss_curves_are_tidy():
    recipe = Recipe(width=8, hidden=1, batch=8)
    rows = runs.parts([0.0, 0.1], [20], 1e-3, 110, 1, 0, [0.3], [50, 220], 1)["steps"].query(
        "s_c == 0"
    )
    curves = by_step(rows, loss=(trained := train(rows, recipe)).losses)
    assert list(curves.columns) == [*COLUMNS, "step", "loss"] and len(curves) == 3 * (1 + 5)
    assert set(curves.query("steps == 50")["step"]) == {50} and set(
        curves.query("steps == 220")["step"]
    ) == {50, 100, 150, 200, 220}
    assert curves["loss"].to_list() == pytest.approx(
        trained.losses[~trained.losses.isnan()].tolist()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_train": [500, 500]}, r"n_train must be distinct sizes, got \[500, 500\]"),
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
            {"swept_steps": [50, 150]},
            r"swept_steps must be at least one of twice steps = 100 or more, got \[50, 150\]",
        ),
        ({"seeds": 0}, "seeds must be >= 1, got 0"),
    ],
)
def test_bad_experiments_are_named(change, message):
    good = {
        "s_c": [0.0, 0.1],
        "n_train": [500],
        "learning_rate": 1e-2,
        "steps": 100,
        "seeds": 2,
        "first_seed": 0,
        "swept_s_c": [0.3],
        "swept_steps": [200],
        "swept_seeds": 2,
    }
    runs.parts(**good)
    with pytest.raises(ValueError, match=message):
        runs.parts(**(good | change))


def test_a_part_whose_runs_diverge_is_measured_all_the_same():
    recipe = Recipe(width=8, hidden=1, batch=8, n_eval=4, evaluations=4)
    rows = runs.parts([0.0, 0.1], [20], 1e30, 50, 2, 0, [0.3], [100], 2)["20"]
    tables = runs.run_part(rows, recipe, "cpu", tqdm, False) | {
        "pictures": runs.pictures(rows, train(rows, recipe), recipe)
    }
    values = tables["runs"].set_index("metric")["value"]
    assert (values["diverged"] == 1).all() and len(values["diverged"]) == len(rows)
    assert tables["pictures"]["defect"].all() and tables["losses"].empty
