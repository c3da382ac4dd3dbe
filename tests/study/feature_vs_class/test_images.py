"""The comparison on faces and digits: its parts, what they leave behind, and what is refused."""

from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from gmmdiff.study.engine.training import Ensemble
from gmmdiff.study.feature_vs_class import digits, faces, image_figures, images
from gmmdiff.study.feature_vs_class.worlds import joined

QUIET = partial(tqdm, disable=True)
NETWORK = {"width": 16, "hidden": 1, "batch": 16, "ema": 0.9, "evaluations": 4}
FACES = {
    "attributes": [3, 4],
    "n_train": [400, 60],
    "steps": [60, 60],
    "n_eval": [2, 2],
    "detailed": 4,
    "mapped": [60, 400],
    "s_c": [0.0, 0.1],
    "learning_rate": 1e-3,
    "seeds": 3,
    "seed": 5,
    "swept_steps": [30],
    "swept_seeds": 2,
    "size": 16,
    "held_out": 0.125,
    **NETWORK,
}
DIGITS = {
    "n_train": [100, 3000],
    "steps": [50, 60],
    "n_eval": 2,
    "s_c": [0.0, 0.1],
    "learning_rate": 1e-3,
    "seeds": 2,
    "seed": 5,
    "swept_steps": [30],
    "swept_seeds": 2,
    "train": 0.5,
    "judge": 0.35,
    "held_out": 0.12,
    **NETWORK,
}


@pytest.fixture(scope="module")
def made():
    found = {}
    for world, module, given, close in (
        ("faces", faces, FACES, "judged_4"),
        ("digits", digits, DIGITS, "judged_100"),
    ):
        parts = {
            name: images.run_part(rows, recipe, "cpu", QUIET, name == close)
            for name, (rows, recipe) in module.parts(**given).items()
        }
        found |= joined(world, parts)
    return found


def test_every_arm_is_there_with_every_seed():
    parts = {name: rows for name, (rows, _) in faces.parts(**FACES).items()}
    kinds = [f"{kind}_{m}" for m in (3, 4) for kind in ("judged", "map", "steps")]
    assert list(parts) == kinds
    seeds = parts["judged_4"].groupby(["granularity", "s_c"]).size().to_dict()
    assert seeds == {
        ("class", 0.0): 3,
        ("class", 0.1): 3,
        ("feature", 0.0): 3,
        ("feature", 0.1): 3,
        ("scrambled", 0.0): 3,
        ("shared", 0.0): 2,
        ("none", 0.0): 2,
    }
    assert set(parts["judged_3"]["granularity"]) == {"class", "feature", "none"}
    assert set(parts["map_4"]["n_train"]) == {400} and set(parts["map_3"]["n_train"]) == {60}
    assert set(parts["steps_4"]["steps"]) == {30, 120} and set(parts["steps_3"]["steps"]) == {120}
    own = {name: rows for name, (rows, _) in digits.parts(**DIGITS).items()}
    assert list(own) == ["judged_100", "steps_100", "judged_3000", "steps_3000"]
    assert set(own["steps_100"]["steps"]) == {30, 100}


def test_an_eighth_is_held_out_and_a_setting_has_its_regime():
    dense, sparse = (faces.parts(**FACES)[f"judged_{m}"][1] for m in (3, 4))
    assert (dense.held_out, sparse.held_out) == (1, 2)
    assert images.regime(400, dense) == "dense" and images.regime(60, sparse) == "sparse"
    assert (
        images.regime(30 * 14, sparse) == "dense" and images.regime(30 * 14 - 1, sparse) == "sparse"
    )


def test_what_the_claims_read_is_there(made):
    assert set(made["faces"]["regime"]) == {"dense", "sparse"} == set(made["digits"]["regime"])
    assert set(made["faces"]["attributes"]) == {3, 4}
    at = made["faces"].query("attributes == 4 and metric == 'miss' and granularity == 'feature'")
    assert set(at["group"]) >= {"seen", "rare", "held out"}
    assert set(at.query("s_c > 0")["condition"]) == {"drawn", "mean"}
    lengths = made["faces_steps"].query("attributes == 4")
    assert set(lengths["steps"]) == {30, 60, 120} and lengths["seed"].nunique() == 2
    assert not lengths.duplicated().any()
    assert set(made["faces_map"]["n_train"]) == {60, 400}
    assert set(made["faces_map"]["granularity"]) == {"class", "feature"}


