"""Notebook 07 and its module on a folder of drawn pictures laid out as CelebA is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from celeba import Arm, Experiment, Judge, Reader, make_accelerator
from tqdm import tqdm

from gmmdiff.core.streams import stream
from gmmdiff.judging.feature_vs_class import Setting, claim_of, contrasts_table
from gmmdiff.pipeline.parameters import defaults
from gmmdiff.worlds.celeba import CelebA
from tests.celeba_folder import ATTRIBUTES, write
from tests.more.conftest import MORE
from tests.paths import ROOT

BOOK = "07_celeba.ipynb"
SMALL = {"device": "cpu", "attributes": list(ATTRIBUTES), "size": 16, "widths": [8, 16], "dim": 8}
SMALL |= {"seeds": 2, "held_out": 1, "rare": 1, "s_c": [0.1], "layers": 1, "ema": 0.9, "every": 2}
SMALL |= {"steps": 5, "batch": 16, "learning_rate": 0.003, "evaluations": 3, "n_eval": 8}
SMALL |= {"judge_width": 8, "judge_steps": 80, "references": 60}
quiet = partial(tqdm, disable=True)


def asked(**other):
    return SimpleNamespace(**defaults(MORE / BOOK) | SMALL | other)


def experiment(folder, cache, progress=quiet, **other):
    return Experiment(asked(**{"folder": str(folder), "cache": str(cache)} | other), progress)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("celeba")
    write(path, 400)
    return path


@pytest.fixture(scope="module")
def data(folder):
    return CelebA(folder, ATTRIBUTES, 16)


@pytest.fixture(scope="module")
def whole(folder, run_notebook, tmp_path_factory):
    """The notebook's names and words after it trained and measured in one go, and its tables."""
    path = tmp_path_factory.mktemp("whole")
    given = SMALL | {"folder": str(folder), "cache": str(path / "cache")}
    names, shown = run_notebook(BOOK, path, **given)
    return SimpleNamespace(**names), " ".join(shown), path / "tables"


