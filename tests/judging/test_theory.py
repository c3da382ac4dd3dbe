"""What the verdicts say where the numbers come out the other way."""

import pytest

from gmmdiff.judging.tables import read_tables
from gmmdiff.judging.theory import CLAIMS
from tests.paths import PUBLISHED

JUDGES = {claim.id: claim.judge for claim in CLAIMS}


@pytest.fixture
def tables():
    return read_tables(PUBLISHED / "tables" / "theory_checks")


def test_a_difference_that_noise_never_drowns_is_told(tables):
    tables["latent_tests"] = tables["latent_tests"].assign(p_value=1e-6)
    found = JUDGES["T2"](tables)
    assert found.verdict == "reproduced"
    assert "from diffusion time t = none shown (D = 5), none shown (D = 8)" in found.details


def test_a_cost_that_grows_as_the_lines_meet_is_not_said_to_fall(tables):
    closed = tables["line_costs"]
    single = closed["cost"] == "NGMG single"
    value = closed["value"].where(~single, 1 / closed["theta"])
    tables["line_costs"] = closed.assign(value=value)
    found = JUDGES["T3"](tables)
    assert found.verdict == "partly"
    assert "the cost is this share of that at theta = 3: NGMG single 3.0e+02" in found.details
    assert "fall" not in found.details
