"""What trained runs are worth: their validation curves, and samples of every combination,
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from gmmdiff.core.diffusion import dpmpp_2m
from gmmdiff.core.streams import stream
from gmmdiff.engine.runs import BATCHES_AT_ONCE, Progress, Run, SeedData, TrainingSettings
from gmmdiff.engine.threads import Tick, Workers, side_by_side
from gmmdiff.engine.training import Trained, looks

FLAT = 0.01  # by less than this the last tenth of a training that was long enough lowers the loss
Job = tuple[pd.DataFrame, Tensor]  # rows of one seed and n_train, their weights


def run_by_run(table: pd.DataFrame, trained: Trained) -> list[Job]:
    """One job a run: its row as a table, its weights ``(1, count)`` as a tensor of their own."""
    return [
        (table.iloc[[i]], parameters[None].clone())
        for i, parameters in enumerate(trained.parameters)
    ]


def _seed_by_seed(table: pd.DataFrame, parameters: Tensor) -> list[Job]:
    """One job for the arms of one seed and n_train, which share what is measured against."""
    groups = table.reset_index(drop=True).groupby(["seed", "n_train"], sort=False)
    return [(rows, parameters[torch.tensor(rows.index)].clone()) for _, rows in groups]


class Yardstick:
    """What all arms of one seed and n_train are measured against: every combination ``n_eval``
    times, fresh real samples of each, and the training samples.
    """

    def __init__(self, seed: int, n_train: int, settings: TrainingSettings) -> None:
        self.seed_data = SeedData(seed, settings)
        world, seen = self.seed_data.world, self.seed_data.combinations(n_train)
        self.combination = torch.arange(len(world.combinations)).repeat_interleave(settings.n_eval)
        self.real = self._fresh("reference")
        self.groups = pd.Series(self.seed_data.groups(seen), name="group")
        self.copies = self.seed_data.copies(n_train)
        self.floor = self._measured(self._fresh("floor"), torch.eye(len(world.combinations)) > 0)

    def _fresh(self, name: str) -> Tensor:
        world, generator = self.seed_data.world, stream(self.seed_data.seed, name)
        return world.sample(self.combination, generator, "test").flatten(1)

    def _measured(self, z: Tensor, admitted: Tensor) -> pd.DataFrame:
        found = self.seed_data.measure(z, self.combination, admitted, self.copies, self.real)
        return pd.DataFrame({name: value.numpy() for name, value in found.items()})

    def measure(self, z: Tensor, admitted: Tensor) -> pd.DataFrame:
        """By group of combinations, which weigh alike, and metric: the means of
        ``SeedData.measure`` and the *law*, the energy distance as a ratio to that of as many fresh
        samples.

        Args:
            z: ``(C n_eval, D)``, samples for ``combination``.
        """
        return self._by_group(self._measured(z, admitted))

    def real_samples(self) -> pd.DataFrame:
        """As ``measure``, of fresh samples: the floor."""
        return self._by_group(self.floor)

    def _by_group(self, table: pd.DataFrame) -> pd.DataFrame:
        seen = self.groups.isin(["frequent", "rare"])
        groups = pd.concat([self.groups, self.groups[seen].map(lambda _: "seen")])
        means, floor = (
            each.loc[groups.index].groupby(groups.to_numpy()).mean() for each in (table, self.floor)
        )
        means["law"] = means["energy_distance"] / floor["energy_distance"]
        return means.rename_axis("group").reset_index().melt("group", var_name="metric")


def _measure(
    job: Job,
    tick: Tick,
    settings: TrainingSettings,
    sampler: Callable,
    evaluations: int,
    conditions: Sequence[str],
) -> pd.DataFrame:
    rows, weights = job
    first = next(rows.itertuples(index=False))
    yardstick = Yardstick(first.seed, first.n_train, settings)
    real = first._replace(granularity="real", s_c=0.0)
    tables = [_tidy(real, "drawn", yardstick.real_samples())]
    for row, parameters in zip(rows.itertuples(index=False), weights, strict=True):
        run = Run(row, settings, yardstick.seed_data)
        for condition in conditions if row.s_c > 0 else ("drawn",):
            asked = parameters, yardstick.combination, evaluations, sampler
            z = run.generate(*asked, at_mean=condition == "mean")
            tables.append(_tidy(row, condition, yardstick.measure(z, run.conditioning.admitted)))
        tick(1)
    return pd.concat(tables, ignore_index=True)


def _tidy(row: tuple, condition: str, metrics: pd.DataFrame) -> pd.DataFrame:
    found = metrics.assign(**row._asdict(), condition=condition)
    return found[[*row._fields, "condition", "group", "metric", "value"]]


def evaluate(
    table: pd.DataFrame,
    parameters: Tensor,
    settings: TrainingSettings,
    progress: Progress | None = None,
    sampler: Callable = dpmpp_2m,
    evaluations: int | None = None,
    conditions: Sequence[str] = ("drawn",),
    workers: Workers = side_by_side,
) -> pd.DataFrame:
    """Samples every run for every combination: one row a run, condition, group and metric, and the
    world's own fresh samples as granularity "real" for every seed and n_train.

    Args:
        parameters: of the runs' denoisers, ``(runs, count)``.
        conditions: of mixtures, *drawn* as in training, or at their component's *mean*.
    """
    progress = progress or partial(tqdm, disable=True)
    function = partial(
        _measure,
        settings=settings,
        sampler=sampler,
        evaluations=evaluations or settings.evaluations,
        conditions=conditions,
    )
    with progress(total=len(table), desc="sampling", unit="runs") as bar:
        jobs = _seed_by_seed(table, parameters)
        return pd.concat(workers(function, jobs, bar.update), ignore_index=True)


def validation_curves(rows: pd.DataFrame, trained: Trained) -> pd.DataFrame:
    """The validation loss of the moving average: one row a run and look, columns step and loss."""
    tables = []
    for row, losses in zip(rows.itertuples(index=False), trained.validation.numpy(), strict=True):
        steps = looks(row.steps)
        curve = pd.DataFrame({"step": steps, "loss": losses[: len(steps)]})
        tables.append(curve.assign(**row._asdict())[[*row._fields, "step", "loss"]])
    return pd.concat(tables, ignore_index=True)


def validation_results(rows: pd.DataFrame, trained: Trained) -> pd.DataFrame:
    """One row a run and metric, of the group "all": *validation_loss* and *validation_step*, of the
    minimum; *long_enough*, whether it lies before the end or the last tenth of the steps lowers
    the loss by less than ``FLAT``; *diverged*.
    """
    found = []
    for row, losses in zip(rows.itertuples(index=False), trained.validation, strict=True):
        steps = looks(row.steps)
        curve = losses[: len(steps)].nan_to_num(torch.inf)
        least = int(curve.argmin())
        before = max(i for i, step in enumerate(steps) if i == 0 or step <= 0.9 * row.steps)
        flat = float(curve[-1]) > (1 - FLAT) * float(curve[before])
        found.append((float(curve[least]), steps[least], least < len(steps) - 1 or flat))
    names = ["validation_loss", "validation_step", "long_enough"]
    wide = pd.DataFrame(found, columns=names, index=rows.index).astype(float)
    wide["diverged"] = trained.diverged.double().numpy()
    both = rows.assign(condition="drawn", group="all").join(wide)
    return both.melt([*rows.columns, "condition", "group"], var_name="metric")


def by_step(rows: pd.DataFrame, **curves: Tensor) -> pd.DataFrame:
    """Training curves, a column each: one row a run and ``BATCHES_AT_ONCE`` steps, or fewer.

    Args:
        curves: ``(runs, blocks)`` each, as in ``Trained``; what is NaN in one is left out.
    """
    index = pd.MultiIndex.from_frame(rows)
    columns = {
        name: pd.DataFrame(values.numpy(), index=index).rename_axis(columns="step").stack()
        for name, values in curves.items()
    }
    found = pd.DataFrame(columns).dropna().reset_index()
    return found.assign(step=((found["step"] + 1) * BATCHES_AT_ONCE).clip(upper=found["steps"]))
