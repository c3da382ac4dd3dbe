"""README's snippets run as they stand, one after another."""

import re

from tests.paths import ROOT

README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


def run(snippet):
    names = {}
    exec(snippet, names)
    return names


def test_the_first_trains_a_conditioned_denoiser():
    """Most samples lie nearest to the arc that was asked for; one in sixteen would by chance."""
    names = run(SNIPPETS[0])
    nearest = names["arcs"].distances(names["samples"].double()).argmin(1)
    assert (nearest == names["wanted"]).double().mean() > 0.5


def test_ngmg_fits_a_model_and_measures_the_distance():
    names = run(SNIPPETS[1])
    assert float(names["distance"]) < 0.3


def test_a_world_is_used_without_the_study(capsys):
    names = run(SNIPPETS[2])
    assert names["images"].shape == (64, 16, 16) and names["attributes"].shape == (64, 6)
    assert "hair, bare eyes, smile, shaved, hat, no ears" in capsys.readouterr().out
    assert names["wrong"].double().mean() <= 0.02


def test_the_page_is_short():
    """Three snippets of at most 25 lines, and 150 lines in all."""
    assert len(SNIPPETS) == 3 and max(len(one.splitlines()) for one in SNIPPETS) <= 25
    assert len(README.splitlines()) <= 150
