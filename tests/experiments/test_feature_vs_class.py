"""The run tables of every world, what a part leaves behind, and what is refused."""

from functools import partial

import pytest
import torch
from tqdm import tqdm

from gmmdiff.engine.runs import COLUMNS
from gmmdiff.engine.training import train
from gmmdiff.experiments.feature_vs_class import arcs, digits, faces, image_runs
from gmmdiff.experiments.feature_vs_class.arms import conditions
from gmmdiff.experiments.feature_vs_class.measuring import Part, measure
from gmmdiff.experiments.run_tables import choose, regime

QUIET = partial(tqdm, disable=True)
SHARED = dict(width=16, hidden=1, batch=16, ema=0.9, evaluations=4, n_eval=2)
SHARED |= dict(s_c=0.1, learning_rate=1e-3, seeds=3, control_seeds=2, seed=5)
ARCS = SHARED | dict(n_train=420, steps=40, dimension=8, held_out=2, rare=4, evaluations=8)
FACES = SHARED | dict(attributes=4, mapped=[3, 4], n_train=[30, 60, 420], steps=[40, 40, 60])
FACES |= dict(judged_n_train=[60, 420], mixture_steps=[60, 60], story_n_train=60, story=[20, 60])
FACES |= dict(size=16, held_out=0.125)
DIGITS = SHARED | dict(n_train=[100, 2700], steps=[40, 40], mixture_steps=[40, 60], held_out=0.12)
DIGITS |= dict(learning_rate=[1e-3, 2e-3])
WORLDS = {"arcs": (arcs, ARCS), "faces": (faces, FACES), "digits": (digits, DIGITS)}
JUDGED = {("class", 0.0): 3, ("class", 0.1): 3, ("feature", 0.0): 3, ("feature", 0.1): 3}
NAMES = {
    "arcs": ["judged"],
    "faces": ["judged_60", "judged_420", "map_3", "map_4", "story"],
    "digits": ["judged_100", "judged_2700"],
}


def counts(rows):
    return rows.assign(s_c=rows["s_c"].round(4)).groupby(["granularity", "s_c"]).size().to_dict()


@pytest.fixture(scope="module")
def tables():
    """The run tables of every world, of parameters among which are others too."""
    return {
        world: module.run_tables(given | {"part": "judged", "device": "cpu"})
        for world, (module, given) in WORLDS.items()
    }


@pytest.fixture(scope="module")
def sparse_faces(tables):
    rows, settings = choose(tables["faces"], "judged_60")
    return rows, settings, image_runs.run_part(rows, settings, "cpu", QUIET)


@pytest.mark.parametrize(
    ("world", "part", "own_unit", "controls"),
    [
        ("arcs", "judged", 0.2, ()),
        ("faces", "judged_60", 0.2, ("scrambled", "shared")),
        ("faces", "judged_420", 0.2, ()),
        ("digits", "judged_100", 0.1414, ()),
    ],
)
def test_every_arm_is_there_with_every_seed(tables, world, part, own_unit, controls):
    rows, _ = choose(tables[world], part)
    beside = {(name, 0.0): 3 for name in controls}
    assert counts(rows) == JUDGED | beside | {("none", 0.0): 2, ("class", own_unit): 2}
    assert set(rows["seed"]) == {5, 6, 7} and not rows.duplicated().any()
    assert list(tables[world]) == NAMES[world]


def test_the_map_has_what_is_not_judged_and_the_story_goes_on(tables):
    faces = tables["faces"]
    assert set(faces["map_3"][0]["n_train"]) == {30, 60, 420}
    assert set(faces["map_4"][0]["n_train"]) == {30}
    assert counts(faces["map_4"][0]) == {("class", 0.0): 2, ("feature", 0.0): 2}
    story, settings = faces["story"]
    assert counts(story) == dict.fromkeys(JUDGED, 2) and set(story["steps"]) == {60}
    assert settings.checkpoints == (20, 60) and faces["judged_60"][1].checkpoints == ()
    assert regime(30 * 14, settings) == "dense" and regime(30 * 14 - 1, settings) == "sparse"


def test_classes_at_their_own_unit_are_told_apart_as_well_as_features(tables):
    arms = conditions(*tables["faces"]["judged_60"])
    arms["s_c"] = arms["s_c"].round(4)
    arms = arms.set_index(["granularity", "s_c"])
    feature, alike, own = (
        arms.loc[arm] for arm in (("feature", 0.1), ("class", 0.1), ("class", 0.2))
    )
    assert alike["noise"] == pytest.approx(feature["noise"])  # one absolute scale
    assert own["noise"] / own["gap"] == pytest.approx(feature["noise"] / feature["gap"])
    assert arms["norm"].to_list() == pytest.approx([arms["norm"].iloc[0]] * len(arms))


