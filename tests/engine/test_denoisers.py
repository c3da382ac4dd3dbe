"""Denoisers to load: they are the study's runs, come back from a file as they were, and their card
says what the tables say.
"""

import re
from functools import partial

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file
from tqdm import tqdm

import gmmdiff
from gmmdiff.core.streams import stream
from gmmdiff.engine.denoiser import Denoiser, Settings, load, save
from gmmdiff.engine.runs import Run
from gmmdiff.engine.training import train
from gmmdiff.experiments.feature_vs_class import faces
from gmmdiff.experiments.feature_vs_class.image_runs import run_part
from gmmdiff.pipeline import denoisers
from gmmdiff.pipeline.denoisers import ARMS, chosen, module_of
from gmmdiff.pipeline.snapshot import run_records
from tests.paths import PUBLISHED, ROOT

FACES = {
    "attributes": 4,
    "mapped": [3],
    "n_train": [30, 420],
    "steps": [60, 60],
    "judged_n_train": [30, 420],
    "mixture_steps": [40, 40],
    "story_n_train": 30,
    "story": [40],
    "s_c": 0.1,
    "learning_rate": 0.01,
    "seeds": 2,
    "control_seeds": 2,
    "seed": 7,
    "size": 16,
    "held_out": 0.125,
    "width": 16,
    "hidden": 1,
    "batch": 16,
    "ema": 0.9,
    "evaluations": 6,
    "n_eval": 3,
}
PART = "judged_30"


@pytest.fixture(scope="module")
def experiment():
    """The rows, settings and tables of a small experiment's judged part."""
    rows, settings = faces.run_tables(FACES)[PART]
    quiet = partial(tqdm, disable=True)
    return rows, settings, run_part(rows, settings, "cpu", quiet)["runs"]


@pytest.fixture(scope="module")
def trained(experiment):
    """A run and its weights, of either arm."""
    rows, settings, _ = experiment
    rows = chosen(rows)
    weights = train(rows, settings).parameters
    pairs = zip(rows.itertuples(index=False), weights, strict=True)
    return [(Run(row, settings), own) for row, own in pairs]


def asked(run, count):
    combination = torch.randint(16, (count,), generator=stream(0, "asked"))
    return combination, run.seed_data.world.combinations[combination]


def test_the_two_arms_of_the_first_seed_are_chosen(experiment):
    rows = chosen(experiment[0])
    assert list(rows["granularity"]) == list(ARMS) == ["feature", "class"]
    assert set(rows["seed"]) == {FACES["seed"]} and set(rows["s_c"]) == {0}


def test_its_samples_are_the_runs_own(trained):
    """Of the ensemble's network, which torch.nn's must equal."""
    for run, weights in trained:
        combination, attributes = asked(run, 40)
        expected = run.generate(weights, combination, 6).unflatten(1, (16, 16))
        found = module_of(run, weights).sample(attributes, stream(run.row.seed, "generation"), 6)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        assert expected.std() > 0.02


def test_a_file_gives_back_what_was_saved(trained, tmp_path):
    for run, weights in trained:
        denoiser = module_of(run, weights)
        for name in ("one", "two"):
            save(denoiser, tmp_path / name)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
        again, (_, attributes) = gmmdiff.load(tmp_path / "one"), asked(run, 4)
        assert not again.training and again.settings == denoiser.settings
        torch.testing.assert_close(again.state_dict(), denoiser.state_dict(), rtol=0, atol=0)
        images = [d.sample(attributes, stream(0, "noise")) for d in (denoiser, again)]
        torch.testing.assert_close(*images, rtol=0, atol=0)
        frequencies = run.seed_data.world.frequencies
        torch.testing.assert_close(again.world.frequencies, frequencies, rtol=0, atol=0)


