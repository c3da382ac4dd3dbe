"""The figures of feature versus class show what their tables say, and each arm once."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from gmmdiff.figures import curves, feature_vs_class as figures, pictures
from tests.judging import feature_vs_class_tables as made_up


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def words(figure):
    return [" ".join(text.get_text().split()) for axis in figure.axes for text in axis.texts]


def panel(figure, title):
    (found,) = [axis for axis in figure.axes if axis.get_title().startswith(title)]
    return found


def test_a_class_arm_at_a_scale_of_its_own_is_not_compared():
    assert figures.arms_of(made_up.runs()) == made_up.ARMS
    assert set(figures.compared(made_up.runs())["condition"]) == {"drawn"}


def test_levels_are_each_arm_s_own_and_the_floor_that_of_real_samples():
    runs = made_up.runs().query("seed < 2").assign(value=0.5)
    runs.loc[runs["granularity"] == "real", "value"] = 0.25
    runs.loc[runs["granularity"] == "feature", "value"] = 0.042
    figure = figures.levels(runs, "Faces")
    assert words(figure) == (2 * ["50 %"] + 2 * ["4.2 %"]) * 5 + 2 * ["0.50"] + 2 * ["0.04"]
    floors = [axis.get_lines()[-1].get_xdata() for axis in figure.axes]
    np.testing.assert_allclose(floors, 0.25)


def test_a_group_that_is_not_there_has_no_panel():
    figure = figures.levels(made_up.runs("dense"), "Faces")
    shown = [axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert len(shown) == 3 and not any("rare" in title for title in shown)


@pytest.mark.parametrize(
    ("share", "told"), [(0, "0.0 %"), (0.0042, "0.4 %"), (0.0994, "9.9 %"), (0.0996, "10 %")]
)
def test_shares_have_two_digits(share, told):
    assert figures.percent(share) == told


def test_the_map_stands_at_the_images_of_a_combination():
    runs = made_up.sized().query("attributes == 6 and n_train == 1000 and granularity == 'class'")
    feature = runs.assign(granularity="feature", s_c=0.0)
    figure = figures.comparison_map(pd.concat([runs, feature]))
    at = [line.get_xdata()[0] for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(at, 1000 / 56, rtol=0.06)


def test_the_story_s_star_is_the_least_validation_loss_in_every_panel():
    table = made_up.story()
    loss = table.query("metric == 'validation_loss' and granularity == 'class' and s_c == 0")
    least = loss.groupby("step")["value"].median().idxmin()
    for axis in curves.story(table).axes[:5]:
        stars = [line.get_xdata()[0] for line in axis.get_lines() if line.get_marker() == "*"]
        assert len(stars) == 4 and stars[0] == least


def test_a_metric_s_word_is_its_direction():
    """Precision rises, which it calls better; so does authenticity's fall, which is worse."""
    figure = curves.notices(made_up.notices())
    for metric, told in (("Precision", "better"), ("Authenticity", "worse")):
        assert [text.get_text() for text in panel(figure, metric).texts if text.get_text()] == (
            4 * [told]
        )
    steady = made_up.notices().assign(value=0.5)
    assert set(words(curves.notices(steady))) == {"", "unclear"}


def test_a_setting_with_too_few_long_enough_runs_is_called_undertrained():
    figure = curves.validation_curves(made_up.validation(), made_up.settings())
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:2] == ["arcs, dense", "faces, sparse"]
    assert titles[4] == "digits, dense:\nundertrained" and titles[5] == ""


def test_right_ones_and_copies_are_counted():
    images, faces = made_up.pictures(), made_up.faces()
    told = words(pictures.ask_for_unseen(images, faces))
    assert told == ["class denoiser: 4 of 8 right", "feature denoiser: 6 of 8 right"]
    told = words(pictures.nearest_training_image(images, faces))
    assert told == [
        "fresh real images: 0 of 8 are copies",
        "class denoiser: 4 of 8 are copies",
        "feature denoiser: 0 of 8 are copies",
    ]


def test_wrong_attributes_are_named_below_a_picture():
    real = made_up.pictures().query("granularity == 'real'")
    wrong = real.assign(granularity="feature", shown=real["combination"] ^ 4)  # shaved or not
    figure = pictures.every_arm(pd.concat([real, wrong]), made_up.faces(), "faces")
    told = {axis.get_xlabel() for axis in figure.axes}
    assert told == {"", "beard", "shaved"}


def test_a_sample_without_a_nearest_image_has_an_empty_place_below():
    images = made_up.pictures()
    nearest = images.query("role == 'nearest' and granularity == 'class'")
    missing = nearest[nearest["sample"] == nearest["sample"].iloc[0]]
    figure = pictures.nearest_training_image(images.drop(missing.index), made_up.faces())
    assert sum(len(axis.get_images()) for axis in figure.axes) == 2 * 3 * 8 - 1
