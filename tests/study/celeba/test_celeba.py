"""The whole path on a folder of drawn pictures laid out as CelebA is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tqdm import tqdm

from gmmdiff.core.streams import stream
from gmmdiff.judging.contrasts import Setting
from gmmdiff.judging.feature_vs_class import claim_of, contrasts_table
from gmmdiff.pipeline.check_parameters import SECTIONS
from gmmdiff.study.celeba.arms import Arm
from gmmdiff.study.celeba.figures import sheet
from gmmdiff.study.celeba.judge import Judge, Reader
from gmmdiff.study.celeba.runs import Experiment, settings
from gmmdiff.study.celeba.throughput import estimate, images_a_second
from gmmdiff.worlds.celeba import CelebA
from tests.celeba_folder import ATTRIBUTES, write
from tests.paths import ROOT

SMALL = {
    "attributes": list(ATTRIBUTES),
    "size": 16,
    "seeds": 2,
    "held_out": 1,
    "rare": 1,
    "s_c": [0.1],
    "widths": [8, 16],
    "layers": 1,
    "dim": 8,
    "steps": 5,
    "evaluations": 3,
    "n_eval": 8,
    "judge_width": 8,
    "judge_steps": 80,
    "references": 60,
    "batch": 16,
    "every": 2,
    "learning_rate": 0.003,
    "ema": 0.9,
}
quiet = partial(tqdm, disable=True)


def experiment(folder, cache, **other):
    given = SMALL | {"folder": str(folder), "cache": str(cache), "device": "cpu"} | other
    return Experiment(settings(**given), quiet)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("celeba")
    write(path, 400)
    return path


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """Trained and measured in one go."""
    found = experiment(folder, tmp_path_factory.mktemp("whole"))
    return found, *found.measure()


def weights(work):
    return {
        path.relative_to(work): path.read_bytes() for path in work.rglob("averaged.safetensors")
    }


def test_killed_in_the_middle_it_goes_on_as_if_it_never_had_been(folder, whole, tmp_path):
    undisturbed, tables, _ = whole
    own = SMALL | {"folder": str(folder), "cache": str(tmp_path)}
    params = {name: {} for name in SECTIONS} | {"device": "cpu", "seed": 0, "celeba": own}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = [sys.executable, "-m", "gmmdiff.pipeline.celeba"]
    process = subprocess.Popen([*command, "--params", str(tmp_path / "params.yaml")], cwd=ROOT)
    try:
        limit = time.monotonic() + 900  # on a machine that has much else to do
        while not (reached := list(tmp_path.glob("runs/class_0.1_0_*/step_2"))):
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    stopped = weights(reached[0].parents[1])
    assert [path.parent.name.split("_")[0] for path in stopped] == ["judge"]
    resumed = experiment(folder, tmp_path)
    assert resumed.work == reached[0].parents[1]  # one experiment, from the file and from here
    found, _ = resumed.measure()
    assert weights(resumed.work) == weights(undisturbed.work)
    assert len(weights(resumed.work)) == 1 + 4  # judge and runs
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, found[name], check_exact=True)


def test_the_judge_reads_real_images_and_refuses_noise(whole):
    found, tables, _ = whole
    errors = tables["judge"].set_index("attribute")
    assert list(errors.index) == list(ATTRIBUTES) and (errors["error"] < 0.05).all()
    rows, combination = found.data.part("test")
    assert (errors["images"] == len(rows)).all()
    shown = found.data.combinations[combination]
    assert np.allclose(errors["present"], shown.double().mean(0))
    judged = found.judge.judge(found.data.load(rows))
    assert (judged.combination == combination).double().mean() > 0.9
    assert torch.equal(judged.attributes, found.data.combinations[judged.combination])
    assert 0 < judged.malformed.double().mean() <= 0.01 + 1 / len(rows)
    noise = torch.rand(50, 3, 16, 16, generator=stream(0, "noise"))
    assert found.judge.judge(noise).malformed.all()
    broken = torch.full((2, 3, 16, 16), torch.nan)
    assert found.judge.judge(broken).malformed.all()


def test_malformed_is_outside_of_every_widened_sphere(whole):
    """By the definition, image by image."""
    found, *_ = whole
    rows, _ = found.data.part("judge")
    rows = rows[torch.randperm(len(rows), generator=stream(0, "references"))[:60]]
    with torch.no_grad():
        real = found.judge.reader.seen(found.data.load(rows))[1].double().numpy()
        some = found.data.load(found.data.part("test")[0][:30])
        blur = torch.linspace(0, 0.1, 30).reshape(-1, 1, 1, 1)
        some = some + blur * torch.randn(some.shape, generator=stream(0, "blur"))
        made = found.judge.reader.seen(some)[1].double().numpy()
        test = found.data.load(found.data.part("test")[0])
        test = found.judge.reader.seen(test)[1].double().numpy()
    unit = real.std(0, ddof=1)
    real, made, test = real / unit, made / unit, test / unit
    radius = [np.sort([np.linalg.norm(a - b) for b in real])[5] for a in real]

    def reach(z):
        return min(np.linalg.norm(z - a) / r for a, r in zip(real, radius, strict=True))

    widened = np.quantile([reach(z) for z in test], 0.99)
    outside = [reach(z) > widened for z in made]
    judged = found.judge.judge(some)
    assert judged.malformed.tolist() == outside and 0 < sum(outside) < 30
    nearest = [min(np.linalg.norm(z - a) for a in real) for z in made]
    assert np.allclose(judged.distance, nearest)


def test_tables_hold_every_arm_and_group(whole):
    found, tables, sheets = whole
    runs = tables["celeba"]
    assert set(runs["granularity"]) == {"real", "class", "feature"} and set(runs["steps"]) == {5}
    assert set(runs["group"]) == {"seen", "rare", "frequent", "held out", "all"}
    assert set(runs["seed"]) == {0, 1} and set(runs["regime"]) == {"dense"}
    validated = runs[runs["group"] == "all"].pivot(
        index=["granularity", "seed"], columns="metric", values="value"
    )
    assert len(validated) == 4 and (validated["validation_step"] == 5).all()  # looked at once
    assert (validated["long_enough"] == 1).all() and (validated["diverged"] == 0).all()
    assert (validated["validation_loss"] > 0).all()
    shares = runs[runs["group"] != "all"]
    assert shares["value"].between(0, 1).all()
    assert set(shares["metric"]) == {"wrong", "malformed", "defect"}
    for seed, scene in enumerate(found.scenes):
        for split in ("train", "validation"):
            rows, combination = found.shown(scene, split)
            assert len(rows) and not torch.isin(combination, scene.held_out).any()
        assert set(runs.query(f"seed == {seed}")["images"]) == {len(found.shown(scene)[0])}
    real = runs.query("granularity == 'real' and group == 'seen' and metric == 'defect'")
    made = runs.query("granularity == 'class' and group == 'seen' and metric == 'defect'")
    assert real["value"].max() < 0.3 < made["value"].min()  # after five steps
    assert [one.arm for one in sheets] == ["real", "class, s_c 0.1", "feature, s_c 0.1"]
    drawn = sheet(sheets, found.data)
    assert len([axis for axis in drawn.axes if axis.images]) == 3 * sum(
        len(one.images) for one in sheets[:1]
    )


def test_the_weights_kept_are_those_of_the_least_validation_loss(folder, tmp_path):
    """By the loss of the same images once more, beside the curve."""
    found = experiment(folder, tmp_path, seeds=1, steps=60, every=60, learning_rate=0.03)
    for scene, arm, _, network, losses in found.trained():
        rows, combination = found.shown(scene, "validation")
        some = torch.randperm(len(rows), generator=stream(0, "validation"))
        again = stream(0, "validation loss")
        with torch.no_grad():
            loss = float(arm.loss(network, rows[some], combination[some], again))
        assert len(losses) == 3 and loss == pytest.approx(min(losses), rel=1e-5)


SETTING = Setting("celeba", "dense", ("F1", "F2", "F3"))


def judged(tables):
    return {name: claim_of(name, SETTING, "celeba").judge(tables) for name in SETTING.claims}


def test_claims_are_judged_by_the_rule_of_all_worlds(whole):
    _, tables, _ = whole
    found = judged(tables)
    assert {one.verdict for one in found.values()} == {"inconclusive"}  # two seeds
    defects = tables["celeba"].query("metric == 'defect'")
    value = defects.set_index(["granularity", "group", "seed"])["value"].sort_index()
    wanted = {
        "F1": value["feature", "seen"] - value["class", "seen"],
        "F2": value["feature", "rare"] - value["class", "rare"],
        "F3": value["feature", "held out"] - value["feature", "rare"],
    }
    for name, differences in wanted.items():
        cell, *_ = found[name].cells
        assert cell["estimate"] == pytest.approx(differences.mean())
        assert not found[name].undertrained
    beside = contrasts_table(tables, SETTING).query("control")
    assert set(beside["claim"]) == {"F3"}  # of the class arm


def test_with_twenty_seeds_a_clear_difference_is_a_verdict(whole):
    _, tables, _ = whole
    rng, runs = np.random.default_rng(0), tables["celeba"]
    runs = pd.concat([runs[runs["seed"] == 0].assign(seed=seed) for seed in range(20)])
    worse = 0.5 * (runs["granularity"] == "class") + 0.01 * rng.random(len(runs))
    runs = runs.assign(value=(0.1 + worse).where(runs["group"] != "all", runs["value"]))
    found = {name: one.verdict for name, one in judged({"celeba": runs}).items()}
    assert found == dict.fromkeys(SETTING.claims, "reproduced")


def test_conditions_of_both_arms_are_of_one_size_and_know_what_they_should(folder):
    data = CelebA(folder, ATTRIBUTES, 16)
    asked, noise = torch.arange(4).repeat_interleave(500), stream(0, "noise")
    for granularity in ("feature", "class"):
        arm = Arm(data, granularity, 0.1, 3, 8, [8, 16], 1)
        means = arm.conditioning(
            data.combinations if granularity == "feature" else torch.arange(4), sample=False
        )
        assert means.shape == (4, 2, 8)
        assert torch.allclose(means.norm(dim=2), torch.tensor(8**0.5))
        if granularity == "feature":  # whose smallest distance is the unit of both
            away = torch.cdist(means.flatten(1), means.flatten(1))
            smallest = float(away[~torch.eye(4, dtype=torch.bool)].min())
        drawn = arm.tokens(asked, noise) - means[asked]
        assert float(drawn.std()) == pytest.approx(0.1 * smallest, rel=0.05)
        shared = (means[0, 0] == means[1, 0]).all()  # they differ in the second attribute alone
        assert shared == (granularity == "feature")
    with pytest.raises(ValueError, match='granularity must be "feature" or "class", got none'):
        Arm(data, "none", 0.0, 3, 8, [8, 16], 1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"batch": 512}, r"^celeba: training images must be >= batch = 512, got \d+$"),
        ({"rare": 3}, r"^celeba: rare must be in 1 .. 2, got 3$"),
        ({"held_out": 0}, r"^celeba: held_out must be at least 1, got 0$"),
        ({"judge_width": 12}, r"^celeba: judge_width must be a multiple of 8, got 12$"),
        ({"widths": [8, 12]}, r"^unet: widths must be two or more multiples of 8, got \[8, 12\]$"),
        ({"size": 15}, r"^unet: size must be a multiple of 2, got 15$"),
        ({"references": 5}, r"^celeba: the judge's images, references must be more than 5, got 5$"),
    ],
)
def test_what_cannot_be_is_refused_before_training(folder, tmp_path, other, message):
    with pytest.raises(ValueError, match=message):
        experiment(folder, tmp_path, **other)
    assert not list(tmp_path.glob("runs*"))


FREE = {"evaluations": 5, "n_eval": 3, "rare": 2, "references": 70, "every": 1}
FREE |= {
    "device": "auto",
    "skip_corrupt": True,
    "folder": "{folder}/",
    "cache": "{cache}/../{name}",
}
NEW = {  # settings -> what they train that was not trained yet
    **{name: ({name: value}, set()) for name, value in FREE.items()},
    "a seed": ({"seeds": 3}, {"class_0.1_2", "feature_0.1_2"}),
    "another s_c": ({"s_c": [0.1, 0.1000001], "seeds": 1}, {"class_0.1_0", "feature_0.1_0"}),
    "a network": ({"dim": 16, "seeds": 1}, {"class_0.1_0", "feature_0.1_0"}),
    "a judge": ({"judge_steps": 3, "seeds": 1}, {"judge"}),
}


@pytest.mark.parametrize(("other", "new"), NEW.values(), ids=NEW)
def test_what_is_new_is_trained_and_nothing_else(folder, whole, other, new):
    found, *_ = whole
    cache, trained = found.data.cache, []
    where = {"folder": folder, "cache": cache, "name": cache.name}
    other = {k: v.format(**where) if isinstance(v, str) else v for k, v in other.items()}

    def watched(steps, desc):
        trained.append(desc.removeprefix("training "))
        return steps

    given = SMALL | {"folder": str(folder), "cache": str(cache), "device": "cpu"} | other
    before = weights(cache)
    Experiment(settings(**given), watched).train()
    assert {name.rpartition("_")[0] for name in trained} == new and len(trained) == len(new)
    after = weights(cache)
    assert before.items() <= after.items() and len(after) == len(before) + len(new)


def test_a_run_tells_what_it_was_trained_by_and_new_data_train_anew(folder, whole, tmp_path):
    found, *_ = whole
    (path,) = found.work.glob("class_0.1_1_*/settings.json")
    told = json.loads(path.read_text())
    assert told["batch"] == 16 and told["steps"] == 5 and told["data"] == found.data.digest
    assert told["attributes"] == list(ATTRIBUTES) and told["seed"] == 1
    shutil.copytree(folder, tmp_path / "data", ignore=shutil.ignore_patterns("cache"))
    shutil.copy(*((tmp_path / "data/img_align_celeba" / f"00000{k}.jpg") for k in (2, 1)))
    before = weights(found.work)
    experiment(tmp_path / "data", found.data.cache, judge_steps=1, seeds=1, steps=1).train()
    assert len(weights(found.work)) == len(before) + 3


def test_images_of_a_network_that_diverged_are_not_finite_and_others_are(folder):
    arm = Arm(CelebA(folder, ATTRIBUTES, 16), "feature", 0.1, 3, 8, [8, 16], 1)
    asked, network = torch.tensor([0, 1, 2]), arm.network.eval()
    made = arm.generate(network, asked, 2, 2)
    assert made.shape == (3, 3, 16, 16) and made.isfinite().all()
    with torch.no_grad():
        network.conv_out.weight.fill_(3e38)
    with pytest.raises(ValueError, match=r"^sample: images must be finite, got "):
        arm.generate(network, asked, 2, 2)
    with torch.no_grad():
        network.conv_out.weight.fill_(torch.nan)
    assert arm.generate(network, asked, 2, 2).isnan().all()


def test_a_judge_that_diverged_is_refused(folder):
    data, reader = CelebA(folder, ATTRIBUTES, 16), Reader(16, 2, 8).eval()
    with torch.no_grad():
        reader.stages[0][0].weight.fill_(torch.nan)
    message = r"^celeba: what the judge sees in real images must be finite, got \d+ NaN"
    with pytest.raises(ValueError, match=message):
        Judge(data, reader, 60, stream(0, "references"))


def run_notebook(monkeypatch, results, **parameters):
    """The code cells of notebook 07, here: what they displayed."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *things: shown.extend(things))
    monkeypatch.setenv("GMMDIFF_RESULTS", str(results))
    names = {}
    for cell in nbformat.read(ROOT / "notebooks" / "07_celeba.ipynb", 4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
        if "parameters" in cell.metadata.get("tags", []):
            assert set(parameters) <= set(names)
            names |= parameters
    return [getattr(one, "data", one) for one in shown]


def test_without_a_folder_the_notebook_says_so_and_does_nothing(monkeypatch, tmp_path):
    shown = run_notebook(monkeypatch, tmp_path, device="cpu")
    told = [one for one in shown if isinstance(one, str)]
    assert len([one for one in told if one.startswith("**Not measured**: `celeba.folder`")]) == 4
    assert [path.name for path in tmp_path.rglob("*.*")] == ["estimate.csv"]
    (found,) = pd.read_csv(tmp_path / "tables" / "estimate.csv").itertuples()
    assert f"{found.rate:.3g} images a second" in " ".join(told)
    assert f"{found.hours:,.3g} hours" in " ".join(told)


def test_the_notebook_measures_what_is_trained(monkeypatch, tmp_path, folder, whole):
    found, tables, _ = whole
    before = weights(found.work)
    given = SMALL | {"folder": str(folder), "cache": str(found.data.cache), "device": "cpu"}
    shown = run_notebook(monkeypatch, tmp_path, **given)
    assert weights(found.work) == before  # nothing was trained anew
    for name, table in tables.items():
        kept = pd.read_csv(tmp_path / "tables" / f"{name}.csv")
        pd.testing.assert_frame_equal(kept, table.reset_index(drop=True), False, rtol=1e-9)
    told = " ".join(one for one in shown if isinstance(one, str))
    assert all(f"**{name} (celeba, dense)." in told for name in ("F1", "F2", "F3"))
    assert "Not measured" not in told


def test_the_estimate_is_the_steps_over_the_measured_rate(whole):
    found, *_ = whole
    rate = images_a_second(found.settings, turns=1)
    told = estimate(found.settings, rate)
    # Two arms, two seeds, five steps; 16 images a step.
    assert told.runs == 4 and told.steps == 2 * 2 * 5 and told.images == 16 * told.steps
    assert told.hours * 3600 * rate == pytest.approx(told.images) and rate > 0
