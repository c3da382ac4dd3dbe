"""`dvc repro` that may be killed at any moment, by a machine that loses power too, and then simply
started again.

    python -m gmmdiff.pipeline.resume     takes the arguments of `dvc repro`

What DVC 3.67 leaves behind when it is killed, and what is done about it here:

- ``dvc.lock`` is written in place after every stage.  Cut there, it is empty, which DVC refuses, or
  lacks its last stages, which then run again.  Here it is written aside and renamed, so that it is
  the old one or the new one, on a full disk too.
- ``.dvc/tmp/rwlock`` lists the processes at work by number.  DVC strikes out those that no longer
  live, but gives way to one whose number another process has got since (after a reboot, or in a new
  container), and refuses a file cut short.  Here it is removed where none of those processes lives.
- ``.dvc/tmp/lock`` is a lock of the kernel's and ends with its process; the cache is written aside
  and renamed.  What remains there under a temporary name is litter, removed here; so is what the
  stages left in reports/.staging.

A plain `dvc repro` goes without this help.  Killed in the quarter of a second after a stage in
which it writes dvc.lock, it may need `git checkout dvc.lock`, and then runs the stages again.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from gmmdiff.pipeline.execution.staging import sweep
from gmmdiff.pipeline.progress import told


def whole(write: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes a file, its first argument, made to write aside and rename: all of it
    or nothing.
    """

    def written(path: os.PathLike[str] | str, *rest: Any, **options: Any) -> None:
        aside = f"{os.fspath(path)}.tmp"
        try:
            write(aside, *rest, **options)
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise

    return written


def _lives(number: int, since: float) -> bool:
    """Whether the process that had this number at a time (seconds since 1970) still lives."""
    try:
        process = psutil.Process(number)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since
    except psutil.NoSuchProcess:
        return False


def at_work(rwlock: Path) -> set[int]:
    """Numbers of the living processes that a DVC lock file lists; none where it cannot be read."""
    try:
        content, written = json.loads(rwlock.read_text(encoding="utf-8")), rwlock.stat().st_mtime
    except (FileNotFoundError, json.JSONDecodeError):
        return set()
    owners = [
        *content.get("write", {}).values(),
        *itertools.chain(*content.get("read", {}).values()),
    ]
    return {owner["pid"] for owner in owners if _lives(owner["pid"], written)}


def clear(root: Path) -> None:
    """Removes what killed runs left in a DVC repository, unless another DVC process is at work
    there.
    """
    from dvc.lock import LockError, make_lock

    sweep(root / "reports")
    folder = root / ".dvc" / "tmp"
    try:
        with make_lock(str(folder / "lock")):
            if not at_work(folder / "rwlock"):
                (folder / "rwlock").unlink(missing_ok=True)
                for litter in [root / "dvc.lock.tmp", *(root / ".dvc" / "cache").rglob("*.tmp")]:
                    litter.unlink(missing_ok=True)
    except (LockError, OSError):  # DVC is at work, or never was
        return


def settle_without_git(root: Path) -> None:
    """Lets DVC work in a copy without Git, such as a ZIP of the repository."""
    inside = any((folder / ".git").exists() for folder in (root.resolve(), *root.resolve().parents))
    local = root / ".dvc" / "config.local"
    told = local.read_text(encoding="utf-8") if local.is_file() else ""
    if not inside and "no_scm" not in told:
        local.write_text(f"{told}[core]\n    no_scm = true\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Runs `dvc repro` with these arguments; returns its exit code."""
    from dvc.cli import main as dvc
    from dvc.repo import reproduce
    from dvc.utils.serialize import _common

    clear(Path())
    settle_without_git(Path())
    _common._dump_data = whole(_common._dump_data)
    reproduce._reproduce = told(reproduce._reproduce, reproduce._reproduce_stage)
    return dvc(["repro", *arguments])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
