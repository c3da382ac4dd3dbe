"""Figures as they are read: their source, their paper, their words, and every arm to be seen."""

import inspect
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from PIL import Image

from gmmdiff import Arcs, Faces, stream
from gmmdiff.experiments.ngmg_stability.known_terms import backward_signals
from gmmdiff.experiments.theory.costs import mixtures_under_test
from gmmdiff.figures import (
    curves,
    feature_vs_class as figures,
    ngmg_stability as ngmg,
    pictures,
    style,
    theory,
)
from gmmdiff.judging import tables
from gmmdiff.judging.feature_vs_class import SETTINGS
from gmmdiff.judging.tolerance import tolerance_table
from gmmdiff.pipeline.results import RESULTS, Results
from tests.paths import PUBLISHED, ROOT

MODULES = (theory, figures, curves, pictures, ngmg)
DRAWING = {  # every function that draws a figure for a notebook of the study
    name: function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and hasattr(function, "__wrapped__")
}


@pytest.fixture(scope="module")
def given():
    """What every figure is drawn from, as it was published."""
    checks = tables.read_tables(PUBLISHED / "tables" / "theory_checks")
    found = tables.feature_vs_class(PUBLISHED / "tables")
    costs = tables.ngmg_stability(PUBLISHED / "tables")
    faces, arcs = Faces(6, generator=stream(0, "faces")), Arcs(8, stream(0, "arcs"))
    sparse, choice = (SETTINGS[1].runs(found), "Faces, few images"), costs["faces_choice"]
    runs = pd.concat(found[world].assign(world=world) for world in ("arcs", "faces", "digits"))
    images = found["faces_pictures"], faces
    compared = {"arcs": "samplers", "faces": "faces_samplers", "digits": "digits_samplers"}
    samplers = pd.concat(found[name].assign(world=world) for world, name in compared.items())
    return {
        "diffusion_checks": (checks["marginals"], checks["sampler_orders"]),
        "latent_sets": (arcs, checks["latent_tests"]),
        "line_costs": (checks["line_costs"], checks["line_estimates"]),
        "affinity": (checks["affinity"], mixtures_under_test(1, 0.02, 20, 16), 3.0),
        "laws": (checks["one_law"], checks["pairs_of_laws"]),
        "descents": (checks["descent_lines"], checks["descent_helix"]),
        "sample_complexity": (checks["sample_complexity"],),
        "arm_pictures": (found["pictures"], arcs),
        "reverse_strip": (found["strip"], arcs),
        "sampler_check": (samplers,),
        "levels": sparse,
        "controls": sparse,
        "comparison_map": (found["faces_map"],),
        "story": (found["story"],),
        "notices": (found["notices"],),
        "validation_curves": (found["validation"], runs),
        "ask_for_unseen": images,
        "every_arm": (*images, "Which faces?"),
        "nearest_training_image": images,
        "reverse_images": (found["faces_strip"], faces),
        "backward_signals": (backward_signals(),),
        "gradient_traces": (costs["norm_curves"], "raw", ngmg.LOOKS),
        "against_learning_rate": (costs["classifier"],),
        "against_lambda": (costs["faces_joint"],),
        "tolerated": (choice, tolerance_table(choice).assign(beyond=["at most", "", "at least"])),
    }


@pytest.fixture(scope="module", autouse=True)
def look():
    style.style()
    yield
    plt.close("all")


def saved(figure, folder):
    """The file of a figure as a notebook saves it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RESULTS, str(folder))
        Results("stage").figure("1", figure, "told")
    return folder / "figures" / "1.png"


@pytest.fixture(scope="module", params=DRAWING)
def made(request, given, tmp_path_factory):
    """A function's name, its figure, the places of the words in it, and its image."""
    figure = DRAWING[request.param](*given[request.param])
    figure.draw_without_rendering()
    places = [(text.get_text(), text.get_window_extent().padded(-1)) for text in words(figure)]
    image = Image.open(saved(figure, tmp_path_factory.mktemp("drawn")))
    yield request.param, figure, places, image
    plt.close("all")


def words(figure):
    """Every text that is shown, but for ticks."""
    ticks = {
        text
        for axis in figure.findobj(Axes)
        for text in (*axis.get_xticklabels(which="both"), *axis.get_yticklabels(which="both"))
    }
    every = figure.findobj(Text)
    shown = [text for text in every if text.get_visible() and text.get_text().strip()]
    return [text for text in shown if text not in ticks]


def test_a_figure_can_be_read_where_it_is_700_pixels_wide(made):
    _, figure, places, image = made
    assert figure.get_suptitle() and figure.get_figwidth() <= style.WIDTH
    assert image.width < 1.07 * 150 * style.WIDTH  # nothing sticks out of it
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) / 72 * 150 * 700 / image.width > 11  # pixels
    every = combinations(places, 2)
    assert not [(one, other) for (one, box), (other, next_box) in every if box.overlaps(next_box)]


def test_a_figure_says_what_drew_it_on_paper_of_its_own(made):
    name, _, _, image = made
    path, _, function = image.text["Source"].partition("#")
    assert function == name and f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8")
    assert image.text["Description"] == "told" and "Software" not in image.text
    pixels = np.asarray(image.convert("RGBA"))
    assert (pixels[..., 3] == 255).all()
    for edge in (pixels[:15], pixels[-15:], pixels[:, :15], pixels[:, -15:]):
        assert (edge == 255).all()


def test_the_same_figure_is_the_same_bytes(tmp_path):
    files = (saved(ngmg.backward_signals(backward_signals()), tmp_path) for _ in range(2))
    assert len({file.read_bytes() for file in files}) == 1


def test_no_interval_ends_at_an_edge(made):
    name, figure, *_ = made
    for axis in figure.axes if name in ("levels", "tolerated") else ():
        bars = [line.get_xdata() for line in axis.lines if line.get_xdata()[0] not in (0, 1)]
        bars += [
            path.vertices[:, 0]
            for bars in axis.collections
            if isinstance(bars, LineCollection)
            for path in bars.get_paths()
        ]
        if bars:
            low, high = axis.get_xlim()
            found = np.concatenate(bars)
            assert low < np.nanmin(found) and np.nanmax(found) < high


def test_equal_arms_stand_side_by_side():
    table = pd.DataFrame({"x": [1, 1, 5, 5, 9, 9], "value": [1.0, 2.0] * 3})
    _, axis = plt.subplots()
    style.side_by_side(axis, [(table, {"label": name}) for name in "abc"], "x", [1, 5], 0.6)
    places = [line[0].get_xdata() for line in axis.containers]
    np.testing.assert_allclose(places, [[-0.2, 0.8], [0, 1], [0.2, 1.2]], atol=1e-12)
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1", "5"]
