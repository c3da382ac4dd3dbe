"""params.yaml: every malformed file is refused with one clear line, before anything runs."""

import re

import pytest
import torch
import yaml

from gmmdiff.pipeline import check_parameters
from gmmdiff.pipeline.errors import BadInput, exit_code
from gmmdiff.pipeline.parameters import (
    Parameter,
    declared_parameters,
    defaults,
    read_params,
    require_declared,
    stage_parameters,
)
from tests.paths import ROOT
from tests.pipeline.small_stages import notebook

GOOD = read_params(ROOT / "params.yaml")
CELL = """seed: int = 0  # the first seed of the runs; in [0, inf)
n: int = 3  # how many, here n = m; in [2, 8]
rate: float = 1e-3  # of Adam; in (0, 1)
rates: list[float] = [
    0.1,
    0.2,
]  # the same; in [0, 1]
arm: str = "class"  # which; one of class, feature
part: str = "a = b"  # which part
draw: bool = False  # whether
"""


@pytest.fixture
def book(tmp_path):
    return notebook(tmp_path / "book.ipynb", CELL)


def test_a_parameters_cell_is_python_whatever_its_comments_hold(book):
    declared = declared_parameters(book)
    assert declared["n"] == Parameter("int", "3", "how many, here n = m", "in [2, 8]")
    assert declared["part"] == Parameter("str", '"a = b"', "which part", "")
    assert declared["rates"].allowed == "in [0, 1]" and len(declared) == 7
    assert defaults(book)["rates"] == [0.1, 0.2] and defaults(book)["draw"] is False
    require_declared(declared, {"n": 8, "rate": 0.5, "rates": [0, 1.0], "arm": "feature"}, book)


def test_every_question_that_reproducing_asks_is_accepted(tmp_path):
    text, path = (ROOT / "REPRODUCING.md").read_text(), tmp_path / "params.yaml"
    asked = re.findall(r"-S \"?\+?(\w+)\.(\w+)=(.*?)\"?\n", text)
    assert len(asked) == 3
    for section, name, value in asked:
        path.write_text(yaml.dump(GOOD | {section: GOOD[section] | {name: yaml.safe_load(value)}}))
        sections, trained = check_parameters.check_file(path)
        assert sections[section][name] == yaml.safe_load(value)
        check_parameters.require_stages(ROOT / "dvc.yaml", trained)


VALUES = [  # parameter, value, what it must be
    ("n", "many", "int in [2, 8], got 'many'"),
    ("n", 2.5, "int in [2, 8], got 2.5"),
    ("n", True, "int in [2, 8], got True"),
    ("n", None, "int in [2, 8], got None"),
    ("n", 9, "int in [2, 8], got 9"),
    ("rate", 0.0, "float in (0, 1), got 0.0"),
    ("rate", 1, "float in (0, 1), got 1"),
    ("rate", float("nan"), "float in (0, 1), got nan"),
    ("seed", float("inf"), "int in [0, inf), got inf"),
    ("rates", [], "a non-empty list[float] in [0, 1], got []"),
    ("rates", [0.5, 1.5], "a non-empty list[float] in [0, 1], got [0.5, 1.5]"),
    ("rates", 0.5, "a non-empty list[float] in [0, 1], got 0.5"),
    ("arm", "classes", "str one of class, feature, got 'classes'"),
    ("part", 20, "str, got 20"),
    ("draw", 1, "bool, got 1"),
]


@pytest.mark.parametrize(("name", "value", "message"), VALUES)
def test_a_value_of_another_type_or_range_is_named(book, name, value, message):
    with pytest.raises(BadInput, match=re.escape(f"here: parameter {name} must be {message}")):
        require_declared(declared_parameters(book), {name: value}, "here")


