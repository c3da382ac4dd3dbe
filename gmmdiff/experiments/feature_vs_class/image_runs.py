"""The experiment on images, of whatever world: its settings, what each part leaves behind, and the
story of a training far beyond its minimum.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.streams import stream
from gmmdiff.engine.evaluation import evaluate, run_by_run, validation_curves
from gmmdiff.engine.runs import Progress, Run, SeedData, TrainingSettings
from gmmdiff.engine.threads import Tick, Workers, side_by_side
from gmmdiff.engine.training import Trained, train
from gmmdiff.experiments.feature_vs_class.common_metrics import MOST, notices
from gmmdiff.experiments.feature_vs_class.run_tables import (
    POINT,
    first_seed,
    measure,
    regime,
    reverse_diffusion,
    run_of,
)
from gmmdiff.worlds.world import World

SHOWN = {"held out": 4, "rare": 4, "frequent": 2}  # combinations pictured, by group
SAMPLES = 4  # of each
TOLD = ("defect", "wrong", "malformed", "copy", "law")  # of the story


def settings(
    world: Callable[..., World], held_out: int, centre: float, **more: Any
) -> TrainingSettings:
    """The settings of images: greys less their ``centre``, as one size.

    Args:
        more: further fields of ``TrainingSettings``.
    """
    return TrainingSettings(world, held_out, centre=centre, size=1.0, **more)


def require_groups(owner: str, rows: pd.DataFrame, settings: TrainingSettings) -> None:
    """Refuses, before any training, a sparse setting in which a seed has no rare combination, and
    one without a combination held out.

    Raises:
        ValueError: that names the setting and the seed.
    """
    require(settings.held_out > 0, owner, "held_out", "at least one combination", settings.held_out)
    data_sets = rows[["n_train", "seed"]].drop_duplicates()
    for n_train, seed in data_sets.itertuples(index=False, name=None):
        if regime(n_train, settings) == "sparse":
            seed_data = SeedData(seed, settings)
            groups = seed_data.groups(seed_data.combinations(n_train))
            where = f"{owner}, n_train {n_train}, seed {seed}"
            allowed = "at least one combination with 1 to 5 images, on which F2 and F3 are judged"
            require("rare" in groups, where, "rare combinations", allowed, "none")


def run_part(
    rows: pd.DataFrame,
    settings: TrainingSettings,
    device: str,
    progress: Progress,
    closely: bool,
    workers: Workers = side_by_side,
) -> dict[str, pd.DataFrame]:
    """Trains one part and measures it: tables by name, see ``runs.measure``; of a settings with
    checkpoints, see ``story``.

    ``closely`` adds pictures of the first seed: samples of every arm, and one reverse diffusion.
    """
    trained = train(rows, settings, device, progress, workers=workers)
    if settings.checkpoints:
        return story(rows, trained, settings, progress, workers)
    tables = measure(rows, trained, settings, progress, workers)
    if closely:
        tables["pictures"] = pictures(rows, trained, settings)
        tables["strip"] = reverse_strip(rows, trained, settings)
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
    samples) and common metric, see ``notices.notices``.
    """
    told = ["granularity", "s_c", "seed"]
    curves = validation_curves(rows, trained).rename(columns={"loss": "value"})
    tables = [curves.assign(group="all", metric="validation_loss")]
    for number, step in enumerate(settings.checkpoints):
        found = evaluate(rows, trained.checkpoints[:, number], settings, progress, workers=workers)
        tables.append(found[found["metric"].isin(TOLD)].assign(step=step))
    whole = pd.concat(tables, ignore_index=True)[[*told, "step", "group", "metric", "value"]]
    first = rows.drop_duplicates("seed")
    compared = {
        "minimum": (rows, trained.parameters),
        "end": (rows, trained.checkpoints[:, -1]),
        "fresh": (first, trained.parameters[: len(first)]),  # which are not looked at
    }
    noticed = []
    for when, (chosen, parameters) in compared.items():
        jobs = run_by_run(chosen, trained._replace(parameters=parameters))
        with progress(total=len(jobs), desc="comparing", unit="runs") as bar:
            noticed += workers(partial(_noticed, settings=settings, when=when), jobs, bar.update)
    return {"story": whole, "notices": pd.concat(noticed, ignore_index=True)}


def _noticed(
    job: tuple[pd.DataFrame, Tensor], tick: Tick, settings: TrainingSettings, when: str
) -> pd.DataFrame:
    """Common metrics of one run's samples, for combinations as frequent as in training."""
    rows, parameters = job
    run = run_of(rows, 0, settings)
    points, _ = run.seed_data.training_points(run.row.n_train)
    count = min(MOST, len(points))
    real, combination = run.seed_data.points(count, "compared", "test")
    arm = {"granularity": run.row.granularity, "s_c": run.row.s_c}
    if when == "fresh":
        z, arm = (
            run.seed_data.points(count, "compared too", "test")[0],
            {"granularity": "real", "s_c": 0.0},
        )
    else:
        z = run.generate(parameters[0], combination, settings.evaluations).double()
    values = notices(z, points, real, stream(run.row.seed, "notices"))
    tick(1)
    table = pd.DataFrame({"metric": list(values), "value": list(values.values())})
    return table.assign(**arm, seed=run.row.seed, when=when)


def _pixels(images: Tensor) -> pd.DataFrame:
    """Images ``(n, ...)`` as rows of greys p0, p1, ..."""
    greys = images.flatten(1).double().numpy().round(3)
    return pd.DataFrame(greys, columns=[f"p{i}" for i in range(greys.shape[1])])


def pictures(rows: pd.DataFrame, trained: Trained, settings: TrainingSettings) -> pd.DataFrame:
    """Images that every arm of the first seed makes, ``SAMPLES`` for some combinations of each
    group, and real ones; of rare ones also the nearest training image: one row an image.

    Columns: granularity, s_c, group, combination, sample (its number), role (*sample* or
    *nearest*), shown (the combination that the judge reads), malformed, copy, p0, p1, ... (greys).
    """
    arms = [n for s_c in sorted(rows["s_c"].unique()) for n in first_seed(rows, s_c)]
    seed_data = run_of(rows, arms[0], settings).seed_data
    points, seen = seed_data.training_points(rows["n_train"].iloc[0])
    images, copies = points.unflatten(1, seed_data.world.shape), seed_data.copies(len(points))
    groups = seed_data.groups(seen)
    order = torch.cat([seed_data.seen, seed_data.held_out]).tolist()
    chosen = [
        c
        for group, count in SHOWN.items()
        for c in itertools.islice((c for c in order if groups[c] == group), count)
    ]
    combination = torch.tensor(chosen).repeat_interleave(SAMPLES)
    drawn = seed_data.world.sample(combination, stream(seed_data.seed, "pictures"), "test")
    sheets = [("real", POINT, drawn)]
    for number in arms:
        run = Run(next(rows.iloc[[number]].itertuples(index=False)), settings, seed_data)
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


def reverse_strip(rows: pd.DataFrame, trained: Trained, settings: TrainingSettings) -> pd.DataFrame:
    """From noise to an image: x_t along the sampler, the feature arm's first seed (points), asked
    for its most frequent combinations; one row an image, with t and the combination.
    """
    (number,) = first_seed(rows, POINT, "feature")
    run = run_of(rows, number, settings)
    combination = run.seed_data.seen[:2]
    tables = [
        _pixels(x * run.data[2] + settings.centre).assign(t=t, combination=combination)
        for t, x in reverse_diffusion(run, trained.parameters[number], combination)
    ]
    return pd.concat(tables, ignore_index=True)
