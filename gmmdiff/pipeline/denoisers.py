"""The denoisers that anybody can load, and their model card.

    python -m gmmdiff.pipeline.denoisers

trains the first seed's feature and class denoiser of the experiment on sparse faces again, as
points, and writes reports/denoisers: seconds of work, so no training stage need keep its weights.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch
from jinja2 import StrictUndefined, Template
from torch import Tensor

from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.engine.denoiser import Denoiser, Settings, save
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import LAST_TIME, Run, TrainingSettings
from gmmdiff.engine.training import resolve_device, train
from gmmdiff.experiments.feature_vs_class import faces
from gmmdiff.experiments.run_tables import choose
from gmmdiff.pipeline.errors import exit_code
from gmmdiff.pipeline.parameters import NOTEBOOKS, PARAMS, REPORTS, defaults, stage_parameters
from gmmdiff.pipeline.results import progress
from gmmdiff.pipeline.runner import environment, memory

NOTEBOOK = NOTEBOOKS / "02b_faces_runs.ipynb"  # of the experiment
NAME = "denoisers"  # of the folder in reports
FILE = "faces-{}.safetensors"  # in it, of an arm
ARMS = {
    "feature": "one draw for every attribute's value, side by side",
    "class": "one draw for the whole combination of attributes",
}
METRICS = {"wrong": ".1%", "malformed": ".1%", "copy": ".1%", "law": ".2f"}  # as the card has them


def first_runs(params: Path) -> tuple[pd.DataFrame, TrainingSettings, str, str]:
    """Their two rows of the run table, their settings, the device, and the name of their part.

    Raises:
        BadInput: as ``stage_parameters``.
    """
    values = defaults(NOTEBOOK) | stage_parameters(params, "faces", NOTEBOOK)
    device, part = resolve_device(values["device"]), f"judged_{values['story_n_train']}"
    rows, settings = choose(faces.run_tables(values), part)
    return chosen(rows), settings, device, part


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a run table the first seed's runs of ``ARMS`` as points, in this order."""
    first = rows[(rows["s_c"] == 0) & (rows["seed"] == rows["seed"].iloc[0])]
    return first.set_index("granularity", drop=False).loc[list(ARMS)].reset_index(drop=True)


def module_of(run: Run, parameters: Tensor) -> Denoiser:
    """The denoiser of a trained run on faces.

    Args:
        parameters: its weights, ``(count,)``.
    """
    settings, world, scale = run.settings, run.seed_data.world, run.data[2]
    denoiser = Denoiser(
        Settings(
            world.combinations.shape[1],
            world.shape[0],
            run.row.seed,
            run.conditioning.dim,
            settings.width,
            settings.hidden,
            settings.centre,
            scale,
            *(scale * end + settings.centre for end in run.range),
            LAST_TIME,
        )
    )
    denoiser.conditioning = GaussianMixtureConditioning(run.means, run.conditioning.scale)
    layers = denoiser.network[::2]  # between them activations
    parts = StackedMLP.split(run.sizes, parameters.unsqueeze(0))
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, parts, strict=True):
            layer.weight.copy_(weight[0])
            layer.bias.copy_(bias[0, :, 0])
    return denoiser


def errors(runs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Of the table ``runs`` that ``faces`` leaves what it says of these rows: one row a group of
    combinations, columns arm and metric, each as the card shows it.
    """
    factors = [name for name in rows.columns if name in runs.columns]
    drawn = runs[(runs["condition"] == "drawn") & runs["metric"].isin(METRICS)]
    table = drawn.merge(rows, on=factors).pivot(
        index="group", columns=["granularity", "metric"], values="value"
    )[[(arm, metric) for arm in ARMS for metric in METRICS]]
    return table.apply(lambda column: column.map(f"{{:{METRICS[column.name[1]]}}}".format))


def card(files: Mapping[str, str], run: Run, errors: pd.DataFrame, licence: str) -> str:
    """The model card, Markdown.

    Args:
        files: arm -> its file's name.
        run: one of the runs; they share all that the card says of it.
        errors: as ``errors``.
        licence: its name.
    """
    source = Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")
    options = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    counts = run.data[1].bincount()
    return Template(source, undefined=StrictUndefined, **options).render(
        files=files,
        arms=ARMS,
        run=run,
        world=run.seed_data.world,
        held_out=run.seed_data.held_out.tolist(),
        seen=int((counts > 0).sum()),
        median=int(counts[counts > 0].median()),
        parameters=StackedMLP.count(run.sizes),
        last=LAST_TIME,
        errors=errors,
        licence=licence,
    )


def make(params: Path = PARAMS, reports: Path = REPORTS) -> None:
    """Trains the two, writes their files and the card, and then, as other stages do, how long it
    took.

    Raises:
        BadInput: as ``stage_parameters``.
        FileNotFoundError: where the experiment's table, whose errors the card has, is missing.
    """
    start, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
    rows, settings, device, part = first_runs(params)
    table = pd.read_csv(reports / "tables" / "faces_runs" / part / "runs.csv")
    trained = train(rows, settings, device, progress)
    runs = [Run(row, settings) for row in rows.itertuples(index=False)]
    files = {run.row.granularity: FILE.format(run.row.granularity) for run in runs}
    licence = Path("LICENSE").read_text(encoding="utf-8").splitlines()[0]
    text = card(files, runs[0], errors(table, rows), licence)
    shutil.rmtree(reports / NAME, ignore_errors=True)
    (reports / NAME).mkdir()
    for run, parameters in zip(runs, trained.parameters, strict=True):
        save(module_of(run, parameters), reports / NAME / files[run.row.granularity])
    (reports / NAME / "card.md").write_text(text, encoding="utf-8")
    spent = {"seconds": round(time.monotonic() - start, 1), "memory": memory()}
    record = reports / "environment" / f"{NAME}.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps(environment() | {"started": started} | spent, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(exit_code(make))
