"""Experiment B on faces: its parts."""

import pytest

from gmmdiff.engine.joint.classifiers import JointEnsemble
from gmmdiff.experiments.ngmg_stability import faces
from gmmdiff.experiments.ngmg_stability.run_tables import JUDGED, kinds

GOOD = {
    "lam": [0.0, 1.0, 3.0],
    "matched_lam": [3.0],
    "choosing_lam": [0.3, 1.0, 3.0],
    "learning_rate": 1e-3,
    "steps": 200,
    "n_train": 50,
    "attributes": 4,
    "seeds": 20,
    "choosing_seeds": 5,
    "seed": 7,
    "size": 16,
    "held_out": 0.125,
}


def test_every_cost_has_its_seeds_and_others_choose():
    parts = {name: rows for name, (rows, _) in faces.parts(**GOOD).items()}
    assert list(parts) == ["lam_0.0", "lam_1.0", "lam_3.0", "choice"]
    assert set(parts["lam_1.0"]["signal"]) == {"raw"} and len(parts["lam_1.0"]) == 3 * 20
    arms = parts["lam_3.0"].groupby(["cost", "signal"]).size()
    assert set(arms) == {20} and set(arms.index) == set(kinds(JUDGED)) and len(arms) == 5
    assert len(parts["lam_0.0"]) == 20 and set(parts["lam_0.0"]["cost"]) == {"BCE"}
    choice = parts["choice"]
    assert set(choice["seed"]) == set(range(27, 32)) and set(choice["lam"]) == {0.0, 0.3, 1.0, 3.0}
    assert set(choice["signal"]) == {"raw"} and len(choice) == (3 * 3 + 1) * 5
    for rows, settings in faces.parts(**GOOD).values():
        JointEnsemble.check(rows, settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": [1.0, 3.0]}, r"lam must be 0 \(no cost\), 1 \(where N5 is asked\)"),
        ({"lam": [0.0, 3.0]}, r"got \[0.0, 3.0\]"),
        ({"lam": [0.0, 1.0, 1.0]}, "lam must be 0"),
        ({"lam": [-1.0, 0.0, 1.0]}, "lam must be 0"),
        ({"matched_lam": [2.0]}, r"choosing_lam must be with every lambda > 0 of lam"),
        ({"choosing_lam": [0.3, 1.0]}, r"choosing_lam must be with every lambda > 0 of lam"),
        ({"choosing_lam": [0.0, 1.0, 3.0]}, r"choosing_lam must be distinct numbers > 0"),
        ({"choosing_seeds": 0}, "choosing_seeds must be >= 1, got 0"),
        ({"attributes": 9}, "attributes must be in 2..8, got 9"),
    ],
)
def test_bad_experiments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        for rows, settings in faces.parts(**(GOOD | change)).values():
            JointEnsemble.check(rows, settings)
