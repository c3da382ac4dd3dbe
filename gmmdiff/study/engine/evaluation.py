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
from gmmdiff.study.engine.runs import PREPARED, Progress, Recipe, Run, World
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
    run, combination = Run(row, recipe), torch.arange(16).repeat_interleave(recipe.n_eval)
    z = run.generate(parameters, combination, evaluations, sampler, at_mean)
    tick(1)
    return _tidy(row, run.world.evaluate(z, combination, run.conditioning.admitted))


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
    """As ``evaluate`` for the manifold's own samples, one row of the table a seed: granularity
    "real".
    """
    combination = torch.arange(16).repeat_interleave(recipe.n_eval)
    found = []
    for row in table.drop_duplicates("seed").itertuples(index=False):
        world = World(row.seed, recipe)
        z = world.manifold.sample(combination, stream(row.seed, "floor"))
        metrics = world.evaluate(z, combination, torch.eye(16, dtype=torch.bool))
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
    """One row a run, group of combinations and metric: seen, rare, held out; combinations weigh
    alike.
    """
    seen = results[results["group"] != "held out"].assign(group="seen")
    rest = results[results["group"] != "frequent"]
    both = pd.concat([seen, rest], ignore_index=True)
    factors = [name for name in both if name not in ("place", "value")]
    return both.groupby(factors, sort=False, as_index=False)["value"].mean()
