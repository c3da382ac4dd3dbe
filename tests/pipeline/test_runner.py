"""The runner: parameters refused before the kernel starts, results installed whole, bytes that
repeat.
"""

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gmmdiff.pipeline import kernel, runner
from gmmdiff.pipeline.errors import BadInput
from tests.paths import ROOT
from tests.pipeline.small_stages import PARAMETERS, TABLE, arguments, contents, notebook, run

BARS = (
    "from gmmdiff.pipeline.results import progress\n"
    "for i in progress(range(3), desc='working on it'): pass"
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A folder in which one small stage has run, and what the terminal saw of it."""
    folder = tmp_path_factory.mktemp("stage")
    cells = (PARAMETERS, TABLE, BARS, "assert n < 5, 'n is too large'", "object()")
    book = notebook(folder / "book.ipynb", *cells)
    command = [sys.executable, "-m", "gmmdiff.pipeline.run"]
    command += arguments(folder, book, {"stage": {"n": 2}})
    before = datetime.now(UTC)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr, before


def test_a_label_keeps_its_colour_among_few():
    """However many shades of a picture's greys and greens there are, and however small it is."""
    rng, texts, png = np.random.default_rng(0), PngInfo(), io.BytesIO()
    pixels = np.repeat(rng.integers(0, 256, (400, 400, 1), dtype=np.uint8), 3, 2)
    pixels[200:] = np.uint8([0, 158, 115]) + rng.integers(-60, 60, (200, 400, 1)).astype(np.uint8)
    pixels[:8, :8] = 0, 114, 178
    texts.add_text("Description", "shades")
    Image.fromarray(pixels).save(png, "PNG", pnginfo=texts)
    few = Image.open(io.BytesIO(runner.few_colours(png.getvalue())))
    assert few.text == {"Description": "shades"} and len(few.getcolors()) <= runner.COLOURS
    label = np.asarray(few.convert("RGB"))[:8, :8].reshape(-1, 3).astype(int)
    assert abs(label - [0, 114, 178]).max() <= 16


def test_progress_reaches_the_terminal_alone_and_the_record_says_when_and_on_what(stage):
    folder, terminal, before = stage
    assert "working on it" in terminal
    made = contents(folder / "reports")
    assert list(made) == ["notebooks/stage.ipynb", "tables/stage/one.csv"]
    assert b"working on it:" not in made["notebooks/stage.ipynb"]
    record = json.loads((folder / "reports" / "environment" / "stage.json").read_text())
    started = datetime.fromisoformat(record["started"])
    assert before < started < datetime.now(UTC) and started.utcoffset() == timedelta(0)
    assert record["seconds"] > 0 and 20 < record["memory"] < 10_000
    assert record["packages"]["torch"] == torch.__version__


def test_a_failing_cell_is_named_and_leaves_earlier_results(stage, capfd):
    folder, before = stage[0], dict(os.environ)
    earlier = contents(folder / "reports")
    assert run(folder, folder / "book.ipynb", {"stage": {"n": 7}}) == 1
    error = capfd.readouterr().err
    assert "book.ipynb: cell [5] failed: AssertionError: n is too large; see " in error
    assert contents(folder / "reports") == earlier
    changed = os.environ.items() ^ before.items()
    assert [name for name, _ in changed if not name.startswith("KMP")] == []  # torch's own


BAD = {  # notebook, params.yaml -> the line
    "no notebook": ("none.ipynb", {"stage": {}}, "none.ipynb: no such notebook"),
    "no section": ("book.ipynb", {}, "section stage must be a mapping of parameters, got None"),
    "out of range": ("book.ipynb", {"stage": {"n": 10}}, "n must be int in [0, 9], got 10"),
}


@pytest.mark.parametrize(("book", "params", "message"), BAD.values(), ids=BAD)
def test_bad_input_stops_with_one_line_and_touches_nothing(tmp_path, capsys, book, params, message):
    notebook(tmp_path / "book.ipynb", PARAMETERS)
    assert run(tmp_path, tmp_path / book, params) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "reports").exists()


ENDS = {
    "interrupted": (KeyboardInterrupt(), 130, "interrupted; the same command goes on from what"),
    "a full disk": (OSError(28, "No space left on device", "a.csv"), 1, "a.csv: No space left"),
}


@pytest.mark.parametrize(("error", "code", "message"), ENDS.values(), ids=ENDS)
def test_other_ends_are_one_line_and_leave_earlier_results(
    tmp_path, capfd, monkeypatch, error, code, message
):
    def execute(notebook, target, *rest):
        target.write_text("half")
        raise error

    monkeypatch.setattr(runner, "_execute", execute)
    table = tmp_path / "reports" / "tables" / "stage" / "one.csv"
    table.parent.mkdir(parents=True)
    table.write_text("earlier")
    assert run(tmp_path, notebook(tmp_path / "b.ipynb", PARAMETERS), {"stage": {}}) == code
    said = capfd.readouterr().err
    assert said.startswith(f"error: {message}") and said.count("\n") == 1
    files = [path for path in (tmp_path / "reports").rglob("*") if path.is_file()]
    assert files == [table] and table.read_text() == "earlier"


