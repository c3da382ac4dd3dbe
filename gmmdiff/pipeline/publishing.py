"""The pages, the committed snapshot in reports/published, and the tables of README.md and
REPRODUCING.md.

python -m gmmdiff.pipeline.publishing pages      renders the report and the verification, as the pipeline's last stage
python -m gmmdiff.pipeline.publishing publish    copies what `dvc repro` made, unless dvc.lock is stale
python -m gmmdiff.pipeline.publishing compare    prints how this machine's results stand beside the published ones
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmdiff.pipeline import pages, verification
from gmmdiff.pipeline.execution.errors import BadInput, exit_code
from gmmdiff.pipeline.execution.notebook import read_tables, run_records
from gmmdiff.pipeline.execution.parameters import PARAMS, REPORTS, read_params

PUBLISHED = REPORTS / "published"
PARTS = (
    "index.html",
    "claims.json",
    "metrics.json",
    "parameters.md",
    "parameters.ok",
    "tables",
    "figures",
    "notebooks",
    "environment",
)
OF_THE_MACHINE = (  # what tells of a machine or of a snapshot, outside byte-identity
    "environment",
    "index.html",
    "verification.html",
    "verification.json",
    "soak.csv",
    "params.yaml",
    "manifest.json",
    "tables/performance",
    "figures/performance",
    "notebooks/performance.ipynb",
)


def claims_table(claims: list[dict[str, Any]]) -> str:
    """The claims and their verdicts as a Markdown table, and what was measured folded away below
    it.
    """
    marks = {"reproduced": "✓", "partly": "◐", "not reproduced": "✗", "inconclusive": "?"}
    lines = ["| | Claim | Verdict |", "|---|---|---|"]
    lines += [
        f"| {c['id']} | {c['statement']} | {marks[c['verdict']]} **{c['verdict']}** |"
        for c in claims
    ]
    lines += ["", "<details><summary>What was measured</summary>", ""]
    lines += [f"- **{c['id']}** {html.escape(c['details'], quote=False)}" for c in claims]
    return "\n".join([*lines, "", "</details>"])


def times_table(folder: Path) -> str:
    """How long every stage took, in what memory and on what, from the records of an environment
    folder, as a Markdown table.
    """
    records = run_records(folder)
    lines = [
        "| Stage | Seconds | Peak memory, MiB | Device | Processors |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {stage} | {r['seconds']:.0f} | {r['memory']} | {r['device']} | {r['processors']} |"
        for stage, r in records.items()
    ]
    total, most = (
        sum(r["seconds"] for r in records.values()),
        max(r["memory"] for r in records.values()),
    )
    return "\n".join([*lines, f"| **all** | **{total:.0f}** | **{most}** | | |"])


def write_between_markers(file: Path, name: str, table: str) -> str:
    """The file's text with the table between the two markers of that name.

    Raises:
        BadInput: when a marker is missing.
    """
    text, markers = (
        file.read_text(),
        (f"<!-- {name}: written by the pipeline -->", f"<!-- end of {name} -->"),
    )
    start, end = (text.find(marker) for marker in markers)
    if not 0 <= start < end:
        raise BadInput(
            f"{file}: the markers {markers[0]} and {markers[1]} must stand there, in this order"
        )
    return f"{text[: start + len(markers[0])]}\n{table}\n{text[end:]}"


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_the_machine(path: Path) -> bool:
    """Whether a file, named from its folder of reports, may differ where every number is the same."""
    return any(path.is_relative_to(part) for part in OF_THE_MACHINE)


def snapshot_files(folder: Path) -> dict[str, str]:
    """Path and SHA-256 of every file of a snapshot that is the same on every run."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path): digest(folder / path) for path in files if not of_the_machine(path)}


def stale_stages() -> dict[str, Any]:
    """What `dvc status` finds changed since dvc.lock was written, but for the stage that always
    runs; empty when nothing is.
    """
    found = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=False)
    if found.returncode:
        raise BadInput(f"dvc status failed: {found.stderr.strip().splitlines()[-1]}")
    return {
        stage: why
        for stage, why in json.loads(found.stdout or "{}").items()
        if why != ["always changed"]
    }


