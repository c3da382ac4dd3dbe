"""What trained runs are worth: samples of every combination, measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from gmmdiff.core.diffusion import dpmpp_2m
from gmmdiff.core.streams import stream
from gmmdiff.study.engine.parallel.threads import Tick, Workers, side_by_side
from gmmdiff.study.engine.runs import PREPARED, Progress, Recipe, Run, Scene
from gmmdiff.study.engine.training import Trained


def _tidy(row: tuple, metrics: pd.DataFrame) -> pd.DataFrame:
    return metrics.assign(**row._asdict())[[*row._fields, *metrics.columns]]


def run_by_run(table: pd.DataFrame, trained: Trained) -> list[tuple[pd.DataFrame, Tensor]]:
    """One job a run: its row as a table, its weights as a tensor of their own."""
    return [
        (table.iloc[[i]], parameters.clone()) for i, parameters in enumerate(trained.parameters)
    ]


def _measure(
    job: tuple[pd.DataFrame, Tensor],
    tick: Tick,
    recipe: Recipe,
    sampler: Callable,
    evaluations: int,
    at_mean: bool,
) -> pd.DataFrame:
    rows, parameters = job
    (row,) = rows.itertuples(index=False)
    run = Run(row, recipe)
    combination, real, groups = _asked_for(run.scene, recipe, run.data[1])
    z = run.generate(parameters, combination, evaluations, sampler, at_mean)
    tick(1)
    found = run.scene.evaluate(z, combination, run.conditioning.admitted, groups, real)
    return _tidy(row, found)


def _asked_for(scene: Scene, recipe: Recipe, seen: Tensor) -> tuple[Tensor, Tensor, list[str]]:
    """Every combination ``n_eval`` times, real samples of them, and every combination's group.

    Args:
        seen: the combinations of the training points.
    """
    world = scene.world
    combination = torch.arange(len(world.combinations)).repeat_interleave(recipe.n_eval)
    real = world.sample(combination, stream(scene.seed, "reference"), "floor").flatten(1)
    return combination, real, scene.groups(seen)


def evaluate(
    table: pd.DataFrame,
    trained: Trained,
    recipe: Recipe,
    progress: Progress | None = None,
    sampler: Callable = dpmpp_2m,
    evaluations: int | None = None,
    at_mean: bool = False,
    workers: Workers = side_by_side,
) -> pd.DataFrame:
    """Samples every run for every combination: one row a run, combination and metric.

    Args:
        at_mean: with every condition at its component's mean, in place of a draw.
    """
    progress = progress or partial(tqdm, disable=True)
    function = partial(
        _measure,
        recipe=recipe,
        sampler=sampler,
        evaluations=evaluations or recipe.evaluations,
        at_mean=at_mean,
    )
    with progress(total=len(table), desc="sampling", unit="runs") as bar:
        return pd.concat(
            workers(function, run_by_run(table, trained), bar.update), ignore_index=True
        )


def floor(table: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """As ``evaluate`` for the world's own samples, one row of the table a seed: granularity
    "real".
    """
    found = []
    for row in table.drop_duplicates("seed").itertuples(index=False):
        scene = Scene(row.seed, recipe)
        combination, real, groups = _asked_for(scene, recipe, scene.data(row.n_train)[1])
        z = scene.world.sample(combination, stream(row.seed, "floor"), "floor").flatten(1)
        itself = torch.eye(len(scene.world.combinations), dtype=torch.bool)
        metrics = scene.evaluate(z, combination, itself, groups, real)
        found.append(_tidy(row._replace(granularity="real", s_c=0.0), metrics))
    return pd.concat(found, ignore_index=True)


def by_step(rows: pd.DataFrame, **curves: Tensor) -> pd.DataFrame:
    """Training curves, a column each: one row a run and ``PREPARED`` steps, or fewer at its end.

    Args:
        curves: ``(runs, blocks)`` each, as in ``Trained``; what is NaN in one is left out.
    """
    index = pd.MultiIndex.from_frame(rows)
    columns = {
        name: pd.DataFrame(values.numpy(), index=index).rename_axis(columns="step").stack()
        for name, values in curves.items()
    }
    found = pd.DataFrame(columns).dropna().reset_index()
    return found.assign(step=((found["step"] + 1) * PREPARED).clip(upper=found["steps"]))


def by_group(results: pd.DataFrame) -> pd.DataFrame:
    """One row a run, group of combinations and metric: seen, frequent, rare, held out, unseen;
    combinations weigh alike.
    """
    seen = results[results["group"].isin(["frequent", "rare"])].assign(group="seen")
    both = pd.concat([seen, results], ignore_index=True)
    factors = [name for name in both if name not in ("place", "value")]
    return both.groupby(factors, sort=False, as_index=False)["value"].mean()
