"""README's snippets run as they stand, one after another."""

import re

import torch

from tests.paths import ROOT

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


def run(snippet):
    names = {}
    exec(snippet, names)
    return names


def test_the_first_trains_a_conditioned_denoiser_in_25_lines():
    """Most samples lie nearest to the arc that was asked for; one in sixteen would by chance."""
    assert len(SNIPPETS[0].splitlines()) <= 25
    names = run(SNIPPETS[0])
    nearest = names["arcs"].distances(names["samples"].double()).argmin(1)
    assert (nearest == names["wanted"]).double().mean() > 0.5


def test_ngmg_fits_a_model_and_measures_the_distance():
    names = run(SNIPPETS[1])
    assert float(names["distance"]) < 0.3


def test_a_cost_trains_a_classifier():
    names = run(SNIPPETS[2])
    assert torch.all(names["logits"].grad.sign() == 1 - 2 * names["labels"])


def test_a_world_is_used_without_the_study(capsys):
    names = run(SNIPPETS[3])
    assert names["images"].shape[1:] == (16, 16) and names["attributes"].shape[1:] == (6,)
    assert "hair, bare eyes, smile, shaved, hat, no ears" in capsys.readouterr().out
    assert names["wrong"].double().mean() <= 0.02 and len(SNIPPETS[3].splitlines()) <= 20