def weights(work):
    """What every judge and run ended with, by the name of its folder."""
    files = work.glob("*/step_*/custom_checkpoint_1.pkl")
    return {path.parents[1].name: torch.load(path)["kept"] for path in files}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in {**one, **other})


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_as_if_it_never_had_been(folder, whole, tmp_path):
    own = SMALL | {"folder": str(folder), "cache": str(tmp_path)}
    params = {"device": own.pop("device"), "seed": 0, "celeba": own}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = [sys.executable, MORE / "celeba.py", tmp_path / "params.yaml"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        limit = time.monotonic() + 900  # on a machine that has much else to do
        while not (reached := list(tmp_path.glob("runs/class_0.1_0_*/step_2"))):
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    work, undisturbed = reached[0].parents[1], weights(whole[0].experiment.work)
    assert {path.name.split("_")[0] for path in work.iterdir()} == {"judge", "class"}
    experiment(folder, tmp_path).train()
    resumed = weights(work)
    assert resumed.keys() == undisturbed.keys() and len(resumed) == 1 + 4  # judge and runs
    assert all(same(resumed[name], undisturbed[name]) for name in resumed)


def test_the_judge_reads_real_images_and_refuses_noise(whole):
    names, _, tables = whole
    errors = pd.read_csv(tables / "judge.csv")
    data, judge = names.experiment.data, names.experiment.judge
    rows, combination = data.part("test")
    assert list(errors["attribute"]) == list(ATTRIBUTES) and (errors["error"] < 0.05).all()
    assert (errors["images"] == len(rows)).all()
    assert np.allclose(errors["present"], data.combinations[combination].double().mean(0))
    shown, malformed = judge(data.load(rows))
    assert (shown == combination).double().mean() > 0.9
    assert 0 < malformed.double().mean() <= 0.01 + 1 / len(rows)
    noise = torch.rand(50, 3, 16, 16, generator=stream(0, "noise"))
    for none in (noise, torch.full((2, 3, 16, 16), torch.nan)):
        assert judge(none)[1].all()


def test_malformed_is_outside_of_every_widened_sphere(whole):
    """By the definition, image by image."""
    data, judge = whole[0].experiment.data, whole[0].experiment.judge
    rows, _ = data.part("judge")
    rows = rows[torch.randperm(len(rows), generator=stream(0, "references"))[:60]]
    test = data.load(data.part("test")[0])
    some = test[:30]
    blur = torch.linspace(0, 0.1, 30).reshape(-1, 1, 1, 1)
    some = some + blur * torch.randn(some.shape, generator=stream(0, "blur"))
    with torch.no_grad():
        seen = [judge.reader.seen(z)[1].double().numpy() for z in (data.load(rows), some, test)]
    real, made, test = (features / seen[0].std(0, ddof=1) for features in seen)
    radius = [np.sort([np.linalg.norm(a - b) for b in real])[5] for a in real]

    def reach(z):
        return min(np.linalg.norm(z - a) / r for a, r in zip(real, radius, strict=True))

    widened = np.quantile([reach(z) for z in test], 0.99)
    outside = [reach(z) > widened for z in made]
    assert judge(some)[1].tolist() == outside and 0 < sum(outside) < 30


def test_tables_and_pictures_hold_every_arm_and_group(whole):
    names, told, tables = whole
    runs, experiment = names.table, names.experiment
    kept = pd.read_csv(tables / "celeba.csv")
    pd.testing.assert_frame_equal(kept, runs, check_dtype=False, rtol=1e-9)
    assert all(f"**{name} (celeba, dense)." in told for name in ("F1", "F2", "F3"))
    assert "Not measured" not in told and "accelerator.backward" in told
    factors = runs[["granularity", "group", "seed", "regime", "steps"]].drop_duplicates()
    assert {name: set(column) for name, column in factors.items()} == {
        "granularity": {"real", "class", "feature"},
        "group": {"seen", "rare", "frequent", "held out", "all"},
        "seed": {0, 1},
        "regime": {"dense"},
        "steps": {5},
    }
    validated = runs[runs["group"] == "all"].pivot(
        index=["granularity", "seed"], columns="metric", values="value"
    )
    assert len(validated) == 4 and (validated["validation_step"] == 5).all()  # looked at once
    assert (validated["long_enough"] == 1).all() and (validated["diverged"] == 0).all()
    assert (validated["validation_loss"] > 0).all()
    shares = runs[runs["group"] != "all"]
    assert shares["value"].between(0, 1).all()
    assert set(shares["metric"]) == {"wrong", "malformed", "defect"}
    for one in experiment.seeds:  # held out is what each seed holds out
        for split in ("train", "validation"):
            rows, combination = experiment.shown(one, split)
            assert len(rows) and not torch.isin(combination, one.held_out).any()
        assert set(runs.query(f"seed == {one.seed}")["images"]) == {len(experiment.shown(one)[0])}
    defects = runs.query("group == 'seen' and metric == 'defect'").groupby("granularity")["value"]
    assert defects.max()["real"] < 0.3 < defects.min()["class"]  # after five steps
    assert list(names.sheet["arm"].unique()) == ["real", "class, s_c 0.1", "feature, s_c 0.1"]
    assert names.sheet.groupby("arm").size().eq(4).all()  # one held out, one rare, two frequent


def test_validated_are_fresh_images_of_the_combinations_seen(whole):
    """By the loss of the same images once more, beside the only look."""
    for one, arm, network, losses in whole[0].experiment.trained():
        rows, combination = whole[0].experiment.shown(one, "validation")
        some = torch.randperm(len(rows), generator=stream(one.seed, "validation"))
        with torch.no_grad():
            loss = float(arm.validation_loss(rows[some], combination[some], network))
        assert losses == [pytest.approx(loss, rel=1e-5)]


def test_claims_are_judged_by_the_rule_of_all_worlds(whole):
    """Two seeds give no verdict; twenty that differ clearly do."""
    rng, runs = np.random.default_rng(0), whole[0].table
    many = pd.concat([runs[runs["seed"] == 0].assign(seed=seed) for seed in range(20)])
    worse = 0.1 + 0.5 * (many["granularity"] == "class") + 0.01 * rng.random(len(many))
    many = many.assign(value=worse.where(many["group"] != "all", many["value"]))
    setting = Setting("celeba", "dense", ("F1", "F2", "F3"))
    pairs = {  # the feature arm's group, against which
        "F1": ("seen", ("class", "seen")),
        "F2": ("rare", ("class", "rare")),
        "F3": ("held out", ("feature", "rare")),
    }
    for table, verdict in ((runs, "inconclusive"), (many, "reproduced")):
        defects = table[table["metric"] == "defect"]
        value = defects.set_index(["granularity", "group", "seed"])["value"].sort_index()
        for name, (group, rival) in pairs.items():
            judged = claim_of(name, setting, "celeba").judge({"celeba": table})
            cell, *_ = judged.cells
            assert judged.verdict == verdict and not judged.undertrained
            estimate = (value["feature", group] - value[rival]).mean()
            assert table is many or cell["estimate"] == pytest.approx(estimate)
    beside = contrasts_table({"celeba": runs}, setting).query("control")
    assert set(beside["claim"]) == {"F3"}  # of the class arm


def test_conditions_of_both_arms_are_of_one_size_and_know_what_they_should(data):
    noise = stream(0, "noise")
    for granularity in ("feature", "class"):
        arm = Arm(data, granularity, 0.1, 3, asked())
        means = arm.conditioning(arm.index, sample=False)
        assert means.shape == (4, 2, 8)
        assert torch.allclose(means.norm(dim=2), torch.tensor(8**0.5))
        if granularity == "feature":  # whose smallest distance is the unit of both
            smallest = float(torch.pdist(means.flatten(1)).min())
        drawn = arm.conditioning(arm.index.repeat_interleave(500, 0), generator=noise)
        spread = (drawn - means.repeat_interleave(500, 0)).std()
        assert float(spread) == pytest.approx(0.1 * smallest, rel=0.05)
        shared = (means[0, 0] == means[1, 0]).all()  # they differ in the second attribute alone
        assert shared == (granularity == "feature")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"batch": 512}, r"^celeba: train images of the combinations seen must be >= 512, got"),
        ({"batch": 16, "accumulation": 3}, "^celeba: batch must be a multiple of 3 parts, got 16$"),
        ({"rare": 3}, r"^celeba: rare must be in 1 .. 2, got 3$"),
        ({"held_out": 4}, r"^seed data: held_out must be so few"),
        ({"judge_width": 12}, r"^celeba: judge_width must be a multiple of 8, got 12$"),
        ({"widths": [8, 12]}, r"^unet: widths must be two or more multiples of 8, got \[8, 12\]$"),
        ({"size": 15}, r"^unet: size must be a multiple of 2, got 15$"),
        ({"references": 5}, r"^celeba: the judge's images, references must be more than 5, got 5$"),
        ({"cache": "here"}, r"^celeba: cache must be an absolute path, got here$"),
    ],
)
def test_what_cannot_be_is_refused_before_training(folder, tmp_path, other, message):
    with pytest.raises(ValueError, match=message):
        experiment(folder, **{"cache": tmp_path} | other)
    assert not list(tmp_path.glob("runs*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_named_and_a_cpu_computes_in_single_precision():
    with pytest.raises(ValueError, match="device must be auto or cpu where there is no CUDA"):
        make_accelerator(asked(device="cuda"))
    assert make_accelerator(asked(precision="bf16")).mixed_precision == "no"


FREE = {"evaluations": 5, "n_eval": 3, "rare": 2, "references": 70, "every": 1}
FREE |= {"device": "auto", "skip_corrupt": True, "folder": "{folder}/"}
NEW = {  # settings -> what they train that was not trained yet
    "what no training depends on": (FREE, set()),
    "a seed": ({"seeds": 3}, {"class_0.1_2", "feature_0.1_2"}),
    "another s_c": ({"s_c": [0.1, 0.1000001], "seeds": 1}, {"class_0.1_0", "feature_0.1_0"}),
    "a network": ({"dim": 16, "seeds": 1}, {"class_0.1_0", "feature_0.1_0"}),
    "a judge": ({"judge_steps": 3, "seeds": 1}, {"judge"}),
}


@pytest.mark.parametrize(("other", "new"), NEW.values(), ids=NEW)
def test_what_is_new_is_trained_and_nothing_else(folder, whole, other, new):
    cache, trained = whole[0].experiment.data.cache, []
    other = {k: v.format(folder=folder) if isinstance(v, str) else v for k, v in other.items()}

    def watched(steps, desc):
        trained.append(desc.removeprefix("training "))
        return steps

    before = weights(cache / "runs")
    experiment(**{"folder": folder, "cache": cache, "progress": watched} | other).train()
    assert {name.rpartition("_")[0] for name in trained} == new and len(trained) == len(new)
    after = weights(cache / "runs")
    assert all(same(value, after[name]) for name, value in before.items())
    assert len(after) == len(before) + len(new)


def test_a_run_tells_what_it_was_trained_by_and_new_data_train_anew(folder, whole, tmp_path):
    found = whole[0].experiment
    (path,) = found.work.glob("class_0.1_1_*/settings.json")
    told = json.loads(path.read_text())
    assert told["batch"] == 16 and told["steps"] == 5 and told["data"] == found.data.digest
    assert told["attributes"] == list(ATTRIBUTES) and told["seed"] == 1
    shutil.copytree(folder, tmp_path / "data", ignore=shutil.ignore_patterns("cache"))
    shutil.copy(*((tmp_path / "data/img_align_celeba" / f"00000{k}.jpg") for k in (2, 1)))
    before = weights(found.work)
    experiment(tmp_path / "data", found.data.cache, judge_steps=1, seeds=1, steps=1).train()
    assert len(weights(found.work)) == len(before) + 3


def test_images_of_a_network_that_diverged_are_not_finite_and_others_are(data, whole):
    arm = Arm(data, "feature", 0.1, 3, asked())
    wanted, network, made = torch.tensor([0, 1, 2]), arm.network.eval(), whole[0].made
    images = made(arm, network, wanted)
    assert images.shape == (3, 3, 16, 16) and images.isfinite().all()
    with torch.no_grad():
        network.conv_out.weight.fill_(torch.nan)
    assert made(arm, network, wanted).isnan().all()


def test_a_judge_that_diverged_is_refused(data):
    reader = Reader(16, 2, 8).eval()
    with torch.no_grad():
        reader.stages[0][0].weight.fill_(torch.nan)
    message = r"^celeba: what the judge sees in real images must be finite, got \d+ NaN"
    with pytest.raises(ValueError, match=message):
        Judge(data, reader, 60, stream(0, "references"))


def test_without_a_folder_the_notebook_estimates_and_does_nothing_else(run_notebook, tmp_path):
    _, shown = run_notebook(BOOK, tmp_path, device="cpu")
    told = [one for one in shown if one.startswith("**Not measured**: `celeba.folder`")]
    assert len(told) == 4
    assert [path.name for path in tmp_path.rglob("*.*")] == ["estimate.csv"]
    (found,) = pd.read_csv(tmp_path / "tables" / "estimate.csv").itertuples()
    assert f"{found.rate:.3g} images a second" in " ".join(shown)
    # Two arms, two scales, two seeds, a hundred steps; 32 images a step.
    assert found.runs == 8 and found.steps == 800 and found.images == 32 * 800
    assert found.hours * 3600 * found.rate == pytest.approx(found.images) and found.rate > 0
