"""What trained runs are worth: validation curves, and samples of every combination, measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from gmmdiff.core.diffusion import dpmpp_2m
from gmmdiff.core.distances import energy_distance
from gmmdiff.core.streams import stream
from gmmdiff.engine.runs import Progress, Run, SeedData, TrainingSettings
from gmmdiff.engine.threads import Tick, Workers, side_by_side
from gmmdiff.engine.training import Trained, looks
from gmmdiff.worlds.world import find_defects

FLAT = 0.01  # by less than this the last tenth of a training that was long enough lowers the loss
QUANTILES = {"distance_50": 0.5, "distance_90": 0.9}  # of the distance to what was asked for
Job = tuple[pd.DataFrame, Tensor]  # rows of one seed and n_train, their weights


def run_by_run(table: pd.DataFrame, trained: Trained) -> list[Job]:
    """One job a run: its row as a table, its weights ``(1, count)`` as a tensor of their own."""
    return [(table.iloc[[i]], trained.parameters[i : i + 1].clone()) for i in range(len(table))]


class Yardstick:
    """What all arms of one seed and n_train are measured against: every combination ``n_eval``
    times, fresh real samples of each, and the training samples.
    """

    def __init__(self, seed: int, n_train: int, settings: TrainingSettings) -> None:
        self.seed_data = SeedData(seed, settings)
        world, training = self.seed_data.world, self.seed_data.combinations(n_train)
        self.combination = torch.arange(len(world.combinations)).repeat_interleave(settings.n_eval)
        self.real, fresh = (
            world.sample(self.combination, stream(seed, name), "test").flatten(1)
            for name in ("reference", "floor")
        )
        self.groups = pd.Series(self.seed_data.groups(training), name="group")
        self.copies = self.seed_data.copies(n_train)
        self.floor = self.by_combination(fresh, torch.eye(len(world.combinations)) > 0)

    def by_combination(self, z: Tensor, admitted: Tensor) -> pd.DataFrame:
        """What samples z ``(C n_eval, D)`` for ``combination`` are worth: a row a combination.

        Shares of what is wrong with them, quantiles of the distance to what was asked for, and the
        energy distance to as many fresh samples of the same combination; ``admitted`` as in
        ``find_defects``.
        """
        world, count = self.seed_data.world, len(admitted)
        z, real = z.double(), self.real.double()
        images = z.unflatten(1, world.shape)
        shown, _, _, malformed = world.judge(images)
        flags = find_defects(shown, malformed, self.combination, admitted)
        shares = {**flags._asdict(), "copy": self.copies(images, shown)}
        metrics = {name: each.double().view(count, -1).mean(1) for name, each in shares.items()}
        distance = world.distance(images, self.combination).double().view(count, -1)
        metrics |= {name: distance.quantile(share, 1) for name, share in QUANTILES.items()}
        pairs = zip(z.chunk(count), real.chunk(count), strict=True)
        metrics["energy_distance"] = torch.tensor([energy_distance(*pair) for pair in pairs])
        return pd.DataFrame({name: value.numpy() for name, value in metrics.items()})

    def by_group(self, metrics: pd.DataFrame) -> pd.DataFrame:
        """The means of ``by_combination`` over groups of combinations, a row a group and metric,
        and the *law*: the energy distance as a ratio to that of as many fresh samples.
        """
        seen = self.groups.isin(["frequent", "rare"])
        groups = pd.concat([self.groups, self.groups[seen].map(lambda _: "seen")])
        means, floor = (
            each.loc[groups.index].groupby(groups.to_numpy()).mean()
            for each in (metrics, self.floor)
        )
        means["law"] = means["energy_distance"] / floor["energy_distance"]
        return means.rename_axis("group").reset_index().melt("group", var_name="metric")


# Runs measured at several steps, or under several samplers, ask for the same ones again.
_yardstick = lru_cache(maxsize=8)(Yardstick)


def _measure(
    job: Job,
    tick: Tick,
    settings: TrainingSettings,
    sampler: Callable,
    evaluations: int,
    conditions: Sequence[str],
) -> pd.DataFrame:
    rows, weights = job
    first, tables = next(rows.itertuples(index=False)), []
    yardstick = _yardstick(first.seed, first.n_train, settings)

    def add(row: tuple, condition: str, metrics: pd.DataFrame) -> None:
        table = yardstick.by_group(metrics).assign(**row._asdict(), condition=condition)
        tables.append(table[[*row._fields, "condition", "group", "metric", "value"]])

    add(first._replace(granularity="real", s_c=0.0), "drawn", yardstick.floor)
    for row, parameters in zip(rows.itertuples(index=False), weights, strict=True):
        run = Run(row, settings, yardstick.seed_data)
        for condition in conditions if row.s_c > 0 else ("drawn",):
            given = parameters, yardstick.combination, evaluations, sampler
            z = run.generate(*given, at_mean=condition == "mean")
            add(row, condition, yardstick.by_combination(z, run.conditioning.admitted))
        tick(1)
    return pd.concat(tables, ignore_index=True)


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
    shared = {"settings": settings, "sampler": sampler, "conditions": conditions}
    shared["evaluations"] = evaluations or settings.evaluations
    # One job for the arms of one seed and n_train, which share what is measured against.
    groups = table.reset_index(drop=True).groupby(["seed", "n_train"], sort=False)
    jobs = [(rows, parameters[torch.tensor(rows.index)].clone()) for _, rows in groups]
    with progress(total=len(table), desc="sampling", unit="runs") as bar:
        return pd.concat(workers(partial(_measure, **shared), jobs, bar.update), ignore_index=True)


def validation_curves(rows: pd.DataFrame, trained: Trained) -> pd.DataFrame:
    """The validation loss of the moving average: one row a run and look, columns step and loss."""
    tables = []
    for row, losses in zip(rows.itertuples(index=False), trained.validation.numpy(), strict=True):
        steps = looks(row.steps)
        curve = pd.DataFrame({"step": steps, "loss": losses[: len(steps)]})
        tables.append(curve.assign(**row._asdict())[[*row._fields, "step", "loss"]])
    return pd.concat(tables, ignore_index=True)


def validation_results(rows: pd.DataFrame, trained: Trained) -> pd.DataFrame:
    """One row a run and metric, of the group "all": *validation_loss* and *validation_step* of the
    minimum; *long_enough*, where it lies before the end or the last tenth of the steps lowers the
    loss by less than ``FLAT``; *diverged*.
    """
    minima = []
    for row, losses in zip(rows.itertuples(index=False), trained.validation, strict=True):
        steps = looks(row.steps)
        curve = losses[: len(steps)].nan_to_num(torch.inf)
        least = int(curve.argmin())
        before = max(i for i, step in enumerate(steps) if i == 0 or step <= 0.9 * row.steps)
        flat = float(curve[-1]) > (1 - FLAT) * float(curve[before])
        minima.append((float(curve[least]), steps[least], least < len(steps) - 1 or flat))
    names = ["validation_loss", "validation_step", "long_enough"]
    wide = pd.DataFrame(minima, columns=names, index=rows.index).astype(float)
    wide["diverged"] = trained.diverged.double().numpy()
    both = rows.assign(condition="drawn", group="all").join(wide)
    return both.melt([*rows.columns, "condition", "group"], var_name="metric")
