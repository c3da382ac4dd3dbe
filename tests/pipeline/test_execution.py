"""The runner: parameters refused before the kernel starts, results installed whole, bytes that
repeat.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
import yaml

from gmmdiff.experiments.theory import costs, lines
from gmmdiff.figures import theory as figures
from gmmdiff.pipeline.execution import runner
from gmmdiff.pipeline.execution.parameters import used_parameters
from tests.paths import ROOT

IMPORT = "from gmmdiff.pipeline.results import"


def notebook(path, *sources):
    """A notebook whose first cell is its parameters cell."""
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def arguments(tmp_path, book, params, stage="stage"):
    """The command line of one run, its params.yaml written."""
    (tmp_path / "params.yaml").write_text(
        params if isinstance(params, str) else yaml.safe_dump(params)
    )
    return [
        str(book),
        stage,
        "--params",
        str(tmp_path / "params.yaml"),
        "--reports",
        str(tmp_path / "reports"),
    ]


def one_part(folder, **shared):
    """The command line of a small part of an experiment: the stage `runs/20`."""
    small = {"n_train": 20, "steps": 40, "width": 8, "n_eval": 2, "evaluations": 8}
    book = ROOT / "notebooks" / "02a_feature_vs_class_runs.ipynb"
    command = arguments(folder, book, shared | {"feature_vs_class": small}, "runs/20")
    return [*command, "--section", "feature_vs_class"]


@pytest.fixture
def run(tmp_path, capfd):
    """Runs a stage with these parameters; its exit code and what the terminal saw."""

    def run(book, params, stage="stage"):
        code = runner.main(arguments(tmp_path, book, params, stage))
        return code, capfd.readouterr().err

    return run


def test_used_parameters_are_the_defaults_and_what_was_injected_over_them(tmp_path, run):
    book = notebook(
        tmp_path / "book.ipynb",
        'n: int = 1  # a number; in [0, 9]\nname: str = "x"  # a name\n'
        "r: list[float] = [0.5]  # rates",
    )
    assert run(book, {"stage": {"n": 2, "r": [1e-5, 3]}})[0] == 0
    used = used_parameters(tmp_path / "reports" / "notebooks" / "stage.ipynb")
    assert {name: found["value"] for name, found in used.items()} == {
        "n": "2",
        "name": '"x"',
        "r": "[1e-05, 3]",
    }
    assert used["n"]["meaning"] == "a number; in [0, 9]"


FILES = {
    "missing notebook": ("none.ipynb", {"stage": {}}, "none.ipynb: no such notebook"),
    "missing section": (
        "book.ipynb",
        {"other": {}},
        "section stage must be a mapping of parameters, got None",
    ),
}


@pytest.mark.parametrize(("book", "params", "message"), FILES.values(), ids=FILES)
def test_bad_files_stop_with_one_line_and_touch_nothing(tmp_path, capsys, book, params, message):
    notebook(tmp_path / "book.ipynb", "n: int = 1  # a number")
    code = runner.main(arguments(tmp_path, tmp_path / book, params))
    error = capsys.readouterr().err
    assert code == 2 and message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "reports").exists()


def test_a_failing_cell_is_named_and_leaves_earlier_results(tmp_path, run):
    source = (
        "from gmmdiff.pipeline.results import Results\nimport pandas as pd\n"
        "Results('stage').table('one', pd.DataFrame({'n': [n]}))"
    )
    book = notebook(
        tmp_path / "book.ipynb", "n: int = 1  # a number", source, "assert n < 5, 'n is too large'"
    )
    before = dict(os.environ)
    code, error = run(book, {"stage": {}})
    assert code == 0, error
    table = tmp_path / "reports" / "tables" / "stage" / "one.csv"
    assert table.read_bytes() == b"n\n1\n"
    code, error = run(book, {"stage": {"n": 7}})
    assert code == 1
    assert "book.ipynb: cell [4] failed: AssertionError: n is too large" in error
    assert table.read_bytes() == b"n\n1\n"
    assert dict(os.environ) == before


def test_links_start_where_the_executed_notebook_is_read():
    links = "[a](b.ipynb) [c](../gmmdiff/c.py) [d](../reports/published/index.html#T1)"
    kept = "[e](https://f.g/h) [i](#1.-J)"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"{links} {kept}")])
    moved = runner.move_links(book, ROOT / "notebooks", runner.SHOWN)
    assert moved.cells[0].source == (
        "[a](../../../notebooks/b.ipynb) [c](../../../gmmdiff/c.py) [d](../index.html#T1) "
        "[e](https://f.g/h) [i](#1.-J)"
    )


def test_an_interruption_is_one_line(tmp_path, run, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_execute", interrupt)
    code, error = run(notebook(tmp_path / "book.ipynb", "n: int = 1  # a number"), {"stage": {}})
    assert (
        code == 130
        and error
        == "error: interrupted; what was finished is kept, the same command goes on from there\n"
    )


def test_progress_reaches_the_terminal_and_not_the_notebook(tmp_path, run):
    source = f"{IMPORT} progress\nfor i in progress(range(3), desc='working on it'): pass"
    code, error = run(
        notebook(tmp_path / "book.ipynb", "n: int = 1  # a number", source), {"stage": {}}
    )
    assert code == 0 and "working on it" in error
    assert "working on it:" not in (tmp_path / "reports" / "notebooks" / "stage.ipynb").read_text()


def test_a_record_tells_when_on_what_and_in_how_much_memory(tmp_path, run):
    """Bars are added up by their first word; nothing of them is among the results."""
    source = (
        f"import time\n{IMPORT} progress\nfor n in (1, 2):\n"
        "    with progress(total=1, desc=f'waiting {n}'): time.sleep(0.2)\n"
        "for i in progress(range(2)): time.sleep(0.1)"
    )
    before = datetime.now(UTC)
    code, error = run(
        notebook(tmp_path / "book.ipynb", "n: int = 1  # a number", source), {"stage": {}}
    )
    assert code == 0, error
    record = json.loads((tmp_path / "reports" / "environment" / "stage.json").read_text())
    started = datetime.fromisoformat(record["started"])
    assert before - timedelta(seconds=1) < started < datetime.now(
        UTC
    ) and started.utcoffset() == timedelta(0)
    assert (
        set(record["spent"]) == {"waiting", "other"}
        and 0.4 <= record["spent"]["waiting"] < record["seconds"]
    )
    assert 20 < record["memory"] < 10_000
    assert sorted(p.name for p in (tmp_path / "reports").rglob("*") if p.is_file()) == [
        "stage.ipynb",
        "stage.json",
    ]


def no_cell_warns(executed):
    outputs = [
        output for cell in nbformat.read(executed, 4).cells for output in cell.get("outputs", [])
    ]
    return outputs and not [output for output in outputs if output.get("name") == "stderr"]


def quick_look(folder, book, stage, values=None):
    """Runs a committed notebook at its defaults (but for ``values``), from the command line; every
    output but the machine's record.
    """
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "gmmdiff.pipeline.execution",
        *arguments(folder, ROOT / "notebooks" / book, {stage: values or {}}, stage),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert no_cell_warns(folder / "reports" / "notebooks" / f"{stage}.ipynb")
    record = json.loads((folder / "reports" / "environment" / f"{stage}.json").read_text())
    assert record["seconds"] > 0 and record["packages"]["torch"] == torch.__version__
    files = sorted(
        p for p in (folder / "reports").rglob("*") if p.is_file() and p.parent.name != "environment"
    )
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_the_theory_notebook_twice_gives_the_same_bytes(tmp_path):
    """Papermill smoke test and byte-identity: quick look, in a real kernel, in two folders."""
    first, second = (
        quick_look(tmp_path / name, "01_theory_checks.ipynb", "theory_checks") for name in "ab"
    )
    assert len(first) == 7 + 13 + 1
    assert [path for path in first if first[path] != second.get(path)] == []


def test_feature_vs_class_runs_at_quick_look_size(tmp_path):
    files = quick_look(tmp_path / "a", "02_feature_vs_class.ipynb", "feature_vs_class")
    assert len(files) == 17 + 17 + 1
    assert (
        "inconclusive" in files["reports/notebooks/feature_vs_class.ipynb"].decode()
    )  # two seeds are not enough


def test_one_part_is_a_stage_of_its_own(tmp_path):
    """Another section than the stage's name, and a nested name."""
    assert runner.main(one_part(tmp_path)) == 0
    assert sorted(p.name for p in (tmp_path / "reports/tables/runs/20").iterdir()) == [
        "pictures.csv",
        "runs.csv",
        "samplers.csv",
        "strip.csv",
        "validation.csv",
    ]
    assert (
        no_cell_warns(tmp_path / "reports/notebooks/runs/20.ipynb")
        and (tmp_path / "reports/environment/runs/20.json").is_file()
    )


