"""params.yaml: every malformed file is refused with one clear line, before anything runs."""

import copy
import re

import pytest
import torch
import yaml

from gmmdiff.pipeline import check_parameters
from gmmdiff.pipeline.execution import parameters
from gmmdiff.pipeline.execution.errors import BadInput
from tests.paths import ROOT

GOOD = parameters.read_params(ROOT / "params.yaml")


def put(path, value):
    """The published parameters with one of them changed, as YAML; ``path`` reads section.name."""
    content = copy.deepcopy(GOOD)
    *sections, name = path.split(".")
    (content[sections[0]] if sections else content)[name] = value
    return yaml.safe_dump(content)


def without(path):
    content = copy.deepcopy(GOOD)
    del content[path]
    return yaml.safe_dump(content)


TEXT = (ROOT / "params.yaml").read_text()
BAD = {  # params.yaml -> what its one line has to say
    "empty": ("", "must be a mapping of seed, device and sections, got None"),
    "a list": ("- 1\n- 2\n", "must be a mapping of seed, device and sections"),
    "a text": ("hello", "must be a mapping of seed, device and sections"),
    "no YAML": ("seed: [1, 2", "not valid YAML: line 1: "),
    "a tab": ("seed:\t1\n\tdevice: auto\n", "not valid YAML: line 1: found character"),
    "a key twice": ("seed: 1\nseed: 2\n", 'not valid YAML: line 2: found duplicate key "seed"'),
    "a misspelt key": (TEXT + "\nsead: 1\n", "unknown key sead; allowed: seed, device, "),
    "a missing section": (
        without("ngmg_stability"),
        "section ngmg_stability must be a mapping of parameters, got None",
    ),
    "a section that is a number": (
        put("theory_checks", 3),
        "section theory_checks must be a mapping of parameters, got 3",
    ),
    "an unknown device": (put("device", "tpu"), "device must be one of auto, cpu, cuda, got 'tpu'"),
    "a negative seed": (put("seed", -1), "parameter seed must be int in [0, inf), got -1"),
    "a fractional seed": (put("seed", 1.5), "parameter seed must be int in [0, inf), got 1.5"),
    "an unknown parameter": (
        put("theory_checks.thetas", [1.0]),
        "section theory_checks: unknown parameter thetas; allowed: affine_lower, ",
    ),
    "a text for a number": (
        put("theory_checks.n_line", "many"),
        "parameter n_line must be int in [2, 100000], got 'many'",
    ),
    "a fraction for a whole number": (
        put("theory_checks.n_line", 2.5),
        "parameter n_line must be int in [2, 100000], got 2.5",
    ),
    "a truth for a number": (
        put("theory_checks.n_line", True),
        "parameter n_line must be int in [2, 100000], got True",
    ),
    "nothing": (
        put("theory_checks.n_line", None),
        "parameter n_line must be int in [2, 100000], got None",
    ),
    "a negative scale": (
        put("theory_checks.s_single", -1.0),
        "parameter s_single must be float in (0, inf), got -1.0",
    ),
    "not a number": (
        put("theory_checks.s_max", float("nan")),
        "parameter s_max must be float in (0, inf), got nan",
    ),
    "an infinite scale": (
        put("theory_checks.s_max", float("inf")),
        "parameter s_max must be float in (0, inf), got inf",
    ),
    "an empty grid": (
        put("theory_checks.line_thetas", []),
        "parameter line_thetas must be a non-empty list[float] in (0, 20], got []",
    ),
    "one bad element": (
        put("theory_checks.diffusion_times", [0.0, 1.5]),
        "diffusion_times must be a non-empty list[float] in [0, 1]",
    ),
    "a number for a list": (
        put("theory_checks.dimensions", 8),
        "dimensions must be a non-empty list[int] in [5, 1024], got 8",
    ),
    "too few dimensions": (
        put("theory_checks.dimensions", [4]),
        "dimensions must be a non-empty list[int] in [5, 1024], got [4]",
    ),
    "scales in the wrong order": (
        put("theory_checks.s_min", 30.0),
        "s_min, s_max must be 0 < s_min < s_max, got (30.0, 20.0)",
    ),
    "no start of diffusion": (
        put("theory_checks.diffusion_times", [0.5]),
        "diffusion_times must be 0, where T2 is judged, and others",
    ),
    "no thin lines": (
        put("theory_checks.line_widths", [0.1]),
        "line_widths must be 0 and others, got [0.1]",
    ),
    "a range upside down": (
        put("theory_checks.affine_lower", [0.1, 5.0]),
        "affine_lower must be below affine_upper = 3.0",
    ),
    "no single component": (
        put("theory_checks.affine_scales", [2, 16]),
        "affine_scales must be 1, n_scales = 16 and others, got [2, 16]",
    ),
    "a start that is a pair": (
        put("theory_checks.helix_starts", [[1.0, 2.0]]),
        "helix_starts must be triples of translation, turn and scale > 0",
    ),
    "one sample size": (
        put("theory_checks.complexity_sizes", [64, 64]),
        "complexity_sizes must be at least 2 distinct numbers, got [64, 64]",
    ),
    "one size with a W1": (
        put("theory_checks.law_sizes", [64, 2048, 4096]),
        "law_sizes must be at least 2 distinct numbers up to transported = 1024, the largest with",
    ),
    "one seed": (
        put("feature_vs_class.seeds", 1),
        "parameter seeds must be int in [2, 1000], got 1",
    ),
    "more controls than what is judged": (
        put("feature_vs_class.control_seeds", 21),
        "control_seeds must be in 1 .. seeds, which is 20, got 21",
    ),
    "too few points": (
        put("feature_vs_class.n_train", 5),
        "parameter n_train must be int in [14, 10000000], got 5",
    ),
    "points too few to be dense": (
        put("feature_vs_class.n_train", 200),
        "n_train must be judged dense, from 30 samples a combination on dense, got only sparse",
    ),
    "mixtures of no scale": (
        put("feature_vs_class.s_c", 0.0),
        "parameter s_c must be float in (0, 10], got 0.0",
    ),
    "mixtures of a negative scale": (
        put("faces.s_c", -0.1),
        "parameter s_c must be float in (0, 10], got -0.1",
    ),
    "all rare": (
        put("feature_vs_class.rare", 15),
        "rare must be in 0 .. 14, the combinations seen, got 15",
    ),
    "a flat manifold": (
        put("feature_vs_class.dimension", 4),
        "parameter dimension must be int in [5, 1024], got 4",
    ),
    "no decay": (
        put("feature_vs_class.ema", 1.0),
        "parameter ema must be float in [0, 1), got 1.0",
    ),
    "a negative weight of the cost": (
        put("ngmg_stability.lam", [0.0, -1.0]),
        "lam must be a non-empty list[float] in [0, 1000], got [0.0, -1.0]",
    ),
    "nine attributes": (
        put("faces.attributes", 9),
        "parameter attributes must be int in [2, 8], got 9",
    ),
    "one size twice": (
        put("faces.n_train", [1000, 1000, 4000]),
        "n_train, steps must be distinct sizes, and steps for each, got [1000, 1000, 4000, 1000, ",
    ),
    "steps missing": (
        put("digits.steps", [1500]),
        "digits: steps must be one for each n_train, got [1500]",
    ),
    "judged at a size of its own": (
        put("faces.judged_n_train", [1000, 2000]),
        "judged_n_train must be of n_train [250, 1000, 4000], got [1000, 2000]",
    ),
    "a story where nothing is judged": (
        put("faces.story_n_train", 250),
        "story_n_train must be one of judged_n_train [1000, 4000], got 250",
    ),
    "a story told backwards": (
        put("faces.story", [800, 400]),
        "story must be increasing numbers of steps, got [800, 400]",
    ),
    "a story between two looks": (
        put("faces.story", [390, 800]),
        "checkpoints must be multiples of 20, at most steps, got (390, 800)",
    ),
    "images too small": (put("faces.size", 12), "parameter size must be int in [16, 64], got 12"),
    "nothing held out": (
        put("faces.held_out", 0.001),
        "held_out must be at least one combination, got 0",
    ),
    "all held out": (
        put("faces.held_out", 0.99),
        "held_out must be so few that others show every value of every attribute, got 63",
    ),
    "only dense": (
        put("digits.n_train", [4000, 5000]),
        "n_train must be judged dense and sparse, from 30 samples a combination on dense, got only",
    ),
    "no images for the test": (
        put("digits.judge", 0.6),
        "train, validation, judge must be shares > 0 that leave images for the test, got",
    ),
    "no images that choose the weights": (
        put("digits.validation", 0.0),
        "parameter validation must be float in (0, 1), got 0.0",
    ),
    "an unknown world": (
        put("celebrities", {"seeds": 20}),
        "unknown key celebrities; allowed: seed, device, cluster, start_here, theory",
    ),
    "no reference on faces": (
        put("ngmg_faces.lam", [1.0, 3.0]),
        "ngmg_faces: lam must be 0 (no cost), 1 (where N5 is asked) and larger or smaller ones",
    ),
    "no reference": (
        put("ngmg_stability.lam", [0.1, 1.0]),
        "ngmg_stability: lam must be 0 (no cost), 1 (where N5 is asked) and larger or smaller ones",
    ),
    "matched where nothing is trained": (
        put("ngmg_faces.matched_lam", [3.0]),
        "choosing_lam must be with every lambda > 0 of lam [0.0, 0.1, 1.0, 10.0], and matched_lam ",
    ),
    "matched twice": (
        put("ngmg_faces.matched_lam", [1.0, 1.0]),
        "matched_lam must be distinct numbers > 0, got [1.0, 1.0]",
    ),
    "a weight that none chooses": (
        put("ngmg_faces.choosing_lam", [1.0, 10.0]),
        "and matched_lam among them, got [1.0, 10.0]",
    ),
    "more of the others than of the judged": (
        put("ngmg_stability.other_seeds", 21),
        "other_seeds must be in 1 .. seeds = 20, got 21",
    ),
    "one joint rate twice": (
        put("ngmg_stability.joint_learning_rate", [0.01, 0.01]),
        "joint_learning_rate must be distinct levels, got [0.01, 0.01]",
    ),
    "learning rate zero": (
        put("ngmg_stability.learning_rate", [0.0]),
        "learning_rate must be a non-empty list[float] in (0, 100], got [0.0]",
    ),
    "noise above one half": (
        put("ngmg_stability.label_noise", [0.7]),
        "label_noise must be a non-empty list[float] in [0, 0.5], got [0.7]",
    ),
    "one noise twice": (
        put("ngmg_stability.label_noise", [0.2, 0.2]),
        "label_noise must be distinct levels, got [0.2, 0.2]",
    ),
    "evaluations between two steps": (
        put("performance.evaluations", [30]),
        "section performance: performance: evaluations must be divisors of 1000, got [30]",
    ),
    "one number of rows twice": (
        put("performance.rows", [4, 4]),
        "rows must be distinct numbers, got [4, 4]",
    ),
    "a U-Net that cannot be": (
        put("in_your_own_model.widths", [16, 20]),
        "section in_your_own_model: unet: widths must be two or more multiples of 8, got [16, 20]",
    ),
    "images that cannot be halved": (
        put("in_your_own_model.widths", [8, 8, 8, 8, 8, 8]),
        "section in_your_own_model: unet: size must be a multiple of 32, got 16",
    ),
    "all combinations held out": (
        put("in_your_own_model.held_out", 64),
        "in_your_own_model: held_out must be below 64, so that some are seen, got 64",
    ),
    "one guidance twice": (
        put("in_your_own_model.guidance", [2.0, 2.0]),
        "in_your_own_model: guidance must be distinct numbers, got [2.0, 2.0]",
    ),
    "an attribute that CelebA has not": (
        put("celeba.attributes", ["Smirking"]),
        "section celeba: parameter attributes must be a non-empty list[str] one of 5_o_Clock_Sh",
    ),
    "a folder from somewhere": (
        put("celeba.folder", "data/celeba"),
        "section celeba: celeba: folder must be an absolute path, got data/celeba",
    ),
    "no CelebA in the folder": (
        put("celeba.folder", "/nowhere/celeba"),
        "section celeba: CelebA: folder must be one that holds list_attr_celeba.txt or .csv, got",
    ),
    "a source that is a number": (
        put("report.source", 3),
        "section report: parameter source must be str, got 3",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_malformed_file_is_one_clear_line(tmp_path, capsys, text, message):
    (tmp_path / "params.yaml").write_text(text)
    code = check_parameters.main(
        ["--params", str(tmp_path / "params.yaml"), "--reports", str(tmp_path / "reports")]
    )
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.startswith("error: ") and "params.yaml" in error
    assert len(error.strip().splitlines()) == 1 and not (tmp_path / "reports").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"none.yaml: no such file"):
        check_parameters.check_file(tmp_path / "none.yaml")


def test_the_published_file_is_good_and_listed(tmp_path):
    """Each parameter of params.yaml has a type, a range and a meaning, and the list shows its
    value.
    """
    arguments = ["--params", str(ROOT / "params.yaml"), "--reports", str(tmp_path)]
    assert check_parameters.main(arguments) == 0
    first = (tmp_path / "parameters.ok").read_bytes()
    rows = [line.split(" | ") for line in (tmp_path / "parameters.md").read_text().splitlines()[4:]]
    listed = {(row[0].removeprefix("| "), row[1].strip("`")): row for row in rows}
    for section in check_parameters.SECTIONS:
        for name, value in GOOD[section].items():
            row = listed[section, name]
            assert row[2] and len(row[4]) > 3 and row[5] == f"`{value}`"
            assert row[3] or row[2] == "str" or name == "helix_starts", (section, name)
    (tmp_path / "params.yaml").write_text(put("theory_checks.n_line", 65))
    assert (
        check_parameters.main(
            ["--params", str(tmp_path / "params.yaml"), "--reports", str(tmp_path)]
        )
        == 0
    )
    assert (
        tmp_path / "parameters.ok"
    ).read_bytes() == first  # so that no other stage becomes stale


def test_one_part_declares_what_its_experiment_does():
    """02a and 03a take the parameters of 02 and 03, line by line; 03a is told which part."""
    for part, whole in (
        ("02a_feature_vs_class_runs", "02_feature_vs_class"),
        ("03a_ngmg_stability_runs", "03_ngmg_stability"),
    ):
        one, other = (
            parameters.declared_parameters(ROOT / "notebooks" / f"{name}.ipynb")
            for name in (part, whole)
        )
        one.pop("part", None)
        assert other.pop("finished") and one == other


def test_a_bad_override_names_the_notebook():
    book = ROOT / "notebooks" / "02a_feature_vs_class_runs.ipynb"
    with pytest.raises(
        BadInput, match=re.escape(f"{book}: parameter width must be int in [1, 8192], got 'wide'")
    ):
        parameters.stage_parameters(
            ROOT / "params.yaml", "feature_vs_class", book, {"width": "wide"}
        )


def test_an_override_of_a_text_stays_text():
    book = ROOT / "notebooks" / "02c_digits_runs.ipynb"
    found = parameters.stage_parameters(ROOT / "params.yaml", "digits", book, {"part": "20"})
    assert found["part"] == "20"


def test_a_notebook_without_parameters_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"none.ipynb: no such notebook"):
        parameters.declared_parameters(tmp_path / "none.ipynb")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_named():
    with pytest.raises(
        BadInput,
        match="device is cuda, but this machine has no CUDA device; allowed here: auto, cpu",
    ):
        parameters.resolve_device("cuda")
    assert parameters.resolve_device("auto") == "cpu"
