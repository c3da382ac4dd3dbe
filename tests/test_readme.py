"""README's snippets run as they stand, one after another; its prose is short."""

import re

import pytest

from gmmdiff import energy_distance
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


def test_ngmg_reads_labels_that_are_partly_wrong_and_measures_a_distance():
    names = run(SNIPPETS[1])
    read = names["model"](names["x"]) > 0
    assert (read == (names["x"][:, :2] > 0)).double().mean() > 0.95
    twice = 2 * float(names["distance"])
    assert twice == pytest.approx(float(energy_distance(names["x"], names["x"] + 1)), rel=0.2)


def test_a_world_is_used_without_the_study(capsys):
    names = run(SNIPPETS[2])
    assert names["images"].shape == (64, 16, 16) and names["attributes"].shape == (64, 6)
    real, made = capsys.readouterr().out.splitlines()
    assert real.startswith("hair, bare eyes, smile, shaved, hat, no ears 0% defects")
    assert int(made.split()[-2].rstrip("%")) < 50


def sentences(markdown):
    """Of the prose: without code, pictures, the targets of links and the marks of lists; a cell of
    a table is a sentence of its own.
    """
    prose = re.sub(r"```.*?```|<!--.*?-->|!\[.*?\]\(.*?\)", "", markdown, flags=re.S)
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    return re.split(r"(?<=[.?!])\s|[|\n]", prose)


def test_the_page_is_short_and_plain():
    """Three snippets of at most 25 lines, and 150 lines in all."""
    assert len(SNIPPETS) == 3 and max(len(one.splitlines()) for one in SNIPPETS) <= 25
    assert len(README.splitlines()) <= 150
    assert max((len(one.split()), one) for one in sentences(README))[0] <= 40
    assert not re.search("would count|to within|undecided", README)
