"""NGMG beside what is known."""

import pytest

from gmmdiff.experiments.ngmg_stability.known_terms import known_terms


def test_ngmg_in_known_terms():
    table = known_terms(0)
    assert table["measured"].to_list() == pytest.approx(table["expected"].to_list(), rel=0.01)