def test_ngmg_stability_runs_at_quick_look_size(tmp_path):
    files = quick_look(tmp_path / "a", "03_ngmg_stability.ipynb", "ngmg_stability")
    assert len(files) == 6 + 12 + 1
    assert "inconclusive" in files["reports/notebooks/ngmg_stability.ipynb"].decode()


def test_one_part_of_the_stability_experiments_is_a_stage(tmp_path):
    small = {"steps": 150, "width": 8, "n_eval": 2, "n_test": 20, "evaluations": 4, "n_train": 20}
    book = ROOT / "notebooks" / "03a_ngmg_stability_runs.ipynb"
    command = [
        *arguments(tmp_path, book, {"ngmg_stability": small}, "runs/lam_1.0"),
        "--section",
        "ngmg_stability",
    ]
    assert runner.main([*command, "-p", "part=lam_1.0"]) == 0
    assert sorted(p.name for p in (tmp_path / "reports/tables/runs/lam_1.0").iterdir()) == [
        "norm_curves.csv",
        "runs.csv",
    ]
    assert no_cell_warns(tmp_path / "reports/notebooks/runs/lam_1.0.ipynb")


SMALLEST = {
    "turns": 1,
    "rows": [4],
    "cuda_rows": [4],
    "growth_turns": 1,
    "train_steps": 50,
    "evaluations": [20],
    "n_eval": 2,
}


