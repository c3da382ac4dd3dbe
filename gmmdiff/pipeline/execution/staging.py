"""Where results are collected before they are installed: a folder aside, moved whole or not at all.

A run that was killed leaves its folder, which the next run of any stage removes; killed while it
moved results into place, it was never recorded in dvc.lock, so `dvc repro` runs the stage again,
which replaces all of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

PROGRESS_FILE = "progress"  # in the staging folder of a run that has not ended; its lock is held
KINDS = ("tables", "figures")  # folders of results, each with one of the stage


def sweep(reports: Path) -> None:
    """Removes what killed runs left in reports/.staging; those alive or failed keep theirs."""
    for path in list((reports / ".staging").rglob(PROGRESS_FILE)):
        with suppress(OSError), open(path, "r+", encoding="utf-8") as lines:
            fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
            discard(path.parent)


def discard(staged: Path) -> None:
    """Removes a staging folder, and those around it that are then empty."""
    shutil.rmtree(staged, ignore_errors=True)
    with suppress(OSError):
        os.removedirs(staged.parent)


def require_writable(reports: Path, stage: str) -> None:
    """Refuses, before the long work, a folder of results that cannot be written.

    Raises:
        OSError: that names it.
    """
    targets = [reports / kind / stage for kind in (*KINDS, "notebooks", "environment")]
    folders = {
        path
        for target in targets
        for path in (target, *target.parents)
        if path.is_relative_to(reports)
    }
    for folder in sorted(folders):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            code = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(code, os.strerror(code), str(folder))


def install(staged: Path, stage: str, reports: Path) -> None:
    """Moves staged results into place, where nothing of an earlier run stays.

    All of it is renaming, which a full disk does not stop half way; what belongs on another disk is
    copied there first.  Renamed files are new ones, so what a cache links to an old one stays.
    """
    moves = {staged / kind: reports / kind / stage for kind in KINDS}
    moves[staged / "executed.ipynb"] = reports / "notebooks" / f"{stage}.ipynb"
    moves[staged / "environment.json"] = reports / "environment" / f"{stage}.json"
    moves |= {path: reports / path.name for path in staged.iterdir() if path not in moves}
    made = {source: target for source, target in moves.items() if source.exists()}
    for target in made.values():
        target.parent.mkdir(parents=True, exist_ok=True)
    near = _near(made)
    for target in moves.values():
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
    for source, target in near.items():
        os.replace(source, target)


def _near(moves: dict[Path, Path]) -> dict[Path, Path]:
    """The moves, each from the disk it goes to: copies, where it goes to another one."""
    near: dict[Path, Path] = {}
    try:
        for source, target in moves.items():
            if source.stat().st_dev == target.parent.stat().st_dev:
                near[source] = target
                continue
            aside = target.parent / f".{target.name}.staged"
            near[aside] = target
            _remove(aside)
            if source.is_dir():
                shutil.copytree(source, aside, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(source, aside)
    except BaseException:
        for path in near.keys() - moves.keys():
            _remove(path)
        raise
    return near


def write_whole(path: Path, text: str) -> None:
    """Writes a new file and puts it in the old one's place: what a cache links to stays."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def _remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
