"""What the experiment leaves behind on images, of whatever world: pictures, and the story of a
training far beyond its minimum.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.streams import stream
from gmmdiff.engine.evaluation import evaluate, run_by_run, validation_curves
from gmmdiff.engine.runs import Progress, Run, SeedData, TrainingSettings
from gmmdiff.engine.threads import Tick, Workers, side_by_side
from gmmdiff.engine.training import Trained, train
from gmmdiff.experiments.feature_vs_class.arms import POINT
from gmmdiff.experiments.feature_vs_class.common_metrics import MOST, common_metrics
from gmmdiff.experiments.feature_vs_class.measuring import first_seed, measure, reverse_strip
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
    """Trains one part and measures it: tables by name, see ``measure``; of settings with
    checkpoints, see ``story``.

    Where all arms are judged on few images, also pictures of the first seed: samples of every arm,
    and one reverse diffusion.
    """
    trained = train(rows, settings, device, progress, workers=workers)
    if settings.checkpoints:
        return story(rows, trained, settings, progress, workers)
    tables = measure(rows, trained, settings, progress, workers)
    n_train = rows["n_train"].iloc[0]
    if "none" in rows["granularity"].to_numpy() and regime(n_train, settings) == "sparse":
        tables["pictures"] = pictures(rows, trained, settings)
        tables["strip"] = reverse_strip(rows, trained, settings, _most_frequent, _image)
    return tables


def story(
    rows: pd.DataFrame,
    trained: Trained,
    settings: TrainingSettings,
    progress: Progress,
    workers: Workers,
) -> dict[str, pd.DataFrame]:
    """A training far beyond its minimum: tables by name.

    ``story``: one row a run, step, group and metric; of the group "all" the validation loss.
    ``notices``: one row a run, time (the *minimum* of the validation loss, the *end*, *fresh* real
    samples) and common metric, see ``common_metrics``: which of them notices copies?
    """
    columns = ["granularity", "s_c", "seed", "step", "group", "metric", "value"]
    curves = validation_curves(rows, trained).rename(columns={"loss": "value"})
    tables = [curves.assign(group="all", metric="validation_loss")]
    for number, step in enumerate(settings.checkpoints):
        table = evaluate(rows, trained.checkpoints[:, number], settings, progress, workers=workers)
        tables.append(table[table["metric"].isin(STORY)].assign(step=step))
    whole = pd.concat(tables, ignore_index=True)[columns]
    first = rows.drop_duplicates("seed")
    compared = {
        "minimum": (rows, trained.parameters),
        "end": (rows, trained.checkpoints[:, -1]),
        "fresh": (first, trained.parameters[: len(first)]),  # which are not looked at
    }
    notices = []
    for when, (chosen, parameters) in compared.items():
        jobs = run_by_run(chosen, trained._replace(parameters=parameters))
        with progress(total=len(jobs), desc="comparing", unit="runs") as bar:
            notices += workers(partial(_compare, settings=settings, when=when), jobs, bar.update)
    return {"story": whole, "notices": pd.concat(notices, ignore_index=True)}


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


def _most_frequent(seed_data: SeedData) -> Tensor:
    return seed_data.seen[:2]


def pictures(rows: pd.DataFrame, trained: Trained, settings: TrainingSettings) -> pd.DataFrame:
    """Images that every arm of the first seed makes, ``SAMPLES`` for some combinations of each
    group, and real ones; of rare ones also the nearest training image: one row an image.

    Columns: granularity, s_c, group, combination, sample (its number), role (*sample* or
    *nearest*), shown (the combination that the judge reads), malformed, copy, p0, p1, ... (greys).
    """
    runs = first_seed(rows, settings)
    seed_data = next(iter(runs.values())).seed_data
    points, seen = seed_data.training_points(rows["n_train"].iloc[0])
    images, copies = points.unflatten(1, seed_data.world.shape), seed_data.copies(len(points))
    groups = seed_data.groups(seen)
    order = torch.cat([seed_data.seen, seed_data.held_out]).tolist()
    by_group = {group: [c for c in order if groups[c] == group] for group in SHOWN}
    chosen = [c for group, count in SHOWN.items() for c in by_group[group][:count]]
    combination = torch.tensor(chosen).repeat_interleave(SAMPLES)
    drawn = seed_data.world.sample(combination, stream(seed_data.seed, "pictures"), "test")
    sheets = [("real", POINT, drawn)]
    for number, run in runs.items():
        z = run.generate(trained.parameters[number], combination, settings.evaluations)
        made = z.double().unflatten(1, seed_data.world.shape)
        sheets.append((run.row.granularity, run.row.s_c, made))
    tables = []
    for granularity, s_c, made in sheets:
        judged = seed_data.world.judge(made)
        table = pd.DataFrame({"granularity": granularity, "s_c": s_c}, range(len(made)))
        table["group"] = [groups[c] for c in combination.tolist()]
        table["combination"], table["sample"] = combination, range(len(made))
        table["role"], table["shown"] = "sample", judged.combination
        table["malformed"] = judged.malformed
        table["copy"] = copies(made, judged.combination)
        _, nearest = copies.nearest(made, judged.combination)
        there = ((nearest >= 0) & torch.tensor((table["group"] == "rare").to_numpy())).numpy()
        beside = table[there].assign(role="nearest")
        beside = pd.concat([beside.reset_index(drop=True), _pixels(images[nearest[there]])], axis=1)
        tables += [pd.concat([table, _pixels(made)], axis=1), beside]
    return pd.concat(tables, ignore_index=True)
