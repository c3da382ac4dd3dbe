"""Tables joined and averaged as claims and figures read them."""

import pandas as pd

from gmmdiff.judging.tables import iqm_by


def test_iqm_by_is_a_table_of_arms():
    table = pd.DataFrame(
        {
            "n": [1] * 4 + [2] * 4,
            "arm": ["a", "a", "b", "b"] * 2,
            "value": [1.0, 3, 5, 7, 2, 4, 6, 8],
        }
    )
    found = iqm_by(table, "n", "arm")
    assert (
        list(found) == ["n", "a", "b"]
        and found["a"].to_list() == [2, 3]
        and found["b"].to_list() == [6, 7]
    )
