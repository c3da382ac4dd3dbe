"""What users' machines did to the pipeline: the same bytes, or one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from gmmdiff.pipeline import check_parameters, snapshot
from gmmdiff.pipeline.execution import kernel, runner, staging
from tests.paths import ROOT
from tests.pipeline.test_execution import IMPORT, notebook

PARAMETERS = "n: int = 1  # a number"
TABLE = (
    f"import pandas as pd\n{IMPORT} Results\n"
    "Results('stage').table('one', pd.DataFrame({'n': [n]}))"
)
PICTURE = (
    "import matplotlib.pyplot as plt\nfrom gmmdiff.figures import style\nstyle.style()\n"
    f"{IMPORT} Results\nfigure, axis = plt.subplots()\naxis.plot([1, 2])\n"
    "Results('stage').figure('one', figure, 'a line')"
)


def stage(folder, book, **environment):
    """Runs a notebook as the stage `stage`, from its folder, in this environment and no other."""
    (folder / "params.yaml").write_text(json.dumps({"stage": {}}))
    alike = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "gmmdiff.pipeline.execution", str(book), "stage"]
    return subprocess.run(
        command, cwd=folder, env=alike | environment, capture_output=True, text=True, check=False
    )


def results(folder):
    """Every file of the results but the record of the run."""
    reports = folder / "reports"
    files = (path for path in reports.rglob("*") if path.is_file())
    return {
        str(path.relative_to(reports)): path.read_bytes()
        for path in files
        if "environment" not in path.parts
    }


@pytest.fixture
def copy(tmp_path):
    """A second tree of the code, whose interpreter has the first one installed."""
    tree = tmp_path / "B"
    shutil.copytree(
        ROOT / "gmmdiff", tree / "gmmdiff", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tree / "notebooks").mkdir()
    return tree


def test_a_kernel_imports_the_tree_that_runs(copy):
    """Without PYTHONPATH: what is installed is another tree, whose code would be run unhashed."""
    source = "import gmmdiff\nprint(gmmdiff.__file__)"
    book = notebook(copy / "notebooks" / "book.ipynb", PARAMETERS, source)
    done = stage(copy, book.relative_to(copy))
    assert done.returncode == 0, done.stderr
    told = (copy / "reports" / "notebooks" / "stage.ipynb").read_text()
    assert str(copy / "gmmdiff" / "__init__.py") in told
    statistics = copy / "gmmdiff" / "study" / "statistics.py"
    statistics.write_text(statistics.read_text() + "\nraise RuntimeError('of tree B')\n")
    notebook(book, PARAMETERS, "import gmmdiff.core.statistics")
    done = stage(copy, book.relative_to(copy))
    assert done.returncode == 1 and "RuntimeError: of tree B" in done.stderr


def test_another_trees_notebook_is_refused_in_one_line(copy, tmp_path):
    book = notebook(copy / "notebooks" / "book.ipynb", PARAMETERS)
    done = stage(tmp_path, book, PYTHONPATH=str(ROOT))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "must run with the code beside it" in done.stderr and str(copy) in done.stderr


def configured(folder):
    """What a user may have set up, each with what it would do: variables of the environment."""
    home, other = folder / "home", folder / "other"
    startup = home / ".ipython" / "profile_default" / "startup"
    for path in (startup, other / "pandas", home / "kernels" / "python3"):
        path.mkdir(parents=True)
    (startup / "00.py").write_text("n = 7\nprint('started')\n")
    (other / "pandas" / "__init__.py").write_text("raise ImportError('another pandas')\n")
    dead = {"argv": ["/bin/false"], "display_name": "dead", "language": "python"}
    (home / "kernels" / "python3" / "kernel.json").write_text(json.dumps(dead))
    (home / "matplotlibrc").write_text("lines.linewidth: 9\nfigure.facecolor: red\n")
    return {
        "MPLBACKEND": "Agg",
        "MATPLOTLIBRC": str(home / "matplotlibrc"),
        "HOME": str(home),
        "IPYTHONDIR": str(home / ".ipython"),
        "JUPYTER_PATH": str(home),
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{other}",
    }


def test_a_users_configuration_changes_no_byte(tmp_path):
    plain, own = tmp_path / "plain", tmp_path / "own"
    for folder in (plain, own):
        folder.mkdir()
        notebook(folder / "book.ipynb", PARAMETERS, TABLE, PICTURE, "print('Ångström', n)")
    done = stage(plain, Path("book.ipynb"), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    done = stage(own, Path("book.ipynb"), **configured(tmp_path))
    assert done.returncode == 0, done.stderr
    assert results(plain) == results(own) and len(results(own)) == 3
    shown = nbformat.read(own / "reports" / "notebooks" / "stage.ipynb", 4).cells
    kinds = [kind for cell in shown for o in cell.get("outputs", []) for kind in o.get("data", {})]
    assert "image/png" in kinds, "an executed notebook without its figure"


@pytest.mark.parametrize("name", ["a {brace} and 'quotes'", "{0}", "[b] ünï"])
def test_any_path_will_do(tmp_path, name, capfd):
    book = notebook(tmp_path / "book.ipynb", PARAMETERS, TABLE)
    (tmp_path / "params.yaml").write_text(json.dumps({"stage": {}}))
    reports = tmp_path / name
    arguments = [str(book), "stage", "--params", str(tmp_path / "params.yaml")]
    assert runner.main([*arguments, "--reports", str(reports)]) == 0, capfd.readouterr().err
    assert (reports / "tables" / "stage" / "one.csv").read_text() == "n\n1\n"


@pytest.mark.parametrize(
    ("program", "why"),
    [("/bin/false", "the kernel died"), ("/bin/cat", "the kernel died or did not")],
)
def test_a_kernel_that_dies_or_says_nothing_is_one_line(tmp_path, monkeypatch, capfd, program, why):
    book = notebook(tmp_path / "book.ipynb", PARAMETERS, TABLE)
    (tmp_path / "params.yaml").write_text(json.dumps({"stage": {}}))
    arguments = [str(book), "stage", "--params", str(tmp_path / "params.yaml")]
    arguments += ["--reports", str(tmp_path / "reports")]
    assert runner.main(arguments) == 0
    before = results(tmp_path)
    capfd.readouterr()
    monkeypatch.setattr(kernel.sys, "executable", program)
    monkeypatch.setattr(kernel, "PATIENCE", 5)
    assert runner.main(arguments) == 1
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and why in told[0] and str(book) in told[0]
    assert {
        name: value for name, value in results(tmp_path).items() if ".staging" not in name
    } == before


def linked(folder, cache):
    """Every file of a folder put into a cache and hard-linked back, read-only, as DVC may do it."""
    kept = {}
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        os.rename(path, cache / str(number))
        os.chmod(cache / str(number), 0o444)
        os.link(cache / str(number), path)
        kept[cache / str(number)] = (cache / str(number)).read_bytes()
    return kept


def test_what_a_cache_links_to_is_never_written_into(tmp_path, monkeypatch):
    """Parameters, results of a stage, and the snapshot."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    arguments = ["--params", str(ROOT / "params.yaml"), "--reports", "reports"]
    monkeypatch.setattr(check_parameters, "NOTEBOOKS", ROOT / "notebooks")
    monkeypatch.setattr(check_parameters.check_file, "__defaults__", (ROOT / "notebooks",))
    monkeypatch.setattr(check_parameters.reference, "__defaults__", (ROOT / "notebooks",))
    kept = {}
    for _ in range(2):
        assert check_parameters.main(arguments) == 0
        for kind in ("tables/stage", "figures/stage"):
            path = tmp_path / "reports" / ".staging" / "stage" / kind.split("/")[0] / "one.csv"
            path.parent.mkdir(parents=True)
            path.write_text("new")
        staging.install(tmp_path / "reports/.staging/stage", "stage", tmp_path / "reports")
        kept = kept or linked(tmp_path / "reports", tmp_path / "cache")
    (tmp_path / "published").mkdir()
    for part in snapshot.PARTS:
        path = tmp_path / "reports" / part
        if not path.exists():
            path.touch() if "." in part else path.mkdir()
    for _ in range(2):
        snapshot.copy_results(tmp_path / "reports", tmp_path / "published")
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert os.access(tmp_path / "published" / "parameters.ok", os.W_OK)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second disk")
def test_results_may_lie_on_another_disk(tmp_path):
    other = Path(
        subprocess.run(
            ["mktemp", "-d", "-p", "/dev/shm"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    try:
        if other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("one disk")
        reports = tmp_path / "reports"
        (reports / ".staging" / "stage" / "tables").mkdir(parents=True)
        (reports / ".staging" / "stage" / "tables" / "one.csv").write_text("n")
        (reports / "tables").symlink_to(other)
        staging.install(reports / ".staging" / "stage", "stage", reports)
        assert (other / "stage" / "one.csv").read_text() == "n"
        assert [path.name for path in other.iterdir()] == ["stage"]
    finally:
        shutil.rmtree(other)


def test_a_copy_without_git_runs(tmp_path):
    """The ZIP of the repository: the first stage of the real pipeline."""
    shutil.copytree(
        ROOT,
        tmp_path / "zip",
        ignore=shutil.ignore_patterns(
            ".git", ".venv", "reports", "__pycache__", "tmp", "cache", ".staging"
        ),
    )
    environment = os.environ | {
        "DVC_NO_ANALYTICS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "gmmdiff.pipeline.resume", "parameters"]
    done = subprocess.run(
        command, cwd=tmp_path / "zip", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "zip" / "reports" / "parameters.ok").is_file()
