"""The committed snapshot reports/published: what is in it, what is not and why, and its digests."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from gmmdiff.pipeline.parameters import REPORTS

PUBLISHED = REPORTS / "published"
FACES = "ask_for_a_face"  # a folder of reports that the snapshot leaves out: its page holds it
PARTS = (  # of reports/, in the snapshot, which also has a page of its own
    "claims.json",
    "metrics.json",
    "parameters.md",
    "parameters.ok",
    "tables",
    "figures",
    "notebooks",
    "denoisers",
    "environment",
)
OPTIONAL = ("celeba", "in_your_own_model", "performance")  # stages of notebooks/more
OF_THE_MACHINE = (  # what tells of a machine or of a snapshot, outside byte-identity
    "environment",
    "index.html",
    "verification.html",
    "verification.json",
    "soak.csv",
    "params.yaml",
    "manifest.json",
    *(f"{kind}/{stage}" for kind in ("tables", "figures") for stage in OPTIONAL),
    *(f"notebooks/{stage}.ipynb" for stage in OPTIONAL),
)


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_the_machine(path: Path) -> bool:
    """Whether a file, named from its folder of reports, may differ where no number does."""
    return any(path.is_relative_to(part) for part in OF_THE_MACHINE)


def published(path: Path) -> bool:
    """Whether the snapshot holds a result, a file or a folder named from its folder of reports:
    all but ``FACES`` and the notebooks that train, which show a few rows of their tables.
    """
    trains = path.parts[0] == "notebooks" and len(path.parts) > 1 and "_runs" in path.parts[1]
    return path.parts[0] != FACES and not trains


def _files(folder: Path, pattern: str = "*") -> list[Path]:
    """Every file of a folder, named from it; none where there is no such folder."""
    return sorted(path.relative_to(folder) for path in folder.rglob(pattern) if path.is_file())


def snapshot_files(folder: Path) -> dict[str, str]:
    """Path and SHA-256 of every file of a snapshot that is the same on every run."""
    return {str(p): digest(folder / p) for p in _files(folder) if not of_the_machine(p)}


def run_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Every stage's record of its run by the stage's name, from an environment folder."""
    records = _files(folder, "*.json")
    return {p.with_suffix("").as_posix(): json.loads((folder / p).read_bytes()) for p in records}


def copy_results(reports: Path, snapshot: Path) -> None:
    """Replaces a snapshot's parts by those of a folder of reports; what else is there stays.

    Contents are copied, not permissions: DVC may have made the results read-only.
    """

    def left_out(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).relative_to(reports)
        return [name for name in names if not published(inside / name)]

    snapshot.mkdir(exist_ok=True)
    for part in PARTS:
        source, target = reports / part, snapshot / part
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=left_out, copy_function=shutil.copyfile)
        else:
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)


def write_manifest(snapshot: Path, lock: Path) -> int:
    """Writes manifest.json, the digests of dvc.lock and of all files; gives how many there are."""
    manifest = {"dvc.lock": digest(lock), "files": snapshot_files(snapshot)}
    (snapshot / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return len(manifest["files"])
