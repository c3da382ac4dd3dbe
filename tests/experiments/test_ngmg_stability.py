"""The experiment's parts, and what is measured of them."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tqdm import tqdm

from gmmdiff.core.costs import COSTS
from gmmdiff.engine.joint.classifiers import JointEnsemble
from gmmdiff.engine.runs import Run
from gmmdiff.experiments.ngmg_stability import arcs, faces, measuring
from gmmdiff.experiments.ngmg_stability.arms import JOINT_COSTS, JUDGED, with_signals
from gmmdiff.experiments.ngmg_stability.known_terms import known_terms

SHARED = dict(width=8, classifier_width=8, hidden=1, batch=8, ema=0.99, n_eval=4, evaluations=4)
SHARED |= dict(steps=200, n_train=50, seed=5)
GOOD = SHARED | dict(label_noise=[0.0, 0.2], learning_rate=[1e-3, 1e-1], classifier_steps=150)
GOOD |= dict(lam=[0.0, 1.0, 10.0], joint_learning_rate=[3e-3, 1e-2], s_c=0.1, dimension=8)
GOOD |= dict(seeds=10, other_seeds=4, held_out=2)
FACES = SHARED | dict(lam=[0.0, 1.0, 3.0], matched_lam=[3.0], choosing_lam=[0.3, 1.0, 3.0])
FACES |= dict(learning_rate=1e-3, attributes=4, seeds=20, choosing_seeds=5, size=16, held_out=0.125)
RUN_TABLES = arcs.run_tables(GOOD)
PARTS = {name: rows for name, (rows, _) in RUN_TABLES.items()}
AT_ONE, SETTINGS = PARTS["joint"].query("lam == 1"), RUN_TABLES["joint"][1]
QUIET = partial(tqdm, disable=True)


def test_every_arm_is_there_with_every_seed():
    assert list(PARTS) == ["alone", "joint"]
    assert set(PARTS["alone"]["label_noise"]) == {0.0, 0.2}
    for _, rows in PARTS["alone"].groupby("label_noise"):
        arms = rows.groupby(["cost", "signal", "learning_rate"]).size()
        judged = arms.index.get_level_values("cost").isin(JUDGED)
        assert (arms[judged] == 10).all() and (arms[~judged] == 4).all()
        assert len(arms) == 2 * (2 * len(COSTS) - 1)
        assert ("BCE", "matched") not in {arm[:2] for arm in arms.index}
        assert set(rows["lam"]) == {1.0} and set(rows["seed"]) == set(range(5, 15))
    by_lam = dict([*PARTS["joint"].groupby("lam")])
    assert set(by_lam) == {0.0, 1.0, 10.0} and set(by_lam[10.0]["cost"]) == set(JOINT_COSTS)
    sizes = {lam: rows.groupby("learning_rate").size().to_dict() for lam, rows in by_lam.items()}
    assert sizes[10.0] == {0.003: 5 * 10 + 4 * 4, 0.01: 5 * 4}  # the second rate is a control
    assert sizes[0.0] == {0.003: 10, 0.01: 4}


def test_on_faces_every_cost_has_its_seeds_and_others_choose():
    parts = {name: rows for name, (rows, _) in faces.run_tables(FACES).items()}
    assert list(parts) == ["joint", "choice"]
    by_lam = dict([*parts["joint"].groupby("lam")])
    assert set(by_lam[1.0]["signal"]) == {"raw"} and len(by_lam[1.0]) == 3 * 20
    arms = by_lam[3.0].groupby(["cost", "signal"]).size()
    assert set(arms) == {20} and set(arms.index) == set(with_signals(JUDGED)) and len(arms) == 5
    assert len(by_lam[0.0]) == 20 and set(by_lam[0.0]["cost"]) == {"BCE"}
    choice = parts["choice"]
    assert set(choice["seed"]) == set(range(25, 30)) and set(choice["lam"]) == {0.0, 0.3, 1.0, 3.0}
    assert set(choice["signal"]) == {"raw"} and len(choice) == (3 * 3 + 1) * 5


@pytest.mark.parametrize(
    ("module", "change", "message"),
    [
        (arcs, {"lam": [0.0, 1.0, 1.0]}, "lam must be distinct levels"),
        (arcs, {"joint_learning_rate": [1.0, 1.0]}, "joint_learning_rate must be distinct levels"),
        (faces, {"lam": [0.0, 3.0]}, r"lam must be 0 \(no cost\), 1 .*, got \[0.0, 3.0\]"),
        (faces, {"choosing_lam": [1.0, 1.0, 3.0]}, r"choosing_lam must be distinct levels"),
        (faces, {"n_train": 420}, "n_train must be judged sparse, from 30 .* got only dense"),
    ],
)
def test_what_does_not_fit_together_is_named_before_any_training(module, change, message):
    """Beside what tests/pipeline/test_parameters.py changes in params.yaml."""
    with pytest.raises(ValueError, match=message):
        module.run_tables((GOOD if module is arcs else FACES) | change)


ALONE = {"spike_rate", "variation", "diverged", "accuracy", "validation_accuracy"}
TRAINED = ALONE | {"validation_loss", "validation_step", "long_enough"}


def test_a_part_is_trained_and_measured():
    """Of B, at one lambda: what is said of a run, what its samples are worth, its norms."""
    rows = AT_ONE.query("seed < 7 and learning_rate == 0.003 and cost in @JUDGED")
    tables = measuring.run_part(rows, SETTINGS, "cpu", QUIET, n_test=200)
    found = tables["runs"]
    assert list(found) == [*JointEnsemble.columns, "group", "metric", "value"]
    assert not found.isna().any().any()
    assert not found.duplicated([*JointEnsemble.columns, "group", "metric"]).any()
    by_group = found.groupby("group")["metric"].unique().map(set)
    assert by_group.pop("all") == TRAINED
    assert {"seen", "held out"} <= set(by_group.index) <= set(measuring.GROUPS)
    assert all(metrics == set(measuring.QUALITY) for metrics in by_group)
    assert len(found.query("group == 'all' and metric == 'diverged'")) == len(rows)
    curves = tables["norm_curves"]
    arms = curves.groupby(measuring.ARM, sort=False)
    assert len(arms) == 5 and set(arms["step"].max()) == {200} and set(arms.size()) == {10}
    assert (curves["worst"] > 0).all() and (curves["median"] > 0).all()


def test_a_classifier_alone_has_no_validation_loss_and_no_samples():
    rows = PARTS["alone"].query("label_noise == 0.2 and seed == 5 and learning_rate == 0.001")
    tables = measuring.run_part(rows, SETTINGS, "cpu", QUIET, n_test=200)
    assert list(tables) == ["runs"]
    assert set(tables["runs"]["metric"]) == ALONE and set(tables["runs"]["group"]) == {"all"}


def test_the_worst_seed_is_the_one_of_most_spikes():
    rows = AT_ONE.query("seed < 8 and cost == 'BCE' and learning_rate == 0.003")
    norms = torch.tensor([[1.0, 2.0], [5.0, 6.0], [3.0, 9.0]])
    trained = SimpleNamespace(norms=norms, spike_rate=torch.tensor([0.1, torch.nan, 0.3]))
    found = measuring.norm_curves(rows.assign(steps=30).reset_index(drop=True), trained)
    assert found["step"].to_list() == [20, 30]
    assert found["median"].to_list() == [3.0, 6.0] and found["worst"].to_list() == [3.0, 9.0]
    assert found["worst_spike_rate"].to_list() == pytest.approx([0.3, 0.3])


def test_a_perfect_classifier_is_accurate(monkeypatch):
    """Logits that know the attributes score 1, their opposite 0."""
    rows = AT_ONE.head(1)
    run = Run(next(rows.itertuples(index=False)), SETTINGS)
    seen, weights = {}, torch.zeros(1, JointEnsemble([run], "cpu").count)
    monkeypatch.setattr(JointEnsemble, "take", lambda self, drawn: seen.update(draws=drawn[0]))
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        monkeypatch.setattr(
            JointEnsemble,
            "logits",
            lambda self, number, sign=sign: sign * (measuring.attributes(run, seen["draws"]) - 0.5),
        )
        found = measuring.accuracies((rows, weights), lambda n: None, SETTINGS, JointEnsemble, 50)
        assert found["accuracy"] == expected


def test_ngmg_in_known_terms():
    table = known_terms(0)
    assert table["measured"].to_list() == pytest.approx(table["expected"].to_list(), rel=0.01)