def test_what_the_claims_read_is_there(sparse_faces):
    rows, _, tables = sparse_faces
    runs = tables["runs"]
    assert not runs.isna().any(axis=None)
    assert not runs.duplicated([*COLUMNS, "condition", "group", "metric"]).any()
    assert set(runs["regime"]) == {"sparse"} and set(runs["attributes"]) == {4}
    arms = runs.groupby("condition")["s_c"].agg(lambda s_c: set(s_c.round(4)))
    assert arms["drawn"] == {0.0, 0.1, 0.2} and arms["mean"] == {0.1, 0.2}
    metrics = {"wrong", "malformed", "defect", "copy", "law", "energy_distance"}
    for group in ("seen", "frequent", "rare", "held out"):
        own = runs[(runs["group"] == group) & (runs["granularity"] == "feature")]
        assert set(own["metric"]) == metrics | {"distance_50", "distance_90"}
    assert (runs["group"] == "all").sum() == 4 * len(rows)
    real = runs.query("granularity == 'real' and metric == 'law'")["value"]
    assert real.to_list() == pytest.approx([1] * len(real))
    # A condition that admits all combinations is never wrong.
    wrong = runs.query("granularity == 'none' and metric == 'wrong'")["value"]
    assert (wrong == 0).all() and len(wrong) > 0
    curves = tables["validation"]
    assert curves.groupby("s_c")["step"].max().round(4).to_list() == [40, 60, 60]
    assert len(curves) == rows["steps"].sum() // 20


def test_pictures_say_what_they_show(sparse_faces):
    _, settings, tables = sparse_faces
    table = tables["pictures"]
    real = table.query("granularity == 'real' and role == 'sample'")
    assert (real["shown"] == real["combination"]).all() and not real["malformed"].any()
    samples = table[table["role"] == "sample"]
    assert len(samples) == 9 * len(real)  # eight arms, and real ones once
    nearest = table[table["role"] == "nearest"]
    assert set(nearest["group"]) == {"rare"} and {"p0", "p255"} <= set(table)
    # The training image shows what its sample shows.
    world = settings.world(generator=torch.Generator().manual_seed(0))
    greys = torch.tensor(nearest.filter(regex=r"^p\d+$").to_numpy()).view(-1, *world.shape)
    assert world.judge(greys).combination.tolist() == nearest["shown"].tolist()
    assert set(tables["strip"]["t"].round(1)) >= {0.0, 1.0}


def test_the_story_is_told_at_every_checkpoint_and_metric(tables):
    found = image_runs.run_part(*tables["faces"]["story"], "cpu", QUIET)
    story, notices = found["story"], found["notices"]
    assert set(story.query("metric == 'copy'")["step"]) == {20, 60}
    assert set(story.query("metric == 'validation_loss'")["step"]) == {20, 40, 60}
    assert set(story["metric"]) == {*image_runs.STORY, "validation_loss"}
    assert set(notices["when"]) == {"minimum", "end", "fresh"}
    assert set(notices.query("when == 'fresh'")["granularity"]) == {"real"}
    assert not notices.isna().any(axis=None) and not story.isna().any(axis=None)


def test_the_arcs_leave_pictures_a_strip_and_the_check_of_the_sampler(tables):
    found = arcs.run_part(*tables["arcs"]["judged"], "cpu", QUIET)
    assert {"runs", "validation", "arms", "pictures", "strip", "samplers"} == set(found)
    assert set(found["runs"]["regime"]) == {"dense"}
    factors = ["granularity", "s_c", "metric", "sampler", "evaluations"]
    samplers = found["samplers"].groupby(factors).size()
    # Two arms, points and mixtures of one scale, three metrics; two samplers at the same numbers of
    # evaluations, and ancestral.
    counts = samplers.index.unique("evaluations")
    assert set(samplers.index.unique("s_c")) == {0.0, ARCS["s_c"]}
    assert (samplers == 2).all() and len(samplers) == 2 * 2 * 3 * (2 * (len(counts) - 1) + 1)


def test_a_part_whose_runs_diverge_is_measured_all_the_same():
    rows, settings = arcs.run_tables(ARCS | {"learning_rate": 1e30})["judged"]
    trained = train(rows, settings)
    assert trained.diverged.all()
    runs = measure(Part(rows, settings, trained, QUIET))["runs"]
    assert not runs.isna().any(axis=None)
    assert (runs.query("metric == 'diverged'")["value"] == 1).all()


@pytest.mark.parametrize(
    ("world", "change", "message"),
    [
        ("faces", {"mixture_steps": [60]}, "mixture_steps must be one for each judged_n_train"),
        ("faces", {"mapped": [4], "n_train": [60, 420], "steps": [40, 60]}, "mapped must be an m"),
        (
            "faces",
            {"judged_n_train": [400, 420], "n_train": [30, 400, 420], "story_n_train": 400},
            "rare combinations must be at least one combination with",
        ),
        ("digits", {}, "part must be one of judged_100, judged_2700, got '7'"),
        ("digits", {"n_train": [100, 100]}, "n_train must be distinct levels"),
        ("digits", {"learning_rate": [1e-3]}, "learning_rate must be one for each n_train"),
    ],
)
def test_what_does_not_fit_together_is_named_before_any_training(world, change, message):
    """Beside what tests/pipeline/test_parameters.py changes in params.yaml."""
    module, given = WORLDS[world]
    with pytest.raises(ValueError, match=message):
        choose(module.run_tables(given | change), "7")
