"""How much of a cost a denoiser bears, against curves worked out by hand."""

import numpy as np
import pytest

from gmmdiff.judging.tolerance import BAND, loss_ratios, tolerance, tolerance_table, tolerances
from tests.judging.ngmg_stability_tables import OURS, joint

LAM = np.array([0.1, 1.0, 10.0])


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        ([0.0, 0.0, 0.04], 10**0.5),  # half way in the logarithm
        ([0.0, 0.08, 0.0], 10**-0.75),  # the first time it leaves
        ([-0.06, 0.02, 0.08], 1.0),  # on the band it is still within
        ([0.03, 0.0, 0.0], 0.1),  # at most the first
        ([0.02, 0.0, 0.02], 10.0),  # at least the last
        ([0.0, np.log(1e6), 1.0], 10 ** (-1 + 0.02 / np.log(1e6))),
    ],
)
def test_the_first_crossing_of_the_band(ratio, expected):
    assert tolerance(LAM, np.array(ratio), 0.02) == pytest.approx(expected)


def costly(metric, group, cost, signal, lam):
    """BCE leaves the band between 0.1 and 1, NGMG never, matched at once, Brier beyond 1."""
    powers = {"BCE": lam >= 1, "Brier": lam == 10, OURS: signal == "matched"}
    return 1.02**2 - 1 if metric == "validation_loss" and powers[cost] else 0.0


def test_every_cost_beside_the_reference_of_its_seed():
    table = joint(costly)
    table["value"] *= 1 + 0.3 * (table["seed"] % 5)  # seeds differ by far more than the band
    ratios = loss_ratios(table).query("cost == 'BCE' and lam == 1")["value"]
    assert ratios.to_numpy() == pytest.approx(2 * BAND, abs=1e-3)


def test_tolerances_in_factors_of_bces():
    found = tolerance_table(joint(costly)).set_index(["cost", "signal"])
    assert found["lam"].to_dict() == pytest.approx(
        {
            ("BCE", "raw"): 10**-0.5,
            ("Brier", "raw"): 10**0.5,
            (OURS, "raw"): 10.0,
            ("Brier", "matched"): 10**0.5,
            (OURS, "matched"): 0.1,
        },
        rel=0.02,
    )
    assert found["times"]["Brier", "raw"] == pytest.approx(10, rel=0.03)
    assert found["beyond"].to_list() == ["", "", "at least", "", "at most"]
    assert (found["low"] <= found["lam"]).all() and (found["lam"] <= found["high"]).all()


def test_a_diverged_run_bears_nothing_beyond():
    table = joint(costly)
    gone = (table["metric"] == "validation_loss") & (table["cost"] == OURS) & (table["lam"] == 0.1)
    table.loc[gone, "value"] = np.inf
    assert set(tolerances(table)[OURS, "raw"]) == {0.1}
