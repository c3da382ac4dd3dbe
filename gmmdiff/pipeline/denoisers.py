"""The denoisers that anybody can load, and their model card: the first seed's runs of sparse faces
trained again, which takes seconds, so that no training stage need keep its weights.
"""

from __future__ import annotations

import shutil
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
from gmmdiff.pipeline.runner import recorded

NOTEBOOK = NOTEBOOKS / "02b_faces_runs.ipynb"  # of the experiment
NAME = "denoisers"  # of the folder in reports
FILE = "faces-{}.safetensors"  # in it, of an arm
ARMS = {
    "feature": "one draw for every attribute's value, side by side",
    "class": "one draw for the whole combination of attributes",
}
METRICS = {"wrong": ".1%", "malformed": ".1%", "copy": ".1%", "law": ".2f"}  # as the card has them


def first_runs(params: Path) -> tuple[pd.DataFrame, TrainingSettings, str, str]:
    """Their two rows of the run table, their settings, the device, and the name of their part."""
    values = defaults(NOTEBOOK) | stage_parameters(params, "faces", NOTEBOOK)
    device, part = resolve_device(values["device"]), f"judged_{values['story_n_train']}"
    rows, settings = choose(faces.run_tables(values), part)
    return chosen(rows), settings, device, part


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a run table the first seed's runs of ``ARMS`` as points, in this order."""
    first = rows[(rows["s_c"] == 0) & (rows["seed"] == rows["seed"].iloc[0])]
    return first.set_index("granularity", drop=False).loc[list(ARMS)].reset_index(drop=True)


def module_of(run: Run, parameters: Tensor) -> Denoiser:
    """The denoiser of a trained run on faces whose weights are ``(count,)``."""
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


def card(run: Run, errors: pd.DataFrame) -> str:
    """The model card, Markdown, of one of the runs, which share all but their ``errors``."""
    template = Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")
    options = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    counts = run.data[1].bincount()
    return Template(template, undefined=StrictUndefined, **options).render(
        files={arm: FILE.format(arm) for arm in ARMS},
        arms=ARMS,
        run=run,
        world=run.seed_data.world,
        held_out=run.seed_data.held_out.tolist(),
        seen=int((counts > 0).sum()),
        median=int(counts[counts > 0].median()),
        parameters=StackedMLP.count(run.sizes),
        last=LAST_TIME,
        errors=errors,
        licence=Path("LICENSE").read_text(encoding="utf-8").partition("\n")[0],
    )


def make(params: Path = PARAMS, reports: Path = REPORTS) -> None:
    """Trains the two and writes their files and the card, whose errors the experiment's table has,
    and then, as other stages do, how long it took.
    """
    with recorded(reports / "environment" / f"{NAME}.json"):
        rows, settings, device, part = first_runs(params)
        table = pd.read_csv(reports / "tables" / "faces_runs" / part / "runs.csv")
        trained = train(rows, settings, device, progress)
        runs = [Run(row, settings) for row in rows.itertuples(index=False)]
        text = card(runs[0], errors(table, rows))
        folder = reports / NAME
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for run, parameters in zip(runs, trained.parameters, strict=True):
            save(module_of(run, parameters), folder / FILE.format(run.row.granularity))
        (folder / "card.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(exit_code(make))
