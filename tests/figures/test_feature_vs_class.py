"""The figures of feature versus class show what their tables say, and each arm once."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import trim_mean

from gmmdiff import Digits, Faces, stream
from gmmdiff.figures import curves, feature_vs_class as figures, pictures
from gmmdiff.judging.feature_vs_class import SETTINGS
from gmmdiff.judging.tables import feature_vs_class
from tests.paths import PUBLISHED

FACES = Faces(6, generator=stream(0, "faces"))


@pytest.fixture(scope="module")
def tables():
    return feature_vs_class(PUBLISHED / "tables")


@pytest.fixture
def runs(tables):
    """Those of sparse faces."""
    return SETTINGS[1].runs(tables)


@pytest.fixture
def images(tables):
    """Every second sample of the class arm is wrong on held-out and a copy on rare combinations."""
    found = tables["faces_pictures"].copy()
    odd = (found["sample"] % 2 == 1) & (found["granularity"] == "class")
    wrong = odd & (found["group"] == "held out")
    found["shown"] = found["combination"] ^ np.where(wrong, 9, 0)
    return found.assign(copy=odd & (found["group"] == "rare"), malformed=False)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def words(figure):
    return [" ".join(text.get_text().split()) for axis in figure.axes for text in axis.texts]


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_visible()]


def test_a_class_arm_at_a_scale_of_its_own_is_not_compared(tables):
    arms = [("class", 0.0), ("class", 0.1), ("feature", 0.0), ("feature", 0.1)]
    assert figures.arms_of(tables["faces"]) == arms
    assert set(figures.compared(tables["faces"])["condition"]) == {"drawn"}


def test_levels_are_each_arm_s_own_and_the_floor_that_of_real_samples(runs):
    runs = runs[runs["seed"] < runs["seed"].min() + 2].assign(value=0.5)
    runs.loc[runs["granularity"] == "real", "value"] = 0.25
    runs.loc[runs["granularity"] == "feature", "value"] = 0.042
    figure = figures.levels(runs, "Faces")
    assert words(figure) == (2 * ["50 %"] + 2 * ["4.2 %"]) * 5 + 2 * ["0.50"] + 2 * ["0.04"]
    floors = [axis.get_lines()[-1].get_xdata() for axis in figure.axes]
    np.testing.assert_allclose(floors, 0.25)


def test_a_group_that_is_not_there_has_no_panel_and_one_of_few_seeds_says_so(runs):
    shown = titles(figures.levels(runs[runs["group"] != "rare"], "Faces"))
    assert len(shown) == 3 and not any("rare" in title for title in shown)
    some = runs[(runs["group"] != "rare") | (runs["seed"] < runs["seed"].min() + 2)]
    shown = titles(figures.levels(some, "Faces", ["F1"]))
    assert sum("only 2 of 20 seeds" in title for title in shown) == 3
    assert shown[0].endswith("(F1)") and not any("(" in title for title in shown[1:])


@pytest.mark.parametrize(
    ("share", "told"), [(0, "0.0 %"), (0.0042, "0.4 %"), (0.0994, "9.9 %"), (0.0996, "10 %")]
)
def test_shares_have_two_digits(share, told):
    assert figures.percent(share) == told


def test_the_map_stands_at_the_images_of_a_combination(tables):
    figure = figures.comparison_map(tables["faces_map"].query("n_train == 1000"))
    at = [line.get_xdata()[0] for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    every = np.repeat([1000 / (2**m * 7 / 8) for m in (4, 6, 8)], 2)
    np.testing.assert_allclose(np.unique(at), np.sort(every), rtol=0.2)


def test_the_story_s_star_is_the_least_validation_loss_in_every_panel(tables):
    loss = tables["story"].query("metric == 'validation_loss' and granularity == 'class'")
    least = loss[loss["s_c"] == 0].groupby("step")["value"].agg(trim_mean, 0.25).idxmin()
    for axis in curves.story(tables["story"]).axes[:5]:
        stars = [line.get_xdata()[0] for line in axis.get_lines() if line.get_marker() == "*"]
        assert len(stars) == 4 and stars[0] == least


def test_a_metric_s_word_is_its_direction(tables):
    """Everything rises by the end: precision calls that better, W2, a distance, worse."""
    steady = tables["notices"].assign(value=0.5)
    assert set(words(curves.notices(steady))) == {"", "unclear"}
    figure = curves.notices(steady.assign(value=0.5 + 0.1 * (steady["when"] == "end")))
    for metric, told in (("Precision", "better"), ("W2", "worse")):
        (panel,) = (axis for axis in figure.axes if axis.get_title() == metric)
        assert [text.get_text() for text in panel.texts if text.get_text()] == 4 * [told]


def test_a_setting_with_too_few_long_enough_runs_is_called_undertrained(tables):
    runs = pd.concat(tables[world].assign(world=world) for world in ("arcs", "faces", "digits"))
    short = (runs["metric"] == "long_enough") & (runs["world"] == "digits")
    runs.loc[short & (runs["seed"] % 5 == 0), "value"] = 0.0
    digits = [f"digits, {regime}:\nundertrained" for regime in ("sparse", "dense")]
    shown = titles(curves.validation_curves(tables["validation"], runs))
    assert shown == ["arcs, dense", "faces, sparse", "faces, dense", *digits, ""]


def test_right_ones_and_copies_are_counted(images):
    told = words(pictures.ask_for_unseen(images, FACES))
    assert told == ["class denoiser: 4 of 8 right", "feature denoiser: 8 of 8 right"]
    told = words(pictures.nearest_training_image(images, FACES))
    whose = ("fresh real images: 0", "class denoiser: 4", "feature denoiser: 0")
    assert told == [f"{who} of 8 are copies" for who in whose]


def test_wrong_attributes_are_named_below_a_picture(images):
    real = images.query("granularity == 'real'")
    wrong = real.assign(granularity="feature", shown=real["combination"] ^ 4)  # shaved or not
    figure = pictures.every_arm(pd.concat([real, wrong]), FACES, "faces")
    assert {axis.get_xlabel() for axis in figure.axes} == {"", "beard", "shaved"}
    every = len(FACES.combinations) - 1 - real["combination"]
    wrong = real.assign(granularity="feature", shown=every)
    figure = pictures.every_arm(pd.concat([real, wrong]), FACES, "faces")
    more = f"{FACES.combinations.shape[1] - 2} more"
    assert {axis.get_xlabel().split(",\n")[-1] for axis in figure.axes} == {"", more}


def test_of_a_wrong_pair_of_digits_both_are_named():
    pixels = {f"p{i}": 0.0 for i in range(128)}
    row = pd.Series({"combination": 42, "shown": 48, "malformed": False} | pixels)
    axis = plt.figure().subplots()
    pictures.judged(axis, row, Digits(generator=stream(0, "digits")))
    assert axis.get_xlabel() == "4, 8"


def test_a_sample_without_a_nearest_image_has_an_empty_place_below(images):
    nearest = images.query("role == 'nearest' and granularity == 'class' and s_c == 0")
    missing = nearest[nearest["sample"] == nearest["sample"].iloc[0]]
    figure = pictures.nearest_training_image(images.drop(missing.index), FACES)
    assert sum(len(axis.get_images()) for axis in figure.axes) == 2 * 3 * 8 - 1
