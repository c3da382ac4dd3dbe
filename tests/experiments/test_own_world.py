"""The example of the page "A world of your own", as it stands there."""

import math
import re

import pytest
import torch

from gmmdiff import stream
from tests.paths import ROOT

(CODE,) = re.findall(r"```python\n(.*?)```", (ROOT / ".docs/pages/own_world.md").read_text(), re.S)


@pytest.fixture(scope="module")
def names():
    assert len(CODE.splitlines()) <= 50
    found = {}
    exec(CODE, found)
    return found


def test_its_judge_reads_what_was_drawn(names):
    world = names["Moons"](generator=None)
    # The ends of two halves of one moon are nearest: a chord of a tenth of half a turn.
    assert world.spacing == pytest.approx(2 * math.sin(0.05 * math.pi), abs=1e-6)
    combination = torch.arange(4).repeat_interleave(200)
    z = world.sample(combination, stream(0, "moons"))
    found = world.judge(z)
    assert (found.combination == combination).all() and not found.malformed.any()
    middle = torch.tensor([[0.5, 0.25]]).double()  # between the moons
    assert world.judge(middle).malformed.all()
    assert torch.allclose(world.distance(world.clean(z, combination), combination), z[:, 0] * 0)


def test_it_judges_f1_without_a_sweep_of_lengths(names):
    found = names["found"]
    assert found.verdict == "inconclusive" and found.n_seeds == 3  # a verdict needs twenty
    assert [cell["factors"]["s_c"] for cell in found.cells] == [0.0, 0.1]
    for cell in found.cells:
        assert cell["low"] <= cell["estimate"] <= cell["high"]
        assert [arm["arm"] for arm in cell["levels"]] == ["feature", "class"]
        assert all(0 <= arm["estimate"] < 0.5 for arm in cell["levels"])
    assert names["claim"].delta == {"defect": 0.02}
