"""What the experiment leaves behind on images, of whatever world."""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.streams import stream
from gmmdiff.engine.evaluation import run_by_run, validation_curves
from gmmdiff.engine.runs import Progress, Run, TrainingSettings
from gmmdiff.engine.threads import Tick, Workers, side_by_side
from gmmdiff.engine.training import train
from gmmdiff.experiments.feature_vs_class.arms import POINT
from gmmdiff.experiments.feature_vs_class.common_metrics import MOST, common_metrics
from gmmdiff.experiments.feature_vs_class.measuring import (
    Part,
    compare_samplers,
    measure,
    reverse_strip,
)
from gmmdiff.experiments.run_tables import regime

SHOWN = {"held out": 4, "rare": 4, "frequent": 2}  # combinations pictured, by group
SAMPLES = 4  # of each
STORY = ("defect", "wrong", "malformed", "copy", "law")  # metrics followed over a training


def run_part(
    rows: pd.DataFrame,
    settings: TrainingSettings,
    device: str,
    progress: Progress,
    workers: Workers = side_by_side,
) -> dict[str, pd.DataFrame]:
    """Trains one part and measures it: tables by name, see ``measure``, and with checkpoints
    ``story``; where all arms are judged on few images, also ``pictures``, a ``reverse_strip`` and
    ``compare_samplers``.
    """
    trained = train(rows, settings, device, progress, workers=workers)
    part = Part(rows, settings, trained, progress, workers)
    if settings.checkpoints:
        return story(part)
    tables = measure(part)
    n_train = rows["n_train"].iloc[0]
    if "none" in set(rows["granularity"]) and regime(n_train, settings) == "sparse":
        tables["pictures"] = pictures(part)
        tables["strip"] = reverse_strip(part, lambda seed_data: seed_data.seen[:2], _image)
        tables["samplers"] = compare_samplers(part)
    return tables


def story(part: Part) -> dict[str, pd.DataFrame]:
    """A training far beyond its minimum: tables by name.

    ``story``: one row a run, step, group and metric; of the group "all" the validation loss.
    ``notices``: one row a run, time (the *minimum* of the validation loss, the *end*, *fresh* real
    samples) and common metric, see ``common_metrics``: which of them notices copies?
    """
    rows, trained = part.rows, part.trained
    curves = validation_curves(rows, trained).rename(columns={"loss": "value"})
    tables = [curves.assign(group="all", metric="validation_loss")]
    for number, step in enumerate(part.settings.checkpoints):
        table = part.evaluate(trained.checkpoints[:, number])
        tables.append(table[table["metric"].isin(STORY)].assign(step=step))
    columns = ["granularity", "s_c", "seed", "step", "group", "metric", "value"]
    compared = {
        "minimum": (rows, trained),
        "end": (rows, trained._replace(parameters=trained.checkpoints[:, -1])),
        "fresh": (rows.drop_duplicates("seed"), trained),  # whose weights are not looked at
    }
    notices = []
    for when, own in compared.items():
        compare = partial(_compare, settings=part.settings, when=when)
        with part.progress(total=len(own[0]), desc="comparing", unit="runs") as bar:
            notices += part.workers(compare, run_by_run(*own), bar.update)
    story = pd.concat(tables, ignore_index=True)[columns]
    return {"story": story, "notices": pd.concat(notices, ignore_index=True)}


def _compare(
    job: tuple[pd.DataFrame, Tensor], tick: Tick, settings: TrainingSettings, when: str
) -> pd.DataFrame:
    """Common metrics of one run's samples, for combinations as frequent as in training."""
    rows, (parameters,) = job
    (row,) = rows.itertuples(index=False)
    run = Run(row, settings)
    points, _ = run.seed_data.training_points(row.n_train)
    count = min(MOST, len(points))
    real, combination = run.seed_data.points(count, "compared", "test")
    if when == "fresh":
        z, arm = run.seed_data.points(count, "compared too", "test")[0], ("real", POINT)
    else:
        z = run.generate(parameters, combination, settings.evaluations).double()
        arm = (row.granularity, row.s_c)
    values = common_metrics(z, points, real, stream(row.seed, "notices"))
    tick(1)
    table = pd.DataFrame(values.items(), columns=["metric", "value"])
    return table.assign(granularity=arm[0], s_c=arm[1], seed=row.seed, when=when)


def _pixels(images: Tensor) -> pd.DataFrame:
    """Images ``(n, ...)`` as rows of greys p0, p1, ..."""
    greys = images.flatten(1).double().numpy().round(3)
    return pd.DataFrame(greys, columns=[f"p{i}" for i in range(greys.shape[1])])


def _image(run: Run, x: Tensor) -> pd.DataFrame:
    """Of the network's x_t ``(n, D)``."""
    return _pixels(x * run.data[2] + run.settings.centre)


def pictures(part: Part) -> pd.DataFrame:
    """Images that every arm of the first seed makes, ``SAMPLES`` for some combinations of each
    group, and real ones; of rare ones also the nearest training image: one row an image.

    Columns: granularity, s_c, group, combination, sample (its number), role (*sample* or
    *nearest*), shown (the combination that the judge reads), malformed, copy, p0, p1, ... (greys).
    """
    runs = part.first_seed()
    seed_data = next(iter(runs.values())).seed_data
    world = seed_data.world
    points, seen = seed_data.training_points(part.rows["n_train"].iloc[0])
    images, copies = points.unflatten(1, world.shape), seed_data.copies(len(points))
    groups, order = seed_data.groups(seen), torch.cat([seed_data.seen, seed_data.held_out]).tolist()
    by_group = {group: [c for c in order if groups[c] == group] for group in SHOWN}
    chosen = [c for group, count in SHOWN.items() for c in by_group[group][:count]]
    combination = torch.tensor(chosen).repeat_interleave(SAMPLES)
    real = world.sample(combination, stream(seed_data.seed, "pictures"), "test")
    sheets = [("real", POINT, real)]
    for number, run in runs.items():
        z = part.generate(number, run, combination).double()
        sheets.append((run.row.granularity, run.row.s_c, z.unflatten(1, world.shape)))
    tables = []
    for granularity, s_c, made in sheets:
        judged = world.judge(made)
        table = pd.DataFrame({"granularity": granularity, "s_c": s_c}, range(len(made)))
        table["group"] = [groups[c] for c in combination.tolist()]
        table["combination"], table["sample"] = combination, range(len(made))
        table["role"], table["shown"] = "sample", judged.combination
        table["malformed"] = judged.malformed
        table["copy"] = copies(made, judged.combination)
        _, nearest = copies.nearest(made, judged.combination)
        there = (nearest.numpy() >= 0) & (table["group"] == "rare").to_numpy()
        beside = table[there].assign(role="nearest").reset_index(drop=True)
        tables += [table.join(_pixels(made)), beside.join(_pixels(images[nearest[there]]))]
    return pd.concat(tables, ignore_index=True)
