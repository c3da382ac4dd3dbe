"""The denoisers to load are the study's runs, and their card says what the tables say."""

import re
from functools import partial

import pandas as pd
import pytest
import torch
import yaml
from tqdm import tqdm

from gmmdiff.core.streams import stream
from gmmdiff.engine.denoiser import load
from gmmdiff.engine.runs import Run
from gmmdiff.engine.training import train
from gmmdiff.experiments.feature_vs_class import faces
from gmmdiff.experiments.feature_vs_class.image_runs import run_part
from gmmdiff.pipeline import denoisers
from gmmdiff.pipeline.denoisers import ARMS, METRICS, chosen, module_of
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
FILES = PUBLISHED / "denoisers"


@pytest.fixture(scope="module")
def experiment():
    """The rows, settings and tables of a small experiment's judged part."""
    rows, settings = faces.run_tables(FACES)[PART]
    quiet = partial(tqdm, disable=True)
    return rows, settings, run_part(rows, settings, "cpu", quiet)["runs"]


@pytest.fixture(scope="module")
def trained(experiment):
    """A run and its denoiser, of either arm, and its samples for some combinations."""
    rows, settings, _ = experiment
    rows, combination = chosen(rows), torch.randint(16, (40,), generator=stream(0, "asked"))
    made = []
    for row, weights in zip(
        rows.itertuples(index=False), train(rows, settings).parameters, strict=True
    ):
        run = Run(row, settings)
        images = run.generate(weights, combination, 6).unflatten(1, (16, 16))
        attributes = run.seed_data.world.combinations[combination]
        made.append((run, module_of(run, weights), attributes, images))
    return made


def test_the_two_arms_of_the_first_seed_are_chosen(experiment):
    rows = chosen(experiment[0])
    assert list(rows["granularity"]) == list(ARMS) == ["feature", "class"]
    assert set(rows["seed"]) == {FACES["seed"]} and set(rows["s_c"]) == {0}


def test_its_samples_are_the_runs_own(trained):
    """Of the ensemble's network, which torch.nn's must equal."""
    for run, denoiser, attributes, expected in trained:
        images = denoiser.sample(attributes, stream(run.row.seed, "generation"), 6)
        torch.testing.assert_close(images, expected, rtol=1e-3, atol=1e-4)
        assert expected.std() > 0.02


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
    assert contents() == first
    assert set(first) == {"card.md", "faces-feature.safetensors", "faces-class.safetensors"}
    record = run_records(made / "environment")["denoisers"]
    assert record["seconds"] > 0 and record["memory"] > 100


def check_card(card, table, n_train, seed):
    """Every error of the card is the table's, to its digits; every error of the table is there."""
    lines = [line.strip("| \n").split(" | ") for line in re.findall(r"^\|.*\|$", card, re.M)]
    head, _, *rows = lines
    columns = [tuple(name.split(": ")) for name in head[1:]]
    of_card = {
        (row[0], arm, metric): float(value.rstrip("%")) / (100 if "%" in value else 1)
        for row in rows
        for (arm, metric), value in zip(columns, row[1:], strict=True)
    }
    table = table[(table["n_train"] == n_train) & (table["seed"] == seed) & (table["s_c"] == 0)]
    table = table[table["granularity"].isin(ARMS) & table["metric"].isin(METRICS)]
    table = table[table["condition"] == "drawn"].set_index(["group", "granularity", "metric"])
    of_table = table["value"].to_dict()
    assert of_card.keys() == of_table.keys() and len(of_card) >= 24
    for key, value in of_table.items():
        assert of_card[key] == pytest.approx(value, abs=0.0051 if "law" in key else 0.00051)


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


def published():
    """The published parameters and table of sparse faces."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    part = f"judged_{params['faces']['story_n_train']}"
    return params, pd.read_csv(PUBLISHED / "tables" / "faces_runs" / part / "runs.csv")


def test_what_is_published_is_small_and_says_what_the_published_tables_say():
    sizes, (params, table) = [path.stat().st_size for path in FILES.iterdir()], published()
    assert len(sizes) == 3 and sum(sizes) <= 3e6
    card = (FILES / "card.md").read_text()
    check_card(card, table, params["faces"]["story_n_train"], params["seed"])


def test_published_denoisers_err_as_the_published_table_says():
    """Asked as the study asked them; another machine rounds otherwise, so a face may differ."""
    rows, settings, *_ = denoisers.first_runs(ROOT / "params.yaml")
    table = published()[1].query("metric == 'defect'")
    for row in rows.itertuples(index=False):
        denoiser, seed_data = load(f"faces-{row.granularity}"), Run(row, settings).seed_data
        wanted = torch.arange(64).repeat_interleave(settings.n_eval)
        attributes = seed_data.world.combinations[wanted]
        images = denoiser.sample(attributes, stream(row.seed, "generation"), settings.evaluations)
        shown = denoiser.world.judge(images)
        defect = ((shown.combination != wanted) | shown.malformed).double().view(64, -1).mean(1)
        expected = table[(table[list(row._fields)] == list(row)).all(axis=1)]
        expected = expected.set_index("group")["value"]
        groups = pd.Series(seed_data.groups(seed_data.combinations(row.n_train)))
        shares = pd.Series(defect.numpy()).groupby(groups).mean()
        for group in ("frequent", "held out"):
            assert shares[group] == pytest.approx(expected[group], abs=0.02), (row, group)