def test_performance_runs_at_quick_look_size(tmp_path):
    """Smaller still than its defaults; its bytes are the machine's."""
    files = quick_look(tmp_path / "a", "05_performance.ipynb", "performance", SMALLEST)
    assert len(files) == 4 + 14 + 1 - (not torch.cuda.is_available())
    told = files["reports/notebooks/performance.ipynb"].decode()
    assert "Target on the CPU, 75%" in told and "not recorded" in told
    assert (
        torch.cuda.is_available()
        or "not measured: no CUDA device here"
        in files["reports/tables/performance/cuda.csv"].decode()
    )
    for path, content in files.items():
        assert not path.endswith(".csv") or b"device" in content.split(b"\n")[0], path


@pytest.mark.parametrize("widths", [[0.0], [0.0, 0.1]])
def test_line_figures_take_any_number_of_widths(widths, generator):
    mixtures = costs.mixtures_under_test(1.0, 0.1, 5.0, 4)
    closed = lines.line_costs([0.1, 1.0], widths, mixtures)
    sampled = lines.line_estimates([0.1, 1.0], widths, mixtures, 8, 2, generator)
    assert len(figures.line_costs(closed, sampled).axes) == 2 * len(widths)
    plt.close("all")


def test_lines_without_thickness_zero_are_refused():
    with pytest.raises(
        ValueError, match=r"widths must be one or more numbers, 0 among them, got \[0.1\]"
    ):
        lines.line_costs([0.1], [0.1], {})


@pytest.mark.parametrize(
    "check", [lambda: lines.line_costs([], [0.0], {}), lambda: lines.refine([])]
)
def test_an_empty_theta_grid_is_named(check):
    with pytest.raises(
        ValueError, match="thetas must be at least one number > 0, got an empty grid"
    ):
        check()
