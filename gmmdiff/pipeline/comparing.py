"""This machine's results beside the published ones: what reports/verification.json holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmmdiff.judging.tables import read_tables
from gmmdiff.pipeline import verification
from gmmdiff.pipeline.execution.errors import BadInput
from gmmdiff.pipeline.execution.parameters import PARAMS, REPORTS, read_params
from gmmdiff.pipeline.snapshot import PUBLISHED, digest, run_records, snapshot_files

OF_ONE_RUN = ("host", "started", "seconds", "spent", "memory")  # in a record, not compared


def _machines(folder: Path) -> dict[str, Any]:
    """What the stages ran on, one record: several values, where stages differ, are joined."""
    found: dict[str, Any] = {}
    for record in run_records(folder).values():
        packages = record.pop("packages")
        for name, value in (record | packages).items():
            if name not in OF_ONE_RUN:
                found.setdefault(name, []).append(str(value))
    return {name: ", ".join(dict.fromkeys(values)) for name, values in found.items()}


def _metrics(folder: Path) -> pd.DataFrame:
    """Every metric of every stage with claims, from a folder of reports."""
    parts = [
        verification.summarise(stage, read_tables(folder / "tables" / stage))
        for stage in verification.REPEATS
    ]
    return pd.concat(parts, ignore_index=True)


def _differing(here: Path, published: dict[str, str]) -> list[str]:
    """The published files that are missing here or have other bytes."""
    return [
        path
        for path, value in published.items()
        if not (here / path).is_file() or digest(here / path) != value
    ]


def verify(here: Path = REPORTS, there: Path = PUBLISHED, params: Path = PARAMS) -> dict[str, Any]:
    """This machine's results beside the published ones: the content of reports/verification.json.

    Raises:
        BadInput: when either is missing.
    """
    for path in (here / "claims.json", there / "claims.json"):
        if not path.is_file():
            raise BadInput(f"{path}: no such file; run `dvc repro` first")
    ours, theirs = (
        json.loads((folder / "claims.json").read_text(encoding="utf-8")) for folder in (here, there)
    )
    verdicts = verification.compare_verdicts(ours, theirs)
    metrics = verification.compare_metrics(_metrics(here), _metrics(there))
    files = snapshot_files(there)
    differing = _differing(here, files)
    return {
        "conclusion": verification.conclusion(verdicts, metrics, len(differing)),
        "verdicts": verdicts.to_dict("records"),
        "metrics": {
            "of": len(metrics),
            "inside": int(metrics["inside"].sum()),
            "outside": metrics[~metrics["inside"]].replace({np.nan: None}).to_dict("records"),
        },
        "files": {"of": len(files), "same": len(files) - len(differing), "differing": differing},
        "parameters": verification.differences(
            read_params(params), read_params(there / "params.yaml")
        ),
        "machine": verification.differences(
            _machines(here / "environment"), _machines(there / "environment")
        ),
    }


def show(found: dict[str, Any]) -> int:
    """Prints what ``verify`` found; returns 1 when a verdict differs, else 0."""
    print(f"\n{'claim':20} {'here':15} {'published':15} statement")
    for claim in found["verdicts"]:
        name = verification.claim_name(claim)
        print(f"{name:20} {claim['here']:15} {claim['published']:15} {claim['statement']}")
    metrics, files = found["metrics"], found["files"]
    inside = f"{metrics['inside']} of {metrics['of']} metrics"
    print(f"\n{inside} lie in their published interval, widened as stated.")
    for row in metrics["outside"][:10]:
        metric = f"{row['stage']}, {row['arm']}: {row['metric']}"
        print(f"  outside: {metric} {row['here']} not in [{row['low']:.4g}, {row['high']:.4g}]")
    print(f"{files['same']} of {files['of']} files are byte-identical to the published ones.")
    for kind in ("parameters", "machine"):
        for row in found[kind]:
            print(f"other {kind}: {row['name']} {row['here']}, published {row['published']}")
    pages = f"more in {REPORTS / 'verification.html'}, the report is {REPORTS / 'index.html'}"
    print(f"\n{found['conclusion']}; {pages}")
    return int(found["conclusion"] == "not reproduced")