def test_pictures_say_what_they_show(made):
    table = made["faces_pictures"]
    real = table[table["granularity"] == "real"]
    assert (real["shown"] == real["combination"]).all() and not real["off"].any()
    assert len(table) == len(real) * 8  # seven arms, and real ones once
    assert {"p0", "p255"} <= set(table) and "p256" not in table
    assert set(made["faces_strip"]["t"].round(1)) >= {0.0, 1.0}


def test_figures_are_drawn_of_both_worlds(made):
    for world, parts in (("faces", faces.parts(**FACES)), ("digits", digits.parts(**DIGITS))):
        _, recipe = parts["judged_4" if world == "faces" else "judged_100"]
        drawn = recipe.world(generator=torch.Generator())
        image_figures.sheet(made[f"{world}_pictures"], drawn, world)
        image_figures.ask_for_unseen(made[f"{world}_pictures"], drawn)
        image_figures.reverse_images(made[f"{world}_strip"], drawn)
    image_figures.comparison_map(made["faces_map"])
    image_figures.codes(made["faces"].query("attributes == 4"))
    image_figures.held_out_by_steps({"faces": made["faces_steps"], "digits": made["digits_steps"]})
    plt.close("all")


def test_wrong_attributes_are_named_below_a_picture(made):
    recipe = faces.parts(**FACES)["judged_4"][1]
    drawn = recipe.world(generator=torch.Generator())
    table = made["faces_pictures"].query("granularity == 'real'")
    wrong = table.assign(granularity="class", shown=table["combination"] ^ 1)  # shaved or not
    figure = image_figures.sheet(pd.concat([table, wrong]), drawn, "faces")
    told = {axis.get_xlabel() for axis in figure.axes}
    assert told <= {"", "beard", "shaved"} and len(told) > 1
    plt.close(figure)


@pytest.mark.parametrize(
    ("module", "given", "change", "message"),
    [
        (faces, FACES, {"attributes": [3, 9], "detailed": 9}, "attributes must be in 2..8, got 9"),
        (faces, FACES, {"detailed": 5}, r"detailed must be one of \[3, 4\], got 5"),
        (faces, FACES, {"n_train": [400]}, "as many n_train, steps and n_eval"),
        (faces, FACES, {"mapped": [60]}, "mapped must be at least one size beside each n_train"),
        (faces, FACES, {"swept_steps": [60]}, "swept_steps must be below 60"),
        (faces, FACES, {"swept_seeds": 4}, "swept_seeds must be in 1 .. seeds"),
        (faces, FACES, {"s_c": [0.1]}, "s_c must be 0 "),
        (faces, FACES, {"size": 12}, "size must be >= 16, got 12"),
        (faces, FACES, {"held_out": 0.01}, "held_out must be at least one combination, got 0"),
        (faces, FACES, {"held_out": 0.99}, "held_out"),
        (digits, DIGITS, {"train": 0.7, "judge": 0.3}, "leave images for the floor"),
        (digits, DIGITS, {"judge": 0.0}, "train, judge must be shares > 0"),
        (digits, DIGITS, {"n_train": [100, 100]}, "n_train must be distinct"),
    ],
)
def test_bad_settings_are_named_before_any_training(module, given, change, message):
    with pytest.raises(ValueError, match=message):
        for name, (rows, recipe) in module.parts(**(given | change)).items():
            Ensemble.check(rows, recipe)
            if name.startswith("judged"):
                images.require_groups("here", rows, recipe)


def test_a_sparse_setting_without_a_rare_combination_is_refused():
    rows, recipe = faces.parts(**(FACES | {"n_train": [400, 400]}))["judged_4"]
    with pytest.raises(ValueError, match="rare combinations must be at least one combination with"):
        images.require_groups("faces", rows, recipe)
