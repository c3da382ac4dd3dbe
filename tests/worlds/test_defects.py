"""Defects against their definition."""

import pytest
import torch

from gmmdiff.worlds.defects import find_defects

EACH = torch.eye(3, dtype=torch.bool)


def test_defects_are_those_of_the_definition():
    """Right; another combination; right but off the manifold; another and off."""
    shown, wanted = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 2, 2, 1])
    off = torch.tensor([False, False, True, True])
    found = find_defects(shown, off, wanted, EACH)
    assert found.off_manifold.tolist() == off.tolist()
    assert found.wrong_attributes.tolist() == [False, True, False, True]
    assert found.defect.tolist() == found.miss.tolist() == [False, True, True, True]


def test_what_a_condition_admits_is_no_defect_but_a_miss():
    admitted = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    found = find_defects([1, 2], [False, False], [0, 0], admitted)
    assert found.defect.tolist() == [False, True] and found.miss.tolist() == [True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ([0, 1], [False], [0, 1], EACH),
            r"off_manifold must be \(2,\) as combination, got \(1,\)",
        ),
        (([0], [False, True], [0, 1], EACH), r"shown must be \(2,\) as combination, got \(1,\)"),
        (([0], [False], [3], EACH), "combination must be .* 0 .. 2"),
        (([0], [False], [0], EACH[:2]), r"admitted must be \(C, C\), got \(2, 3\)"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        find_defects(*arguments)