def test_what_the_command_line_overrides(book, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("seed: 5\nstage: {n: 4}")
    overrides = {"part": "20", "rates": "[1e-5, 1]", "draw": "True"}
    given = {"seed": 5, "n": 4, "part": "20", "rates": [1e-5, 1], "draw": True}
    assert stage_parameters(params, "stage", book, overrides) == given
    assert stage_parameters(params, "", book) == {"seed": 5}
    for override, message in (
        ({"n": "wide"}, f"{book}: parameter n must be int in [2, 8], got 'wide'"),
        ({"m": "1"}, f"{book}: unknown parameter m; allowed: arm, draw, n, "),
    ):
        with pytest.raises(BadInput, match=re.escape(message)):
            stage_parameters(params, "stage", book, override)


def test_a_notebook_without_parameters_is_named(book):
    book.write_text(book.read_text().replace('"parameters"', '"other"'))
    with pytest.raises(BadInput, match=r"book.ipynb: no cell is tagged `parameters`"):
        declared_parameters(book)


def refused(folder, capsys, text):
    """The one line with which the command refuses a params.yaml; nothing has been made."""
    params = folder / "params.yaml"
    params.write_text(text)
    code = exit_code(check_parameters.main, params, folder / "reports")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and line.startswith(f"error: {params}") and not (folder / "reports").exists()
    return line


def changed(**values):
    return yaml.safe_dump(GOOD | values)


FILES = {
    "empty": ("", "must be a mapping of seed, device and sections, got None"),
    "a text": ("hello", "must be a mapping of seed, device and sections, got 'hello'"),
    "no YAML": ("seed: [1, 2", "not valid YAML: line 1: "),
    "a tab": ("seed:\t1\n\tdevice: auto\n", "not valid YAML: line 1: found character"),
    "a key twice": ("seed: 1\nseed: 2\n", 'not valid YAML: line 2: found duplicate key "seed"'),
    "a misspelt key": (changed(sead=1), "unknown key sead; allowed: seed, device, cluster, start"),
    "no section": (changed(start_here=None), "section start_here must be a mapping of parameters"),
    "an unknown device": (changed(device="tpu"), "device must be one of auto, cpu, cuda"),
    "a negative seed": (changed(seed=-1), "parameter seed must be int in [0, inf), got -1"),
}


@pytest.mark.parametrize(("text", "message"), FILES.values(), ids=FILES)
def test_a_malformed_file_is_one_clear_line(tmp_path, capsys, text, message):
    assert message in refused(tmp_path, capsys, text)


COMBINATIONS = [  # section, parameter, value, what the line has to say
    ("theory_checks", "s_min", 30.0, "s_min, s_max must be 0 < s_min < s_max, got (30.0, 20.0)"),
    ("theory_checks", "diffusion_times", [0.5], "must be 0, where T2 is judged, and others"),
    ("theory_checks", "line_widths", [0.1], "line_widths must be 0 and others, got [0.1]"),
    ("theory_checks", "affine_lower", [0.1, 5.0], "must be below affine_upper = 3.0"),
    ("theory_checks", "affine_scales", [2, 16], "must be 1, n_scales = 16 and others"),
    ("theory_checks", "helix_starts", [[1.0, 2.0]], "must be triples of translation, turn and"),
    ("theory_checks", "complexity_sizes", [64, 64], "must be at least 2 distinct numbers"),
    ("theory_checks", "law_sizes", [64, 2048], "distinct numbers up to transported = 1024"),
    ("feature_vs_class", "control_seeds", 21, "must be in 1 .. seeds, which is 20, got 21"),
    ("feature_vs_class", "n_train", 200, "must be judged dense, from 30 samples a combination"),
    ("feature_vs_class", "rare", 15, "rare must be in 0 .. 14, the combinations seen, got 15"),
    ("faces", "n_train", [1000, 1000, 4000], "must be distinct sizes, and steps for each, got"),
    ("faces", "judged_n_train", [1000, 2000], "must be of n_train [250, 1000, 4000], got"),
    ("faces", "story_n_train", 250, "story_n_train must be one of judged_n_train [1000, 4000]"),
    ("faces", "story", [800, 400], "story must be increasing numbers of steps, got [800, 400]"),
    ("faces", "story", [390, 800], "checkpoints must be multiples of 20, at most steps, got"),
    ("faces", "held_out", 0.001, "held_out must be at least one combination, got 0"),
    ("faces", "held_out", 0.99, "so few that others show every value of every attribute, got 63"),
    ("digits", "steps", [1500], "digits: steps must be one for each n_train, got [1500]"),
    ("digits", "n_train", [4000, 5000], "must be judged dense and sparse, from 30 samples"),
    ("ngmg_faces", "lam", [1.0, 3.0], "lam must be 0 (no cost), 1 (where N5 is asked) and"),
    ("ngmg_faces", "matched_lam", [3.0], "choosing_lam must be with every lambda > 0 of lam"),
    ("ngmg_faces", "choosing_lam", [1.0, 10.0], "and matched_lam among them, got [1.0, 10.0]"),
    ("ngmg_stability", "lam", [0.1, 1.0], "lam must be 0 (no cost), 1 (where N5 is asked) and"),
    ("ngmg_stability", "other_seeds", 21, "other_seeds must be in 1 .. seeds = 20, got 21"),
    ("ngmg_stability", "label_noise", [0.2, 0.2], "label_noise must be distinct levels, got"),
]


@pytest.mark.parametrize(("section", "name", "value", "message"), COMBINATIONS)
def test_what_an_experiment_would_refuse_is_one_clear_line(
    tmp_path, capsys, monkeypatch, section, name, value, message
):
    """In a file of that section alone, which is checked sooner."""
    only = {section: check_parameters.SECTIONS[section]}
    monkeypatch.setattr(check_parameters, "SECTIONS", only)
    text = yaml.safe_dump({section: GOOD[section] | {name: value}})
    line = refused(tmp_path, capsys, text)
    assert message in line and f"section {section}: " in line


def test_the_published_file_is_good_and_listed(tmp_path):
    """Each parameter's value is shown; what says that all is good never changes, so that no other
    stage becomes stale.
    """
    params, seen = tmp_path / "params.yaml", []
    for text in ((ROOT / "params.yaml").read_text(), changed(seed=1)):
        params.write_text(text)
        check_parameters.main(params, tmp_path)
        seen.append((tmp_path / "parameters.ok").read_bytes())
        (tmp_path / "parameters.ok").chmod(0o444)  # as DVC leaves it
    assert seen[0] == seen[1]
    rows = [line.split(" | ") for line in (tmp_path / "parameters.md").read_text().splitlines()[4:]]
    listed = {(row[0].removeprefix("| "), row[1].strip("`")): row[5] for row in rows}
    for section in check_parameters.SECTIONS:
        for name, value in GOOD[section].items():
            assert listed[section, name] == f"`{value}`"


def test_parts_without_a_stage_and_stages_without_a_part_are_named(tmp_path):
    file, require = tmp_path / "dvc.yaml", check_parameters.require_stages
    stages = {part: {"section": "faces", "part": part} for part in ("map_4", "map_5")}
    file.write_text(yaml.safe_dump({"stages": {"train": {"foreach": stages}}}))
    require(file, [("faces", "map_5"), ("faces", "map_4")])
    for wanted, message in ((4, 5, 6), "list map_6"), ((4,), "leave out map_5"):
        with pytest.raises(BadInput, match=rf"dvc\.yaml: stage train must {message} of faces"):
            require(file, [("faces", f"map_{m}") for m in wanted])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_named(book, tmp_path):
    (tmp_path / "params.yaml").write_text("device: cuda\nstage: {}")
    message = r"params\.yaml: device must be auto or cpu where there is no"
    with pytest.raises(BadInput, match=message):
        stage_parameters(tmp_path / "params.yaml", "stage", book)
