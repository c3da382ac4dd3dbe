"""The snippets of README and of the page on one's own model run as they stand; README's prose is
short.
"""

import re

import pandas as pd
import pytest
import torch

from gmmdiff import energy_distance
from gmmdiff.judging.rule import DELTA
from tests.paths import PUBLISHED, ROOT

README, PAGE = ((ROOT / name).read_text() for name in ("README.md", ".docs/pages/own_model.md"))
SNIPPETS, OWN_MODEL = (re.findall(r"```python\n(.*?)```", text, re.S) for text in (README, PAGE))


def run(*snippets):
    names = {}
    for snippet in snippets:
        exec(snippet, names)
    return names


@pytest.mark.parametrize("snippet", [SNIPPETS[0], OWN_MODEL[0]])
def test_a_conditioned_denoiser_is_trained_without_guidance_and_with_it(snippet):
    """Most samples lie nearest to the arc that was asked for; one in sixteen would by chance."""
    names = run(snippet)
    nearest = names["arcs"].distances(names["samples"].double()).argmin(1)
    assert (nearest == torch.arange(16).repeat_interleave(8)).double().mean() > 0.5


def test_the_page_on_ones_own_model_takes_ten_lines_and_a_fitted_mixture():
    changed = [line for line in OWN_MODEL[0].splitlines() if re.search(r"# \d", line)]
    assert len(changed) <= 10
    short = OWN_MODEL[0].replace("range(1000)", "range(2)")
    names = run(short, *OWN_MODEL[1:])
    assert names["one_token"].shape == names["between"].shape == (500, 1, 8)
    assert names["one_token"].dtype == torch.float32 and 0 < names["s_c"] < 0.2


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


@pytest.mark.parametrize("world", ["faces", "digits"])
def test_another_sampler_does_to_the_published_images_what_is_told(world):
    """Fewer defects, more copies; of the features' lead only that with mixtures matters."""
    table = pd.read_csv(PUBLISHED / "tables" / f"{world}_runs" / "judged_1000" / "samplers.csv")
    rows = ["metric", "s_c", "granularity"]
    used = table[(table["sampler"] == "DPM-Solver++(2M)") & (table["evaluations"] == 20)]
    ancestral = table[table["sampler"] == "ancestral"].groupby(rows)["value"].mean()
    change = (ancestral - used.groupby(rows)["value"].mean()).unstack("metric")
    assert (change["defect"] < 0).all() and (change["copy"] > 0).all()
    lead = ancestral["defect"].unstack("granularity").eval("`class` - feature")
    assert lead.loc[0.0] < DELTA["defect"] < lead.loc[0.1] and len(lead) == 2


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
