"""The denoisers that anybody can load, and their card.

    python -m gmmdiff.pipeline.denoisers

trains the first seed's feature and class denoiser of the experiment on sparse faces again, as
points, and writes reports/denoisers.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from gmmdiff.engine.denoiser import save
from gmmdiff.engine.runs import Run, TrainingSettings, choose
from gmmdiff.engine.training import resolve_device, train
from gmmdiff.experiments.feature_vs_class.faces import parts
from gmmdiff.pipeline.card import card, chosen, errors, module_of
from gmmdiff.pipeline.defaults import defaults
from gmmdiff.pipeline.execution.errors import exit_code
from gmmdiff.pipeline.execution.parameters import NOTEBOOKS, PARAMS, REPORTS, stage_parameters
from gmmdiff.pipeline.execution.runner import environment
from gmmdiff.pipeline.execution.staging import discard
from gmmdiff.pipeline.results import progress

NOTEBOOK = NOTEBOOKS / "02b_faces_runs.ipynb"  # of the experiment
NAME = "denoisers"  # of the folder in reports
FILE = "faces-{}.safetensors"  # in it, of an arm


def first_runs(params: Path) -> tuple[pd.DataFrame, TrainingSettings, str, str]:
    """Their two rows of the run table, their settings, the device, and the name of their part.

    Raises:
        BadInput: as ``stage_parameters``.
    """
    values = defaults(NOTEBOOK) | stage_parameters(params, "faces", NOTEBOOK)
    device, part = resolve_device(values.pop("device")), f"judged_{values['story_n_train']}"
    values.pop("part")
    rows, settings = choose(parts(**values), part)
    return chosen(rows), settings, device, part


def make(params: Path = PARAMS, reports: Path = REPORTS) -> None:
    """Trains the two, writes their files and the card, all of it or nothing, and then, as other
    stages do, how long it took.

    Raises:
        BadInput: as ``stage_parameters``.
        FileNotFoundError: where the experiment's table, whose errors the card tells, is missing.
    """
    start, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
    rows, settings, device, part = first_runs(params)
    table = pd.read_csv(reports / "tables" / "faces_runs" / part / "runs.csv")
    trained = train(rows, settings, device, progress)
    staged, target = reports / ".staging" / NAME, reports / NAME
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    files = {}
    for row, parameters in zip(rows.itertuples(index=False), trained.parameters, strict=True):
        run = Run(row, settings)
        files[row.granularity] = FILE.format(row.granularity)
        save(module_of(run, parameters), staged / files[row.granularity])
    licence = Path("LICENSE").read_text(encoding="utf-8").splitlines()[0]
    told = card(files, run, errors(table, rows), licence)
    (staged / "card.md").write_text(told, encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(staged, target)
    discard(staged)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = {
        "started": started,
        "seconds": round(time.monotonic() - start, 1),
        "spent": {},
        "memory": peak // (2**20 if sys.platform == "darwin" else 2**10),
    }
    record = reports / "environment" / f"{NAME}.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps(environment() | told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(exit_code(make))
