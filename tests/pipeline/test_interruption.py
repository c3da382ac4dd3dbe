"""What a power cut, a full disk and a folder that cannot be written leave behind: nothing."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest
from dvc.utils.serialize import _common

from gmmdiff.pipeline import resume
from gmmdiff.pipeline.execution import runner, staging
from tests.paths import ROOT
from tests.pipeline import soak
from tests.pipeline.test_execution import notebook

PARAMETERS = "n: int = 1  # a number"
TABLE = (
    "import pandas as pd\nfrom gmmdiff.pipeline.results import Results\n"
    "Results('{0}').table('{1}', pd.DataFrame({{'n': [n]}}))"
)


def two_stages(tree):
    """The smallest pipeline of two stages; the second takes its time between two tables."""
    (tree / "notebooks").mkdir(parents=True)
    pause = "import time\ntime.sleep(2)"
    notebook(tree / "notebooks" / "first.ipynb", PARAMETERS, TABLE.format("first", "one"))
    notebook(
        tree / "notebooks" / "second.ipynb",
        PARAMETERS,
        TABLE.format("second", "one"),
        pause,
        TABLE.format("second", "two"),
    )
    stages = {
        name: {
            "cmd": f"python -m gmmdiff.pipeline.execution notebooks/{name}.ipynb {name}",
            "deps": [f"notebooks/{name}.ipynb", *needed],
            "params": [name],
            "outs": [
                {f"reports/{out}": {"persist": True}}
                for out in (f"tables/{name}", f"notebooks/{name}.ipynb")
            ],
        }
        for name, needed in (("first", []), ("second", ["reports/tables/first"]))
    }
    (tree / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    (tree / "params.yaml").write_text(json.dumps({"first": {"n": 2}, "second": {"n": 3}}))
    for name in (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    return tree


def test_a_power_cut_in_the_second_stage_costs_that_stage_alone(tmp_path):
    reference = two_stages(tmp_path / "reference")
    tree = shutil.copytree(reference, tmp_path / "tree")
    staged = tree / "reports" / ".staging" / "second" / "tables" / "one.csv"
    with ThreadPoolExecutor() as pool:
        undisturbed = pool.submit(soak.start, reference)
        first = soak.start(tree, lambda seconds: staged.exists())
    assert undisturbed.result().code == 0 and undisturbed.result().started == ["first", "second"]
    assert first.killed >= 3 and first.code == -signal.SIGKILL  # DVC, the runner, the kernel
    assert staged.exists() and not (tree / "reports" / "tables" / "second").exists()
    row = soak.start_again(tree, reference, first)
    assert row["stage"] == "second" and row["stages_finished"] == 1 and soak.good(row), row
    assert len(soak.results(tree)) == 2 + 3 + 2  # notebooks, tables, entries of dvc.lock


def test_what_a_round_would_find(tmp_path):
    """The comparison sees a changed byte, a lost file, litter and a stage that ran again."""
    reference = two_stages(tmp_path / "reference")
    for name in (
        "reports/tables/first/one.csv",
        "reports/environment/first.json",
        "dvc.lock",
        ".dvc/tmp/rwlock",
    ):
        (reference / name).parent.mkdir(parents=True, exist_ok=True)
    (reference / "dvc.lock").write_text(
        "stages: {first: {cmd: a, outs: [{path: reports/tables/first}]}, pages: {cmd: b}}"
    )
    (reference / ".dvc" / "tmp" / "rwlock").write_text("{}")
    (reference / "reports" / "tables" / "first" / "one.csv").write_text("n\n1\n")
    tree = shutil.copytree(reference, tmp_path / "tree")
    assert soak.results(tree) == soak.results(reference) and soak.everything(
        tree
    ) == soak.everything(reference)
    (tree / "reports" / "environment" / "first.json").write_text("another machine")
    for name in ("index.html", "tables/performance/speed.csv"):
        (tree / "reports" / name).parent.mkdir(exist_ok=True)
        (tree / "reports" / name).write_text("another time")
    assert soak.results(tree) == soak.results(reference) and set(soak.results(tree)) == {
        "tables/first/one.csv",
        "dvc.lock: first",
    }
    (tree / "reports" / "tables" / "first" / "one.csv").write_text("n\n2\n")
    (tree / ".dvc" / "tmp" / "rwlock").write_text('{"write"')
    (tree / ".dvc" / "cache").mkdir()
    (tree / ".dvc" / "cache" / ".x.tmp").touch()
    assert soak.results(tree) != soak.results(reference)
    assert {'rwlock: {"write"', ".dvc/cache/.x.tmp"} <= soak.everything(tree) - soak.everything(
        reference
    )


LEFT = {
    "nothing": (None, False),
    "a process that is at work": ("ours", True),
    "a number that lives": ("reused", False),
    "a dead process": ("dead", False),
    "half a file": ("{", False),
}


@pytest.mark.parametrize(("left", "kept"), LEFT.values(), ids=LEFT)
def test_what_a_killed_dvc_leaves_goes_unless_one_is_at_work(tmp_path, left, kept):
    rwlock, aside, litter = (
        tmp_path / path for path in (".dvc/tmp/rwlock", "dvc.lock.tmp", ".dvc/cache/files/.x.tmp")
    )
    for path in (rwlock, litter):
        path.parent.mkdir(parents=True)
    for path in (aside, litter):
        path.touch()
    dead = subprocess.Popen(["true"])
    dead.wait()
    if left:
        owner = {"pid": dead.pid if left == "dead" else os.getpid(), "cmd": "dvc repro"}
        rwlock.write_text(
            left if left == "{" else json.dumps({"write": {}, "read": {"a": [owner]}})
        )
    if left == "reused":  # written before the process that has the number now was started
        os.utime(rwlock, (psutil.Process().create_time() - 100,) * 2)
    resume.clear(tmp_path)
    assert rwlock.exists() == aside.exists() == litter.exists() == kept


@pytest.mark.parametrize("mended", [False, True])
def test_dvc_lock_is_written_whole(tmp_path, mended):
    """DVC by itself leaves half of it, which is why `gmmdiff.pipeline.resume` is there."""
    code = (
        "import os, signal, sys\n"
        "from dvc.utils.serialize import _common\n"
        "from gmmdiff.pipeline.resume import whole\n"
        f"write = {'whole(_common._dump_data)' if mended else '_common._dump_data'}\n"
        "def half(data, file):\n"
        "    file.write('half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write(sys.argv[1], {}, half)"
    )
    lock = tmp_path / "dvc.lock"
    lock.write_text("whole")
    done = subprocess.run([sys.executable, "-c", code, str(lock)], check=False)
    assert done.returncode == -signal.SIGKILL and lock.read_text() == (
        "whole" if mended else "half"
    )


def test_a_full_disk_leaves_the_old_dvc_lock(tmp_path):
    def full(data, file):
        file.write("half")
        raise OSError(28, "No space left on device")

    (tmp_path / "dvc.lock").write_text("whole")
    with pytest.raises(OSError, match="No space left"):
        resume.whole(_common._dump_data)(tmp_path / "dvc.lock", {}, full)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("dvc.lock", "whole")]


@pytest.mark.parametrize("moves", range(4))
def test_a_kill_between_two_moves_is_repaired_by_the_next_run(tmp_path, monkeypatch, moves):
    """Whatever moves came before it: afterwards all is of the new run and nothing of an earlier
    one, which had figures.
    """
    staged, reports = tmp_path / "reports" / ".staging" / "stage", tmp_path / "reports"

    def run(what, *made):
        for name in made:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text(what)
        staging.install(staged, "stage", reports)

    def killed(source, target):
        if not next(left):
            raise SystemExit
        rename(source, target)

    left, rename = iter(range(moves, -1, -1)), os.replace
    same = ("executed.ipynb", "environment.json", "claims.json")
    run("old", "tables/old.csv", "figures/old.png", *same)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(os, "replace", killed)
        run("half", "tables/half.csv", *same)
    shutil.rmtree(staged)
    run("new", "tables/new.csv", *same)
    found = {
        str(path.relative_to(reports)): path.read_text()
        for path in reports.rglob("*")
        if path.is_file()
    }
    assert found == dict.fromkeys(
        ("tables/stage/new.csv", "notebooks/stage.ipynb", "environment/stage.json", "claims.json"),
        "new",
    )


def test_only_what_killed_runs_left_is_swept(tmp_path):
    folder = tmp_path / ".staging"
    killed, failed, alive = (folder / name for name in ("runs/killed", "failed", "alive"))
    for each in (killed, failed, alive):
        each.mkdir(parents=True)
    (killed / staging.PROGRESS_FILE).touch()
    with runner._progress_file(sys.stderr, alive / staging.PROGRESS_FILE):
        staging.sweep(tmp_path)
        assert sorted(path.name for path in folder.iterdir()) == ["alive", "failed"]


def test_every_published_round_was_good():
    table = pd.read_csv(ROOT / "reports" / "published" / "soak.csv")
    assert (table["processes_killed"] > 0).sum() == soak.ROUNDS == len(table) - 1
    assert [row["round"] for row in table.to_dict("records") if not soak.good(row)] == []


def mounts() -> bool:
    """Whether this user may mount a file system in a namespace of their own."""
    unshare = shutil.which("unshare")
    return (
        bool(unshare)
        and not subprocess.run(
            [unshare, "-rm", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True, check=False
        ).returncode
    )


needs_mounts = pytest.mark.skipif(
    not mounts(), reason="needs `unshare -rm mount`, which this machine does not allow"
)


@pytest.fixture
def on_a_small_disk(tmp_path):
    """Runs commands of the shell beside a `reports` of so many kilobytes of its own; what it held
    at the end, and the output.
    """

    def run(kilobytes, *commands):
        (tmp_path / "reports").mkdir()
        script = [
            f"mount -t tmpfs -o size={kilobytes}k tmpfs reports",
            *commands,
            "code=$?",
            "cp -r reports after",
            "exit $code",
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", "\n".join(script)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        after = {
            str(p.relative_to(tmp_path / "after")): p.read_bytes()
            for p in (tmp_path / "after").rglob("*")
            if p.is_file()
        }
        return done, after

    return run


def stage(book, n):
    """The command that runs a notebook as the stage `stage`."""
    Path(book.parent / f"params-{n}.yaml").write_text(json.dumps({"stage": {"n": n}}))
    return shlex.join(
        [
            sys.executable,
            "-m",
            "gmmdiff.pipeline.execution",
            book.name,
            "stage",
            "--params",
            f"params-{n}.yaml",
        ]
    )


def told(stderr):
    """Our lines, of which the last has to be one; a kernel whose port another one took meanwhile
    complains before it starts anew.
    """
    lines = stderr.splitlines()
    return [line for line in lines[:-1] if line.startswith("error: ")] + lines[-1:]


@needs_mounts
@pytest.mark.parametrize("who", ["a cell", "the runner"])
def test_a_full_disk_is_one_line_and_damages_nothing(tmp_path, on_a_small_disk, who):
    """The second run fills the disk: with a table, or with so much that the executed notebook finds
    no room.
    """
    fill = (
        "print('x\\n' * 100_000)"
        if who == "the runner"
        else TABLE.format("stage", "two").replace("[n]", "range(10**5)")
    )
    book = notebook(
        tmp_path / "book.ipynb",
        PARAMETERS,
        TABLE.format("stage", "one"),
        f"if n > 1:\n    {fill.splitlines()[-1]}",
    )
    done, after = on_a_small_disk(200, stage(book, 1), "cp -r reports before", stage(book, 2))
    assert done.returncode == 1 and done.stdout == ""
    assert told(done.stderr) == ["error: reports/.staging/stage: No space left on device"]
    before = {
        str(p.relative_to(tmp_path / "before")): p.read_bytes()
        for p in (tmp_path / "before").rglob("*")
        if p.is_file()
    }
    assert after == before and len(before) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("write", "where"),
    [
        ("open('/dev/full', 'w', 1).write('x\\n')", "{staged}"),
        ("raise OSError(28, 'No space left on device', '/shm/x')", "/shm/x"),
    ],
)
def test_the_cell_that_found_the_disk_full_is_named(tmp_path, capfd, write, where):
    book = notebook(tmp_path / "book.ipynb", PARAMETERS, write)
    (tmp_path / "params.yaml").write_text("stage: {}")
    code = runner.main(
        [
            str(book),
            "stage",
            "--params",
            str(tmp_path / "params.yaml"),
            "--reports",
            str(tmp_path / "reports"),
        ]
    )
    where = where.format(staged=tmp_path / "reports" / ".staging" / "stage")
    (said,) = told(capfd.readouterr().err)
    assert code == 1 and said == f"error: {where}: No space left on device ({book}: cell [2])"
    assert not (tmp_path / "reports").exists()


READ_ONLY = {"the whole": "reports", "one folder": "reports/tables"}


@needs_mounts
@pytest.mark.parametrize("folder", READ_ONLY.values(), ids=READ_ONLY)
def test_a_read_only_folder_is_named_before_the_notebook_runs(tmp_path, on_a_small_disk, folder):
    book = notebook(tmp_path / "book.ipynb", PARAMETERS, "open('ran', 'w')")
    commands = [
        f"mkdir -p reports/tables/stage {folder}",
        "echo earlier > reports/tables/stage/one.csv",
    ]
    commands += [
        f"mount --bind {folder} {folder}",
        f"mount -o remount,bind,ro {folder}",
        stage(book, 1),
    ]
    done, after = on_a_small_disk(200, *commands)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        f"error: {folder}: Read-only file system\n",
    )
    assert after == {"tables/stage/one.csv": b"earlier\n"} and not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_user_is_named_before_the_notebook_runs(tmp_path):
    (tmp_path / "tables").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="Permission denied"):
        staging.require_writable(tmp_path, "stage")
