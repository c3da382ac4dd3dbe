"""What users' machines did to the pipeline: the same bytes, or one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from gmmdiff.pipeline import snapshot
from tests.paths import ROOT
from tests.pipeline.small_stages import PARAMETERS, TABLE, contents, notebook, run

PICTURE = (
    "import matplotlib.pyplot as plt\nfrom gmmdiff.figures import style\nstyle.style()\n"
    "figure, axis = plt.subplots()\naxis.plot([1, 2])\n"
    "Results('stage').figure('one', figure, 'a line')"
)


def run_in(folder, book, **environment):
    """Runs a notebook as the stage `stage`, from its folder, in this environment and no other."""
    (folder / "params.yaml").write_text(json.dumps({"stage": {}}))
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = {"cwd": folder, "env": others | environment, "capture_output": True, "text": True}
    command = [sys.executable, "-m", "gmmdiff.pipeline.run", str(book), "stage"]
    return subprocess.run(command, check=False, **options)


def test_what_runs_is_the_tree_beside_the_notebook(tmp_path):
    """A second tree, whose interpreter has the first one installed, whose code would be run
    unhashed; from the first one its notebook is refused in one line.
    """
    tree, ignore = tmp_path / "B", shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "gmmdiff", tree / "gmmdiff", ignore=ignore)
    (tree / "notebooks").mkdir()
    source = "import gmmdiff.core.statistics\nprint(gmmdiff.__file__)"
    book = notebook(tree / "notebooks" / "book.ipynb", PARAMETERS, source)
    with open(tree / "gmmdiff" / "core" / "statistics.py", "a", encoding="utf-8") as statistics:
        statistics.write("\nprint('of tree B')\n")
    done = run_in(tree, book.relative_to(tree))
    assert done.returncode == 0, done.stderr
    executed = (tree / "reports" / "notebooks" / "stage.ipynb").read_text()
    assert str(tree / "gmmdiff" / "__init__.py") in executed and "of tree B" in executed
    done = run_in(tmp_path, book, PYTHONPATH=str(ROOT))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "must run with the code beside it" in done.stderr and str(tree) in done.stderr


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
    folders = tmp_path / "plain", tmp_path / "own"
    for folder, setup in zip(folders, ({}, configured(tmp_path)), strict=True):
        folder.mkdir()
        notebook(folder / "book.ipynb", PARAMETERS, TABLE, PICTURE, "print('Ångström', n)")
        done = run_in(folder, Path("book.ipynb"), **{"PYTHONPATH": str(ROOT)} | setup)
        assert done.returncode == 0, done.stderr
    plain, own = (contents(folder / "reports") for folder in folders)
    assert plain == own and len(own) == 3
    cells = nbformat.reads(own["notebooks/stage.ipynb"].decode(), 4).cells
    types = [name for cell in cells for o in cell.get("outputs", []) for name in o.get("data", {})]
    assert "image/png" in types, "an executed notebook without its figure"


def test_any_path_will_do(tmp_path, capfd):
    book = notebook(tmp_path / "book.ipynb", PARAMETERS, TABLE)
    reports = "a {0} and 'quotes' [b] ünï"
    assert run(tmp_path, book, {"stage": {}}, reports=reports) == 0, capfd.readouterr().err
    assert (tmp_path / reports / "tables" / "stage" / "one.csv").read_text() == "n\n1\n"


def test_a_snapshot_never_writes_into_what_a_cache_links_to(tmp_path):
    """Nor takes over that a result is read-only, as DVC may have made it."""
    reports, published, cached = (tmp_path / name for name in ("reports", "published", "cached"))
    for part in (reports / name for name in snapshot.PARTS):
        part.parent.mkdir(exist_ok=True)
        part.write_text("old") if part.suffix else part.mkdir()
    (reports / "claims.json").chmod(0o444)
    snapshot.copy_results(reports, published)
    os.link(published / "claims.json", cached)
    (reports / "claims.json").unlink()
    (reports / "claims.json").write_text("new")
    snapshot.copy_results(reports, published)
    assert cached.read_text() == "old" and (published / "claims.json").read_text() == "new"
    assert os.access(published / "claims.json", os.W_OK)