def publish() -> None:
    """Copies the parts of reports/ to reports/published/, writes its manifest and the README's
    table.

    What else is there, the table of `make soak`, stays.

    Raises:
        BadInput: when dvc.lock is stale or a part is missing; the earlier snapshot is untouched.
    """
    if stale := stale_stages():
        raise BadInput(f"dvc.lock is stale, run `dvc repro` first; changed: {', '.join(stale)}")
    if missing := [part for part in PARTS if not (REPORTS / part).exists()]:
        raise BadInput(f"reports: missing {', '.join(missing)}; run `dvc repro` first")
    claims = json.loads((REPORTS / "claims.json").read_text())
    tables = {
        Path("README.md"): write_between_markers(Path("README.md"), "claims", claims_table(claims)),
        Path("REPRODUCING.md"): write_between_markers(
            Path("REPRODUCING.md"), "times", times_table(REPORTS / "environment")
        ),
    }
    PUBLISHED.mkdir(exist_ok=True)
    for part in PARTS:
        source, target = REPORTS / part, PUBLISHED / part
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    shutil.copy2(PARAMS, PUBLISHED)
    manifest = {"dvc.lock": digest(Path("dvc.lock")), "files": snapshot_files(PUBLISHED)}
    (PUBLISHED / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for page, text in tables.items():
        page.write_text(text)
    print(f"published {len(manifest['files'])} files to {PUBLISHED}")


def _machines(folder: Path) -> dict[str, Any]:
    """What the stages ran on, but for host, times and memory: one record, or several values joined
    where stages differ.
    """
    found: dict[str, Any] = {}
    for record in run_records(folder).values():
        packages = record.pop("packages")
        for name, value in (record | packages).items():
            if name not in ("host", "started", "seconds", "spent", "memory"):
                found.setdefault(name, []).append(str(value))
    return {name: ", ".join(dict.fromkeys(values)) for name, values in found.items()}


def verify(here: Path = REPORTS, there: Path = PUBLISHED, params: Path = PARAMS) -> dict[str, Any]:
    """This machine's results beside the published ones: the content of reports/verification.json.

    Raises:
        BadInput: when either is missing.
    """
    for path in (here / "claims.json", there / "claims.json"):
        if not path.is_file():
            raise BadInput(f"{path}: no such file; run `dvc repro` first")
    ours, theirs = (json.loads((folder / "claims.json").read_text()) for folder in (here, there))
    verdicts = verification.compare_verdicts(ours, theirs)
    both = [
        pd.concat(
            [
                verification.summarise(stage, read_tables(folder / "tables" / stage))
                for stage in verification.REPEATS
            ],
            ignore_index=True,
        )
        for folder in (here, there)
    ]
    metrics = verification.compare_metrics(*both)
    published = snapshot_files(there)
    differing = [
        path
        for path, value in published.items()
        if not (here / path).is_file() or digest(here / path) != value
    ]
    return {
        "conclusion": verification.conclusion(verdicts, metrics, len(differing)),
        "verdicts": verdicts.to_dict("records"),
        "metrics": {
            "of": len(metrics),
            "inside": int(metrics["inside"].sum()),
            "outside": metrics[~metrics["inside"]].replace({np.nan: None}).to_dict("records"),
        },
        "files": {
            "of": len(published),
            "same": len(published) - len(differing),
            "differing": differing,
        },
        "parameters": verification.differences(
            read_params(params), read_params(there / "params.yaml")
        ),
        "machine": verification.differences(
            _machines(here / "environment"), _machines(there / "environment")
        ),
    }


def write_pages(
    reports: Path = REPORTS, published: Path = PUBLISHED, params: Path = PARAMS
) -> None:
    """index.html, verification.json and verification.html: each written whole, or the earlier one
    left.
    """
    found = verify(reports, published, params)
    made = {
        "index.html": pages.report_page(reports),
        "verification.json": json.dumps(found, indent=1) + "\n",
        "verification.html": pages.verification_page(found),
    }
    staged = reports / ".staging" / "pages"
    staged.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (staged / name).write_text(text)
        os.replace(staged / name, reports / name)
    staged.rmdir()


def show(found: dict[str, Any]) -> int:
    """Prints what ``verify`` found; returns 1 when a verdict differs, else 0."""
    print(f"\n{'claim':6} {'here':15} {'published':15} statement")
    for claim in found["verdicts"]:
        print(f"{claim['id']:6} {claim['here']:15} {claim['published']:15} {claim['statement']}")
    metrics, files = found["metrics"], found["files"]
    print(
        f"\n{metrics['inside']} of {metrics['of']} metrics lie in their published interval, widened as stated."
    )
    for row in metrics["outside"][:10]:
        print(
            f"  outside: {row['stage']}, {row['arm']}: {row['metric']} {row['here']} not in [{row['low']:.4g}, {row['high']:.4g}]"
        )
    print(f"{files['same']} of {files['of']} files are byte-identical to the published ones.")
    for kind in ("parameters", "machine"):
        for row in found[kind]:
            print(f"other {kind}: {row['name']} {row['here']}, published {row['published']}")
    print(
        f"\n{found['conclusion']}; more in {REPORTS / 'verification.html'}, the report is {REPORTS / 'index.html'}"
    )
    return int(found["conclusion"] == "not reproduced")


def compare() -> int:
    """Prints what the last stage found; returns 1 when a verdict differs.

    Raises:
        BadInput: when it has not run.
    """
    path = REPORTS / "verification.json"
    if not path.is_file():
        raise BadInput(f"{path}: no such file; run `dvc repro` first")
    return show(json.loads(path.read_text()))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 1 where a verdict differs, else as
    ``checks.exit_code``.
    """
    parser = argparse.ArgumentParser(
        prog="gmmdiff.pipeline.publishing", description=__doc__.split("\n")[0]
    )
    parser.add_argument("action", choices=["pages", "publish", "compare"])
    actions = {"pages": write_pages, "publish": publish, "compare": compare}
    return exit_code(actions[parser.parse_args(arguments).action])


if __name__ == "__main__":
    raise SystemExit(main())