def test_it_is_a_module_like_any_other(trained):
    run, weights = trained[0]
    denoiser, (_, attributes) = module_of(run, weights), asked(run, 3)
    x_t = torch.randn(3, 16, 16, generator=stream(0, "x"), requires_grad=True)
    condition = denoiser.condition(attributes)
    many = denoiser(x_t, torch.tensor([0.2, 0.5, 0.9]), condition)
    many.sum().backward()
    assert x_t.grad.abs().sum() > 0 and denoiser.network[0].weight.grad is not None
    one = denoiser(x_t[1:2], 0.5, condition[1:2])
    torch.testing.assert_close(one, many[1:2], rtol=1e-4, atol=1e-5)
    assert set(dict(denoiser.named_buffers())) >= {"conditioning.means"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_it_samples_in_its_own_precision(dtype):
    """To the precision of the type the published one's faces stay what they are."""
    path = PUBLISHED / "denoisers" / "faces-feature.safetensors"
    wanted, exact, other = [[1, 0, 1, 0, 0, 1]] * 4, load(path), load(path).to(dtype)
    assert other(torch.zeros(4, 16, 16, dtype=dtype), 0.5, other.condition(wanted)).dtype == dtype
    faces, expected = (one.sample(wanted, stream(0, "faces")) for one in (other, exact))
    assert faces.dtype == dtype
    assert (faces.float() - expected).square().mean().sqrt() < 0.1  # greys


@pytest.fixture(scope="module")
def made(experiment, tmp_path_factory):
    """The stage's folder at small size, and the table it read."""
    folder = tmp_path_factory.mktemp("stage")
    given = {k: v for k, v in FACES.items() if k != "seed"}
    params = {"seed": FACES["seed"], "device": "cpu", "faces": given}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    table = folder / "tables" / "faces_runs" / PART
    table.mkdir(parents=True)
    experiment[2].to_csv(table / "runs.csv", index=False, float_format="%.10g")
    denoisers.make(folder / "params.yaml", folder)
    return folder


def test_the_stage_gives_equal_bytes_each_time(made):
    def contents():
        return {path.name: path.read_bytes() for path in (made / "denoisers").iterdir()}

    first = contents()
    denoisers.make(made / "params.yaml", made)
    assert contents() == first and not (made / ".staging").exists()
    assert set(first) == {"card.md", "faces-feature.safetensors", "faces-class.safetensors"}
    record = run_records(made / "environment")["denoisers"]
    assert record["seconds"] > 0 and record["memory"] > 100


def told(card):
    """The card's table of errors, by group, arm and metric."""
    lines = [line.strip("| \n").split(" | ") for line in re.findall(r"^\|.*\|$", card, re.M)]
    head, _, *rows = lines
    columns = [tuple(name.split(": ")) for name in head[1:]]
    return {
        (row[0], arm, metric): float(value.rstrip("%")) / (100 if "%" in value else 1)
        for row in rows
        for (arm, metric), value in zip(columns, row[1:], strict=True)
    }


def check_card(card, table, n_train, seed):
    """Every error of the card is the table's, to its digits; every error of the table is there."""
    table = table[(table["n_train"] == n_train) & (table["seed"] == seed)]
    table = table[(table["s_c"] == 0) & (table["condition"] == "drawn")]
    metrics = ("wrong", "malformed", "copy", "law")
    table = table[table["granularity"].isin(ARMS) & table["metric"].isin(metrics)]
    places = table[["group", "granularity", "metric"]].itertuples(index=False, name=None)
    expected, found = dict(zip(places, table["value"], strict=True)), told(card)
    assert found.keys() == expected.keys() and len(found) >= 24
    for place, value in expected.items():
        assert found[place] == pytest.approx(value, abs=0.0051 if "law" in place else 0.00051)


def test_the_card_says_what_the_table_and_the_files_say(made, experiment):
    card = (made / "denoisers" / "card.md").read_text()
    check_card(card, experiment[2], 30, FACES["seed"])
    for part in ("## Data", "## Training", "## Errors", "## Licence\n\nMIT License", "60 steps of"):
        assert part in card
    assert "{" not in card.replace("```python", "") and card.endswith("as the code.\n")


def test_the_cards_five_lines_run(made, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (made / "denoisers" / "card.md").read_text(), re.S)
    assert len([line for line in code.splitlines() if line]) == 5
    monkeypatch.chdir(made / "denoisers")
    exec(code, {})
    assert capsys.readouterr().out.count(", ") == 3


def test_what_is_published_is_small_and_says_what_the_published_tables_say():
    folder, params = PUBLISHED / "denoisers", yaml.safe_load((ROOT / "params.yaml").read_text())
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert len(files) == 3 and sum(files.values()) <= 3e6
    table = pd.read_csv(PUBLISHED / "tables" / "feature_vs_class" / "faces.csv")
    faces = params["faces"]
    table = table[table["attributes"] == faces["attributes"]]
    check_card((folder / "card.md").read_text(), table, faces["story_n_train"], params["seed"])


def test_published_denoisers_err_as_the_published_table_says():
    """Asked as the study asked them; another machine rounds otherwise, so a face may differ."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    m, seed = params["faces"]["attributes"], params["seed"]
    part = f"judged_{params['faces']['story_n_train']}"
    rows, settings = faces.run_tables(params["faces"] | {"seed": seed})[part]
    table = pd.read_csv(PUBLISHED / "tables" / "feature_vs_class" / "faces.csv")
    table = table[(table["attributes"] == m) & (table["metric"] == "defect")]
    for row in chosen(rows).itertuples(index=False):
        denoiser = load(PUBLISHED / "denoisers" / f"faces-{row.granularity}.safetensors")
        seed_data = Run(row, settings).seed_data
        wanted = torch.arange(2**m).repeat_interleave(settings.n_eval)
        asked = seed_data.world.combinations[wanted]
        images = denoiser.sample(asked, stream(seed, "generation"), settings.evaluations)
        shown = denoiser.world.judge(images)
        defect = ((shown.combination != wanted) | shown.malformed).double().view(2**m, -1).mean(1)
        mine = table[(table[list(row._fields)] == list(row)).all(axis=1)].set_index("group")
        groups = pd.Series(seed_data.groups(seed_data.combinations(row.n_train)))
        found = pd.Series(defect.numpy()).groupby(groups).mean()
        for group in ("frequent", "held out"):
            expected = mine.loc[group, "value"]
            assert found[group] == pytest.approx(expected, abs=0.02), (row.granularity, group)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ([[0, 1, 1]], r"attributes must be \(n, 4\) in \{0, 1\}, got \[\[0, 1, 1\]\]"),
        ([[0, 1, 1, 2]], r"attributes must be \(n, 4\) in \{0, 1\}"),
        ([0, 1, 1, 0], r"attributes must be \(n, 4\) in \{0, 1\}"),
    ],
)
def test_other_attributes_are_refused(attributes, message):
    denoiser = Denoiser(Settings(4, 16, seed=0, condition=8, width=8, hidden=1))
    with pytest.raises(ValueError, match=f"^Denoiser: {message}"):
        denoiser.sample(attributes, stream(0, "noise"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 8, 8), 0.5, torch.zeros(2, 8)), r"x_t must be \(n, 16, 16\), got \(2, 8"),
        ((torch.zeros(2, 16, 16), 0.5, torch.zeros(1, 8)), r"condition must be \(2, 8\), got"),
        ((torch.zeros(2, 16, 16), [0.5], torch.zeros(2, 8)), r"t must be a number or \(2,\), got"),
    ],
)
def test_other_shapes_are_refused(arguments, message):
    denoiser = Denoiser(Settings(4, 16, seed=0, condition=8, width=8, hidden=1))
    with pytest.raises(ValueError, match=f"^Denoiser: {message}"):
        denoiser(*arguments)


def test_a_file_that_is_none_of_ours_is_refused(tmp_path):
    (tmp_path / "text").write_text("no tensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "others")
    for name in ("text", "others"):
        with pytest.raises(ValueError, match=r"^load: path must be a safetensors file that gmm"):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")