def test_a_folder_that_cannot_be_written_is_named_before_the_notebook_runs(tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    monkeypatch.setattr(runner.os, "access", lambda path, mode: path != tmp_path / "tables")
    with pytest.raises(PermissionError, match=r"this folder cannot be written.*tables"):
        runner.run(notebook(tmp_path / "book.ipynb", PARAMETERS), "stage", {}, tmp_path)
    assert not (tmp_path / ".staging").exists()


def install(reports, what, *names):
    """Stages files that say ``what``, and installs them."""
    staged = reports / ".staging" / "stage"
    runner.shutil.rmtree(staged, ignore_errors=True)
    for name in names:
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_text(what)
    runner.install(staged, "stage", reports)


SAME = ("executed.ipynb", "environment.json", "claims.json")


@pytest.mark.parametrize("moves", range(4))
def test_a_kill_between_two_moves_is_repaired_by_the_next_run(tmp_path, monkeypatch, moves):
    """Whatever moves came before it: afterwards all is of the new run and nothing of an earlier
    one, which had figures; and what a cache links to is never written into.
    """

    def killed(source, target):
        if not next(left):
            raise SystemExit
        move(source, target)

    left, move, reports = iter(range(moves, -1, -1)), runner.shutil.move, tmp_path / "reports"
    install(reports, "old", "tables/old.csv", "figures/old.png", *SAME)
    cached = [tmp_path / name.replace("/", "-") for name in contents(reports)]
    for path, name in zip(cached, contents(reports), strict=True):
        os.link(reports / name, path)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(runner.shutil, "move", killed)
        install(reports, "half", "tables/half.csv", *SAME)
    install(reports, "new", "tables/new.csv", *SAME)
    found = {str(path.relative_to(reports)): path for path in reports.rglob("*") if path.is_file()}
    names = ("tables/stage/new.csv", "notebooks/stage.ipynb", "environment/stage.json")
    assert found.keys() == {*names, "claims.json"}
    assert {path.read_text() for path in found.values()} == {"new"}
    assert {path.read_text() for path in cached} == {"old"}


def test_results_may_lie_on_another_disk(tmp_path):
    """Where a folder of results is a link: what it held goes, what is new comes."""
    (tmp_path / "other" / "stage").mkdir(parents=True)
    (tmp_path / "other" / "stage" / "old.csv").touch()
    (tmp_path / "tables").symlink_to(tmp_path / "other")
    install(tmp_path, "new", "tables/one.csv")
    assert [path.name for path in (tmp_path / "other" / "stage").iterdir()] == ["one.csv"]


def test_where_in_memory_a_thing_lies_is_not_told(stage):
    executed = nbformat.read(stage[0] / "reports" / "notebooks" / "stage.ipynb", 4)
    assert executed.cells[-1].outputs[0].data["text/plain"] == "<object>"


def test_links_start_where_the_executed_notebook_is_read():
    links = "[a](b.ipynb) [c](../gmmdiff/c.py) [d](../reports/published/index.html#T1)"
    kept = "[e](https://f.g/h) [i](#1.-J)"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"{links} {kept}")])
    moved = runner.normalise(book, ROOT / "notebooks", runner.SHOWN)
    assert moved.cells[0].source == (
        "[a](../../../notebooks/b.ipynb) [c](../../../gmmdiff/c.py) [d](../index.html#T1) "
        "[e](https://f.g/h) [i](#1.-J)"
    )


DEAD = [("/bin/false", "the kernel died"), ("/bin/cat", "the kernel died or did not")]


@pytest.mark.parametrize(("program", "why"), DEAD)
def test_a_kernel_that_dies_or_says_nothing_is_one_line(tmp_path, monkeypatch, capfd, program, why):
    book = notebook(tmp_path / "book.ipynb", PARAMETERS)
    monkeypatch.setattr(kernel.sys, "executable", program)
    monkeypatch.setattr(kernel, "PATIENCE", 3)
    assert run(tmp_path, book, {"stage": {}}) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and why in lines[0] and str(book) in lines[0]


def test_an_override_without_a_value_is_named():
    with pytest.raises(BadInput, match="-p must be NAME=VALUE, got 'steps'"):
        runner.main([str(ROOT / "notebooks" / "00_start_here.ipynb"), "start_here", "-p", "steps"])
