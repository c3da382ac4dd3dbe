"""`dvc repro`, whose arguments it takes, that may be killed at any moment, by a machine that loses
power too, and then simply started again; and a line of overall progress before every stage.

A killed stage is not in ``dvc.lock``, so it runs again.  What else DVC 3.67 leaves behind when it
is killed, and what is done about it here:

- ``dvc.lock`` is written in place.  Cut there it may be no YAML, which DVC refuses.  It is removed:
  the run cache gives every finished stage back without running it.
- ``.dvc/tmp/rwlock`` lists the processes at work by number.  DVC strikes out those that no longer
  live, but gives way to one whose number another process has got since (after a reboot, or in a new
  container), and refuses a file cut short.  It is removed where none of those processes lives.
- Files under a temporary name in the cache are litter, and are removed.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from gmmdiff.pipeline.snapshot import PUBLISHED, run_records

if TYPE_CHECKING:
    from dvc.stage import Stage


def _lives(number: int, since: float) -> bool:
    """Whether the process that had this number at a time (seconds since 1970) still lives."""
    try:
        process = psutil.Process(number)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since
    except psutil.NoSuchProcess:
        return False


def _at_work(rwlock: Path) -> bool:
    """Whether a process that a DVC lock file lists still lives."""
    try:
        content, written = json.loads(rwlock.read_text(encoding="utf-8")), rwlock.stat().st_mtime
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    owners = sum(content.get("read", {}).values(), [*content.get("write", {}).values()])
    return any(_lives(owner["pid"], written) for owner in owners)


def clear(root: Path) -> None:
    """Removes what a killed run left in a DVC repository, unless another DVC is at work there."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError, make_lock
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.strictyaml import load

    folder = root / ".dvc" / "tmp"
    try:
        with make_lock(str(folder / "lock")):
            if _at_work(folder / "rwlock"):
                return
            (folder / "rwlock").unlink(missing_ok=True)
            for litter in (root / ".dvc" / "cache").rglob("*.tmp"):
                litter.unlink()
            for lock in [*root.glob("dvc.lock"), *root.glob("notebooks/*/dvc.lock")]:
                try:
                    load(lock, COMPILED_LOCKFILE_SCHEMA)
                except DvcException:
                    lock.unlink()
    except (LockError, OSError):  # DVC is at work, or never was
        return


def settle_without_git(root: Path) -> None:
    """Lets DVC work in a copy without Git, such as a ZIP of the repository."""
    inside = any((folder / ".git").exists() for folder in (root.resolve(), *root.resolve().parents))
    local = root / ".dvc" / "config.local"
    before = local.read_text(encoding="utf-8") if local.is_file() else ""
    if not inside and "no_scm" not in before:
        local.write_text(f"{before}[core]\n    no_scm = true\n", encoding="utf-8")


def recorded_seconds(stages: Sequence[Stage], environment: Path) -> list[float]:
    """What the stages took by the records of an environment folder; 0 for one without a record."""
    records, seconds = run_records(environment), []
    for stage in stages:
        outs = (out.def_path.removeprefix("reports/notebooks/") for out in stage.outs)
        names = {stage.name, *(out.removesuffix(".ipynb") for out in outs)}
        seconds.append(sum(records[name]["seconds"] for name in names if name in records))
    return seconds


def with_progress(reproduce: Callable[..., Any], one: Callable[..., Any]) -> Callable[..., Any]:
    """DVC's function that reproduces stages in their order by its function for ``one``, made to
    print before each how many are done, and how long those to come took when they were published.
    """

    def reproduce_all(stages: Sequence[Stage], **options: Any) -> Any:
        recorded = recorded_seconds(stages, PUBLISHED / "environment")
        numbers = iter(range(len(stages)))

        def reproduce_one(stage: Stage, **given: Any) -> Any:
            number = next(numbers)
            minutes = math.ceil(sum(recorded[number:]) / 60)
            done = f"{number} of {len(stages)} stages done, the others took {minutes} min"
            print(f"{done} when published; now {stage.addressing}", file=sys.stderr, flush=True)
            return one(stage, **given)

        return reproduce(stages, repro_fn=reproduce_one, **options)

    return reproduce_all


def main(arguments: list[str]) -> int:
    """Runs `dvc repro` with these arguments; returns its exit code."""
    from dvc.cli import main as dvc
    from dvc.repo import reproduce

    clear(Path())
    settle_without_git(Path())
    reproduce._reproduce = with_progress(reproduce._reproduce, reproduce._reproduce_stage)
    return dvc(["repro", *arguments])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
