"""What a power cut, a full disk and a folder that cannot be written leave behind: nothing; and how
far a run of several stages says it is.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
from dvc.repo import Repo

from gmmdiff.pipeline import resume
from gmmdiff.pipeline.snapshot import run_records
from tests.paths import PUBLISHED, ROOT
from tests.pipeline import soak
from tests.pipeline.small_stages import PARAMETERS, TABLE, contents, notebook


def two_stages(tree):
    """The smallest pipeline of two stages; the second takes its time between two tables."""
    (tree / "notebooks").mkdir(parents=True)
    two = TABLE.replace("'one'", "'two'")
    cells = {"first": [TABLE], "second": [TABLE, "import time\ntime.sleep(2)", two]}
    stages = {}
    for name, own in cells.items():
        book = f"notebooks/{name}.ipynb"
        notebook(tree / book, PARAMETERS, *own)
        stages[name] = {
            "cmd": f"python -m gmmdiff.pipeline.run {book} {name}",
            "deps": [book, *(["reports/tables/first"] * (name == "second"))],
            "params": [name],
            "outs": [f"reports/tables/{name}", f"reports/{book}"],
        }
    (tree / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    (tree / "params.yaml").write_text(json.dumps({"first": {"n": 2}, "second": {"n": 3}}))
    for name in (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    return tree


@pytest.mark.slow
def test_a_power_cut_in_the_second_stage_costs_that_stage_alone(tmp_path):
    reference = two_stages(tmp_path / "reference")
    tree = shutil.copytree(reference, tmp_path / "tree")
    staged = tree / "reports" / ".staging" / "second" / "tables" / "one.csv"
    with ThreadPoolExecutor() as pool:
        undisturbed = pool.submit(soak.start, reference)
        first = soak.start(tree, lambda seconds: staged.exists())
    assert undisturbed.result().code == 0 and undisturbed.result().started == ["first", "second"]
    shown = (tmp_path / "reference.beside" / "log").read_text()
    assert "1 of 2 stages done, the others took 0 min when published; now second" in shown
    assert first.killed >= 3 and first.code == -signal.SIGKILL  # DVC, the runner, the kernel
    assert staged.exists() and not (tree / "reports" / "tables" / "second").exists()
    row = soak.start_again(tree, reference, first)
    assert row["stage"] == "second" and row["stages_finished"] == 1 and soak.good(row), row
    assert len(soak.results(tree)) == 2 + 3 + 2  # notebooks, tables, entries of dvc.lock

    # Cut while DVC wrote its lock file: the run cache has every stage.
    before, lock = soak.results(tree), tree / "dvc.lock"
    lock.write_text(lock.read_text()[: lock.read_text().index("md5:") + 2])
    again = soak.start(tree)
    assert (again.code, again.started) == (0, []) and soak.results(tree) == before

    # A stage that is refused loses no other stage's results, and mended gets back its own.
    params = (tree / "params.yaml").read_text()
    (tree / "params.yaml").write_text(params.replace("3", '"many"'))
    assert soak.start(tree).code != 0
    assert "parameter n must be int" in (tmp_path / "tree.beside" / "log").read_text()
    assert (tree / "reports" / "tables" / "first" / "one.csv").exists()
    (tree / "params.yaml").write_text(params)
    assert soak.start(tree).started == [] and soak.results(tree) == before


def test_what_a_round_would_find(tmp_path):
    """The comparison sees a changed byte, litter and a process at work, and no machine."""
    tree = two_stages(tmp_path / "tree")
    reports, dvc = tree / "reports", tree / ".dvc"
    (reports / "environment").mkdir(parents=True)
    (reports / "one.csv").write_text("1")
    (tree / "dvc.lock").write_text("stages: {first: {outs: [{path: a}]}, pages: {cmd: b}}")
    before, there = soak.results(tree), soak.everything(tree)
    assert set(before) == {"one.csv", "dvc.lock: first"}
    (reports / "environment" / "first.json").write_text("a machine")
    (reports / "index.html").write_text("a time")
    assert soak.results(tree) == before
    (reports / "one.csv").write_text("2")
    for name, text in (("tmp/rwlock", '{"write"'), ("cache/.x.tmp", "")):
        (dvc / name).parent.mkdir()
        (dvc / name).write_text(text)
    assert soak.results(tree) != before
    assert {'rwlock: {"write"', ".dvc/cache/.x.tmp"} <= soak.everything(tree) - there


LEFT = {  # in DVC's list of processes at work -> whether it, and all else, stays
    "nothing": False,
    "a process that is at work": True,
    "a number that lives": False,
    "a dead process": False,
    "half a file": False,
}


@pytest.mark.parametrize(("left", "kept"), LEFT.items())
def test_what_a_killed_dvc_leaves_goes_unless_one_is_at_work(tmp_path, left, kept):
    names = (".dvc/tmp/rwlock", ".dvc/cache/files/.x.tmp", "dvc.lock")
    rwlock, litter, lock = (tmp_path / name for name in names)
    whole = tmp_path / "notebooks" / "more" / "dvc.lock"
    for path in (rwlock, litter, whole):
        path.parent.mkdir(parents=True)
    litter.touch()
    lock.write_text("schema: '2.0'\nstages:\n  first:\n    cm")
    shutil.copy(ROOT / "dvc.lock", whole)
    dead = subprocess.Popen(["true"])
    dead.wait()
    owner = {"pid": dead.pid if left == "a dead process" else os.getpid(), "cmd": "dvc repro"}
    content = json.dumps({"write": {}, "read": {"a": [owner]}})
    if left != "nothing":
        rwlock.write_text("{" if left == "half a file" else content)
    if left == "a number that lives":  # written before the process that has it now was started
        os.utime(rwlock, (psutil.Process().create_time() - 100,) * 2)
    resume.clear(tmp_path)
    assert rwlock.exists() == litter.exists() == lock.exists() == kept
    assert whole.read_bytes() == (ROOT / "dvc.lock").read_bytes()


def test_a_line_before_every_stage_says_how_many_are_done(capsys, monkeypatch):
    stages = [SimpleNamespace(addressing=name) for name in ("a", "b")]
    monkeypatch.setattr(resume, "recorded_seconds", lambda stages, folder: [90.0, 30.0])
    reproduce = resume.with_progress(
        lambda stages, repro_fn: [repro_fn(stage, upstream=[]) for stage in stages],
        lambda stage, upstream: stage.addressing,
    )
    assert reproduce(stages) == ["a", "b"]
    first, second = capsys.readouterr().err.splitlines()
    assert first == "0 of 2 stages done, the others took 2 min when published; now a"
    assert second == "1 of 2 stages done, the others took 1 min when published; now b"


def test_every_record_belongs_to_one_stage_of_the_pipelines():
    """Together they took what the records say."""
    records = run_records(PUBLISHED / "environment")
    with Repo(str(ROOT)) as repo:
        seconds = resume.recorded_seconds(list(repo.index.stages), PUBLISHED / "environment")
    assert sum(seconds) == pytest.approx(sum(record["seconds"] for record in records.values()))


def test_every_published_round_was_good():
    table = pd.read_csv(PUBLISHED / "soak.csv")
    assert (table["processes_killed"] > 0).sum() == soak.ROUNDS == len(table) - 1
    assert [row["round"] for row in table.to_dict("records") if not soak.good(row)] == []


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["full", "read-only"])
def test_a_disk_that_takes_no_more_is_one_line_and_earlier_results_stay(tmp_path, ends):
    """A disk of its own that the second run fills with a table, or that has become read-only."""
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "x", "/mnt"]
    if not shutil.which("unshare") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs `unshare -rm mount`, which this machine does not allow")
    fill = TABLE.splitlines()[-1].replace("'one'", "'two'").replace("[n]", "range(10**5)")
    book = notebook(tmp_path / "book.ipynb", PARAMETERS, TABLE, f"if n > 1:\n    {fill}")
    for n in (1, 2):
        (tmp_path / f"{n}.yaml").write_text(json.dumps({"stage": {"n": n}}))
    run = [sys.executable, "-m", "gmmdiff.pipeline.run", book.name, "stage", "--params"]
    between = "mount -o remount,ro reports" if ends == "read-only" else "true"
    script = f"""mount -t tmpfs -o size=200k tmpfs reports
        {shlex.join([*run, "1.yaml"])} && cp -r reports before && {between}
        {shlex.join([*run, "2.yaml"])}; code=$?
        cp -r reports after; exit $code"""
    (tmp_path / "reports").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], check=False, **options)
    why = "No space left on device" if ends == "full" else "this folder cannot be written"
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(lines) == 1 and why in lines[0], done.stderr
    before, after = contents(tmp_path / "before"), contents(tmp_path / "after")
    assert before == after and len(before) == 2


@pytest.mark.slow
def test_a_copy_without_git_runs(tmp_path):
    """The ZIP of the repository: the first stage of the real pipeline."""
    left_out = (".git", ".venv", "reports", "__pycache__", "tmp", "cache", ".staging")
    tree = tmp_path / "zip"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*left_out))
    command = [sys.executable, "-m", "gmmdiff.pipeline.resume", "parameters"]
    options = {"env": soak.surroundings(tree)[1], "capture_output": True, "text": True}
    done = subprocess.run(command, cwd=tree, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tree / "reports" / "parameters.ok").is_file()
