"""The experiment's parts, and what is measured of them."""

from functools import partial

import pytest
import torch
from tqdm import tqdm

from gmmdiff.core.costs import COSTS
from gmmdiff.study.engine.classifiers import JointEnsemble
from gmmdiff.study.engine.runs import Recipe, Run
from gmmdiff.study.ngmg_stability import runs
from tests.recipes import ARCS

GOOD = {
    "label_noise": [0.0, 0.2],
    "learning_rate": [1e-3, 1e-1],
    "classifier_steps": 150,
    "lam": [0.0, 1.0, 10.0],
    "joint_learning_rate": [3e-3, 1e-2],
    "steps": 200,
    "n_train": 50,
    "s_c": 0.1,
    "seeds": 10,
    "other_seeds": 4,
    "first_seed": 5,
}
PARTS = runs.parts(**GOOD)
RECIPE = Recipe(ARCS, width=8, hidden=1, batch=8, n_eval=4, evaluations=4)
QUIET = partial(tqdm, disable=True)


def test_every_arm_is_there_with_every_seed():
    assert list(PARTS) == ["label_noise_0.0", "label_noise_0.2", "lam_0.0", "lam_1.0", "lam_10.0"]
    noisy = PARTS["label_noise_0.2"]
    arms = noisy.groupby(["cost", "signal", "learning_rate"]).size()
    judged = arms.index.get_level_values("cost").isin(runs.JUDGED)
    assert (arms[judged] == 10).all() and (arms[~judged] == 4).all()
    assert len(arms) == 2 * (2 * len(COSTS) - 1)
    assert ("BCE", "matched") not in {arm[:2] for arm in arms.index}
    assert (
        set(noisy["label_noise"]) == {0.2}
        and set(noisy["lam"]) == {1.0}
        and set(noisy["seed"]) == set(range(5, 15))
    )
    joint = PARTS["lam_10.0"]
    assert set(joint["cost"]) == set(runs.JOINT_COSTS) and len(joint) == 2 * (5 * 10 + 4 * 4)
    reference = PARTS["lam_0.0"]
    assert set(reference["steps"]) == {200, 400} and len(reference) == 2 * 2 * 10


def test_parts_are_called_as_their_levels_are_written():
    """As DVC writes them into a stage's command, whole numbers and close levels too."""
    found = runs.parts(**(GOOD | {"lam": [0, 1, 0.25], "label_noise": [0, 0.05]}))
    assert list(found) == ["label_noise_0", "label_noise_0.05", "lam_0", "lam_1", "lam_0.25"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lam": [0.1, 1.0]},
            r"lam must be 0 \(the reference\) and at least one larger, got \[0.1, 1.0\]",
        ),
        ({"lam": [0.0]}, "lam must be 0"),
        ({"label_noise": [0.2, 0.2]}, r"label_noise must be distinct levels, got \[0.2, 0.2\]"),
        ({"learning_rate": []}, r"learning_rate must be distinct levels, got \[\]"),
        ({"seeds": 0}, "seeds must be >= 1, got 0"),
        ({"other_seeds": 11}, "other_seeds must be in 1 .. seeds = 10, got 11"),
    ],
)
def test_bad_experiments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        runs.parts(**(GOOD | change))


def test_a_part_is_measured():
    for part, metrics in (("label_noise_0.2", 6), ("lam_1.0", 10)):
        rows = PARTS[part].query("seed < 7 and learning_rate <= 0.003")
        tables = runs.run_part(rows, RECIPE, 200, "cpu", QUIET)
        found = tables["runs"]
        assert (
            len(found) == metrics * len(rows)
            and not found.isna().any().any()
            and ("traces" in tables) == (metrics == 10)
        )
        assert not found.duplicated([*JointEnsemble.columns, "metric"]).any()


def test_a_perfect_classifier_is_accurate(monkeypatch):
    """Logits that know the attributes score 1, their opposite 0."""
    row = next(PARTS["lam_1.0"].itertuples(index=False))
    run = Run(row, RECIPE)
    seen, parameters = {}, torch.zeros(JointEnsemble([run], "cpu").count)
    monkeypatch.setattr(JointEnsemble, "take", lambda self, drawn: seen.update(draws=drawn[0]))
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        monkeypatch.setattr(
            JointEnsemble,
            "logits",
            lambda self, number, sign=sign: sign * (runs.attributes(run, seen["draws"]) - 0.5),
        )
        assert runs.accuracies(run, JointEnsemble, parameters, 50)["accuracy"] == expected
