"""The module of a trained run, and what is to be known of it, as a model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor
from torch.nn import Linear

from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.engine.denoiser import Denoiser, Settings
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import LAST_TIME, Run

TOLD = {
    "feature": "one draw for every attribute's value, side by side",
    "class": "one draw for the whole combination of attributes",
}
METRICS = {"wrong": ".1%", "malformed": ".1%", "copy": ".1%", "law": ".2f"}  # as the card has them


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a run table the first seed's runs of ``TOLD`` as points, in this order."""
    first = rows[(rows["s_c"] == 0) & (rows["seed"] == rows["seed"].iloc[0])]
    return first.set_index("granularity", drop=False).loc[list(TOLD)].reset_index(drop=True)


def module_of(run: Run, parameters: Tensor) -> Denoiser:
    """The denoiser of a trained run on faces.

    Args:
        parameters: its weights, ``(count,)``.
    """
    settings, world = run.settings, run.seed_data.world
    settings = Settings(
        world.combinations.shape[1],
        world.shape[0],
        run.row.seed,
        run.conditioning.dim,
        settings.width,
        settings.hidden,
        settings.centre,
        run.data[2],
        *(run.data[2] * end + settings.centre for end in run.range),
        LAST_TIME,
    )
    denoiser = Denoiser(settings)
    denoiser.conditioning = GaussianMixtureConditioning(run.means, run.conditioning.scale)
    layers = (layer for layer in denoiser.network if isinstance(layer, Linear))
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
    alike = [name for name in rows.columns if name in runs.columns]
    mine = runs[(runs["condition"] == "drawn") & runs["metric"].isin(METRICS)].merge(rows, on=alike)
    table = mine.pivot(index="group", columns=["granularity", "metric"], values="value")
    table = table[[(arm, metric) for arm in TOLD for metric in METRICS]]
    return table.apply(lambda column: column.map(f"{{:{METRICS[column.name[1]]}}}".format))


def card(files: Mapping[str, str], run: Run, errors: pd.DataFrame, licence: str) -> str:
    """The model card, Markdown.

    Args:
        files: arm -> its file's name.
        run: one of the runs; they share all that is told of it.
        errors: as ``errors``.
        licence: its name.
    """
    world, combination = run.seed_data.world, run.data[1]
    pairs = zip(world.values, world.combinations[0], strict=False)
    counts = combination.bincount()
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return templates.get_template("card.md.j2").render(
        files=files,
        told=TOLD,
        run=run,
        world=world,
        names="; ".join(" or ".join(values) for values, _ in pairs),
        wanted=int(run.seed_data.held_out[0]),
        held_out=[world.describe(c) for c in run.seed_data.held_out.tolist()],
        seen=int((counts > 0).sum()),
        median=int(counts[counts > 0].median()),
        parameters=StackedMLP.count(run.sizes),
        last=LAST_TIME,
        errors=errors,
        licence=licence,
    )
