"""The runner: parameters refused before the kernel starts, results installed whole, bytes that repeat."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
import yaml

from gmmdiff import execution, theory

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "01_theory_checks.ipynb"


def notebook(path, *sources):
    """A notebook whose first cell is its parameters cell."""
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def arguments(tmp_path, book, params, stage="stage"):
    """The command line of one run, its params.yaml written."""
    (tmp_path / "params.yaml").write_text(params if isinstance(params, str) else yaml.safe_dump(params))
    return [str(book), stage, "--params", str(tmp_path / "params.yaml"), "--reports", str(tmp_path / "reports")]


def run(*case):
    """Exit code and standard error of one run in a process of its own."""
    command = [sys.executable, "-m", "gmmdiff.execution", *arguments(*case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


BAD = {
    "unknown": ({"thetas": [1.0]}, "unknown parameter thetas; allowed: affine_lower, "),
    "text for a number": ({"n_line": "many"}, "parameter n_line must be int in [2, 100000], got 'many'"),
    "real for a whole": ({"n_line": 2.5}, "parameter n_line must be int in [2, 100000], got 2.5"),
    "truth for a number": ({"n_line": True}, "parameter n_line must be int in [2, 100000], got True"),
    "negative scale": ({"s_single": -1.0}, "parameter s_single must be float in (0, inf), got -1.0"),
    "NaN": ({"s_max": float("nan")}, "parameter s_max must be float in (0, inf), got nan"),
    "empty grid": ({"line_thetas": []}, "parameter line_thetas must be a non-empty list[float] in (0, 20], got []"),
    "one bad element": ({"diffusion_times": [0.0, 1.5]}, "diffusion_times must be a non-empty list[float] in [0, 1]"),
    "number for a list": ({"dimensions": 8}, "parameter dimensions must be a non-empty list[int] in [5, 1024], got 8"),
    "too small": ({"dimensions": [4]}, "parameter dimensions must be a non-empty list[int] in [5, 1024], got [4]"),
}


@pytest.mark.parametrize(("values", "message"), BAD.values(), ids=BAD)
def test_bad_parameters_are_named(values, message):
    with pytest.raises(execution.BadInput) as error:
        execution.check_parameters(NOTEBOOK, values)
    assert message in str(error.value) and str(NOTEBOOK) in str(error.value)


def test_published_parameters_are_good():
    for stage, book in (("theory_checks", "01_theory_checks"), ("report", "04_report")):
        execution.stage_parameters(ROOT / "params.yaml", stage, ROOT / "notebooks" / f"{book}.ipynb", {})


FILES = {
    "missing notebook": ("none.ipynb", {"stage": {}}, "none.ipynb: no such notebook"),
    "missing section": ("book.ipynb", {"other": {}}, "section stage must be a mapping of parameters"),
    "not YAML": ("book.ipynb", "stage: [", "params.yaml: not valid YAML"),
    "device": ("book.ipynb", {"device": "tpu", "stage": {}}, "device must be one of auto, cpu, cuda, got 'tpu'"),
}


@pytest.mark.parametrize(("book", "params", "message"), FILES.values(), ids=FILES)
def test_bad_files_stop_with_one_line_and_touch_nothing(tmp_path, capsys, book, params, message):
    notebook(tmp_path / "book.ipynb", "n: int = 1  # a number")
    code = execution.main(arguments(tmp_path, tmp_path / book, params))
    error = capsys.readouterr().err
    assert code == 2 and message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "reports").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_named():
    with pytest.raises(execution.BadInput, match="device is cuda, but this machine has no CUDA device; allowed here: auto, cpu"):
        execution.resolve_device("cuda")
    assert execution.resolve_device("auto") == "cpu"


def test_a_failing_cell_is_named_and_leaves_earlier_results(tmp_path):
    source = (
        "from gmmdiff.execution import Results\nimport pandas as pd\n"
        "Results('stage').table('one', pd.DataFrame({'n': [n]}))"
    )  # fmt: skip
    book = notebook(tmp_path / "book.ipynb", "n: int = 1  # a number", source, "assert n < 5, 'n is too large'")
    code, error = run(tmp_path, book, {"stage": {}})
    assert code == 0, error
    before = (tmp_path / "reports" / "tables" / "stage" / "one.csv").read_bytes()
    code, error = run(tmp_path, book, {"stage": {"n": 7}})
    assert code == 1
    assert "book.ipynb: cell [4] failed: AssertionError: n is too large" in error
    assert (tmp_path / "reports" / "tables" / "stage" / "one.csv").read_bytes() == before == b"n\n1\n"


def test_progress_reaches_the_terminal_and_not_the_notebook(tmp_path):
    source = "from gmmdiff.execution import progress\nfor i in progress(range(3), desc='working on it'): pass"
    book = notebook(tmp_path / "book.ipynb", "n: int = 1  # a number", source)
    code, error = run(tmp_path, book, {"stage": {}})
    assert code == 0 and "working on it" in error
    assert "working on it:" not in (tmp_path / "reports" / "notebooks" / "stage.ipynb").read_text()


SMALL = {
    "n_marginal": 2000, "sampler_steps": [10, 20, 40], "dimensions": [5], "diffusion_times": [0.0, 0.8], "n_latent": 16,
    "permutations": 99, "line_thetas": [0.1, 1.0], "line_widths": [0.0, 0.1], "n_line": 16, "line_repeats": 3,
    "affine_scales": [1, 16], "affine_lower": [0.05, 0.5], "descent_steps": 100, "helix_points": 8, "helix_steps": 5,
    "complexity_dimensions": [2], "complexity_sizes": [16, 32], "complexity_repeats": 4,
}  # fmt: skip


def test_two_runs_are_byte_identical(tmp_path):
    """The theory notebook and the report, twice, in two folders: every output but the machine's record."""
    found = []
    for attempt in ("a", "b"):
        folder = tmp_path / attempt
        folder.mkdir()
        code, error = run(folder, NOTEBOOK, {"theory_checks": SMALL}, "theory_checks")
        assert code == 0, error
        files = sorted(p for p in (folder / "reports").rglob("*") if p.is_file() and p.parent.name != "environment")
        found.append({str(p.relative_to(folder)): p.read_bytes() for p in files})
    assert len(found[0]) == 2 * 6 + 11 + 1
    assert [path for path in found[0] if found[0][path] != found[1].get(path)] == []


@pytest.mark.parametrize(("book", "stage"), [("01_theory_checks", "theory_checks"), ("04_report", "report")])
def test_notebooks_run_at_quick_look_size_without_warnings(tmp_path, book, stage):
    """Papermill smoke test: the committed defaults, in a real kernel; no cell writes to standard error."""
    code, error = run(tmp_path, ROOT / "notebooks" / f"{book}.ipynb", {stage: {}}, stage)
    assert code == 0, error
    executed = nbformat.read(tmp_path / "reports" / "notebooks" / f"{stage}.ipynb", 4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert outputs and not [o for o in outputs if o.get("name") == "stderr"]
    record = json.loads((tmp_path / "reports" / "environment" / f"{stage}.json").read_text())
    assert record["seconds"] > 0 and record["packages"]["torch"] == torch.__version__


@pytest.mark.parametrize("check", [lambda: theory.line_costs([], [0.0], {}), lambda: theory.refine([])])
def test_an_empty_theta_grid_is_named(check):
    with pytest.raises(ValueError, match="thetas must be at least one number > 0, got an empty grid"):
        check()
