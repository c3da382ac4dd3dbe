"""Notebook 06 runs, and what it changes in a training script runs before and after."""

import re

import nbformat
import pandas as pd
import pytest
import torch
from unet import SCHEDULE, unet

from gmmdiff.core.streams import stream
from tests.more.conftest import MORE

BOOK = "06_in_your_own_model.ipynb"
SMALLEST = {"device": "cpu", "attributes": 3, "n_train": 100, "held_out": 1, "dim": 8, "batch": 8}
SMALLEST |= {"widths": [8, 16], "steps": 30, "guidance": [1.0, 3.0], "evaluations": 3, "n_eval": 2}
SMALLEST |= {"classifier_steps": 50}


@pytest.fixture(scope="module")
def diff():
    words = "\n".join(cell.source for cell in nbformat.read(MORE / BOOK, 4).cells)
    (found,) = re.findall(r"```diff\n(.*?)```", words, re.S)
    return found.splitlines()


def script(diff, sign):
    """The training script before (-) or after (+) the change."""
    return "\n".join(line[1:] for line in diff if line[0] in (" ", sign))


def surroundings():
    """What the script takes for granted."""
    torch.manual_seed(0)
    attributes = torch.randint(2, (3, 4, 6))
    classes = (attributes * 2 ** torch.arange(6)).sum(2)
    network = unet(8, 16, 1, (8, 16), 1)
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6))
    weights = [*network.parameters(), *classifier.parameters()]
    return {
        "torch": torch,
        "schedule": SCHEDULE,
        "loader": list(zip(torch.randn(3, 4, 1, 8, 8), classes, attributes, strict=True)),
        "unet": network,
        "classifier": classifier,
        "optimizer": torch.optim.AdamW(weights, 1e-2),
        "generator": stream(0, "dropped"),
    }


def test_each_idea_changes_at_most_five_lines(diff):
    changed = [line for line in diff if line[0] in "+-"]
    assert len(changed) == 10
    added = [line for line in changed if line[0] == "+"]
    ideas = {"conditioning": r"Conditioning|conditioning|tokens|index", "NGMG": r"NGMG|ngmg"}
    for idea, names in ideas.items():
        assert 2 < len([line for line in added if re.search(names, line)]) <= 5, idea
    assert "gmmdiff" not in script(diff, "-")


@pytest.mark.parametrize("sign", "-+")
def test_the_script_runs_before_and_after(diff, sign):
    names = surroundings()
    before = [weight.clone() for weight in names["unet"].parameters()]
    exec(script(diff, sign), names)
    after = list(names["unet"].parameters())
    assert all(weight.isfinite().all() for weight in (names["loss"], *after))
    moved = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    assert names["tokens"].shape == ((4, 1, 16) if sign == "-" else (4, 6, 16))


@pytest.fixture(scope="module")
def executed(run_notebook, tmp_path_factory):
    """The notebook's names after its code ran at the smallest size, and the folder of results."""
    folder = tmp_path_factory.mktemp("notebook")
    return run_notebook(BOOK, folder, **SMALLEST)[0], folder


def test_the_notebook_counts_wrong_attributes_of_both_arms(executed):
    names, folder = executed
    table = pd.read_csv(folder / "tables" / "wrong_attributes.csv")
    arms = table[["granularity", "guidance"]].drop_duplicates().itertuples(index=False, name=None)
    assert list(arms) == [("real", 1)] + [(a, g) for a in ("class", "feature") for g in (1, 3)]
    real = table[table["granularity"] == "real"]
    assert (real[["wrong_attributes", "malformed"]] < 0.1).all(None)
    shown, world = names["shown"], names["world"]
    asked, seen = (world.combinations[shown[name].tolist()] for name in ("combination", "shown"))
    again = shown.assign(again=(asked != seen).double().mean(1).numpy())
    for (arm, weight), images in again.groupby(["granularity", "guidance"]):
        same = (table["granularity"] == arm) & (table["guidance"] == weight)
        row = table[same & (table["group"] == "held out")]
        expected = images.loc[images["group"] == "held out", "again"].mean()
        assert row["wrong_attributes"].item() == pytest.approx(expected)
    assert len(shown) == 5 * 8 * 2


def test_both_unets_start_from_one_state_and_learn_and_so_does_the_classifier(executed):
    names, folder = executed
    losses = names["losses"]
    assert all(sum(losses[name][-10:]) < sum(losses[name][:10]) for name in ("class", "feature"))
    assert losses["class"][0] == pytest.approx(losses["feature"][0], rel=0.2)
    assert {path.name for path in (folder / "figures").iterdir()} == {"1_losses.png", "2_faces.png"}
    table = pd.read_csv(folder / "tables" / "classifier.csv")
    fresh = table[table["images"] == "fresh faces"].set_index("cost")["attributes read wrongly"]
    assert list(fresh.index) == ["NGMG", "BCE"] and (fresh < 0.25).all()
