"""The experiment on images, of whatever world: recipes, what each part leaves behind, and the story
of a training far beyond its minimum.
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
from gmmdiff.study.engine.evaluation import evaluate, run_by_run, validation_curves
from gmmdiff.study.engine.parallel.threads import Tick, Workers, side_by_side
from gmmdiff.study.engine.runs import Progress, Recipe, Run, Scene
from gmmdiff.study.engine.training import Trained, train
from gmmdiff.study.feature_vs_class.notices import MOST, notices
from gmmdiff.study.feature_vs_class.runs import (
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


def recipe(world: Callable[..., World], held_out: int, centre: float, **more: Any) -> Recipe:
    """The recipe of images: greys less their ``centre``, as one size.

    Args:
        more: further fields of ``Recipe``.
    """
    return Recipe(world, held_out, centre=centre, size=1.0, **more)


def require_groups(owner: str, rows: pd.DataFrame, recipe: Recipe) -> None:
    """Refuses, before any training, a sparse setting in which a seed has no rare combination, and
    one without a combination held out.

    Raises:
        ValueError: that names the setting and the seed.
    """
    require(recipe.held_out > 0, owner, "held_out", "at least one combination", recipe.held_out)
    settings = rows[["n_train", "seed"]].drop_duplicates()
    for n_train, seed in settings.itertuples(index=False, name=None):
        if regime(n_train, recipe) == "sparse":
            scene = Scene(seed, recipe)
            groups = scene.groups(scene.combinations(n_train))
            where = f"{owner}, n_train {n_train}, seed {seed}"
            allowed = "at least one combination with 1 to 5 images, on which F2 and F3 are judged"
            require("rare" in groups, where, "rare combinations", allowed, "none")


def run_part(
    rows: pd.DataFrame,
    recipe: Recipe,
    device: str,
    progress: Progress,
    closely: bool,
    workers: Workers = side_by_side,
) -> dict[str, pd.DataFrame]:
    """Trains one part and measures it: tables by name, see ``runs.measure``; of a recipe with
    checkpoints, see ``story``.

    ``closely`` adds pictures of the first seed: samples of every arm, and one reverse diffusion.
    """
    trained = train(rows, recipe, device, progress, workers=workers)
    if recipe.checkpoints:
        return story(rows, trained, recipe, progress, workers)
    tables = measure(rows, trained, recipe, progress, workers)
    if closely:
        tables["pictures"] = pictures(rows, trained, recipe)
        tables["strip"] = reverse_strip(rows, trained, recipe)
    return tables


def story(
    rows: pd.DataFrame, trained: Trained, recipe: Recipe, progress: Progress, workers: Workers
) -> dict[str, pd.DataFrame]:
    """A training far beyond its minimum: tables by name.

    ``story``: one row a run, step, group and metric; of the group "all" the validation loss.
    ``notices``: one row a run, time (the *minimum* of the validation loss, the *end*, *fresh* real
    samples) and common metric, see ``notices.notices``.
    """
    told = ["granularity", "s_c", "seed"]
    curves = validation_curves(rows, trained).rename(columns={"loss": "value"})
    tables = [curves.assign(group="all", metric="validation_loss")]
    for number, step in enumerate(recipe.checkpoints):
        found = evaluate(rows, trained.checkpoints[:, number], recipe, progress, workers=workers)
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
            noticed += workers(partial(_noticed, recipe=recipe, when=when), jobs, bar.update)
    return {"story": whole, "notices": pd.concat(noticed, ignore_index=True)}


def _noticed(
    job: tuple[pd.DataFrame, Tensor], tick: Tick, recipe: Recipe, when: str
) -> pd.DataFrame:
    """Common metrics of one run's samples, for combinations as frequent as in training."""
    rows, parameters = job
    run = run_of(rows, 0, recipe)
    points, _ = run.scene.training_points(run.row.n_train)
    count = min(MOST, len(points))
    real, combination = run.scene.points(count, "compared", "test")
    arm = {"granularity": run.row.granularity, "s_c": run.row.s_c}
    if when == "fresh":
        z, arm = (
            run.scene.points(count, "compared too", "test")[0],
            {"granularity": "real", "s_c": 0.0},
        )
    else:
        z = run.generate(parameters[0], combination, recipe.evaluations).double()
    values = notices(z, points, real, stream(run.row.seed, "notices"))
    tick(1)
    table = pd.DataFrame({"metric": list(values), "value": list(values.values())})
    return table.assign(**arm, seed=run.row.seed, when=when)


def _pixels(images: Tensor) -> pd.DataFrame:
    """Images ``(n, ...)`` as rows of greys p0, p1, ..."""
    greys = images.flatten(1).double().numpy().round(3)
    return pd.DataFrame(greys, columns=[f"p{i}" for i in range(greys.shape[1])])


def pictures(rows: pd.DataFrame, trained: Trained, recipe: Recipe) -> pd.DataFrame:
    """Images that every arm of the first seed makes, ``SAMPLES`` for some combinations of each
    group, and real ones; of rare ones also the nearest training image: one row an image.

    Columns: granularity, s_c, group, combination, sample (its number), role (*sample* or
    *nearest*), shown (the combination that the judge reads), malformed, copy, p0, p1, ... (greys).
    """
    arms = [n for s_c in sorted(rows["s_c"].unique()) for n in first_seed(rows, s_c)]
    scene = run_of(rows, arms[0], recipe).scene
    points, seen = scene.training_points(rows["n_train"].iloc[0])
    images, copies = points.unflatten(1, scene.world.shape), scene.copies(len(points))
    groups = scene.groups(seen)
    order = torch.cat([scene.seen, scene.held_out]).tolist()
    chosen = [
        c
        for group, count in SHOWN.items()
        for c in itertools.islice((c for c in order if groups[c] == group), count)
    ]
    combination = torch.tensor(chosen).repeat_interleave(SAMPLES)
    drawn = scene.world.sample(combination, stream(scene.seed, "pictures"), "test")
    sheets = [("real", POINT, drawn)]
    for number in arms:
        run = Run(next(rows.iloc[[number]].itertuples(index=False)), recipe, scene)
        z = run.generate(trained.parameters[number], combination, recipe.evaluations)
        made = z.double().unflatten(1, scene.world.shape)
        sheets.append((run.row.granularity, run.row.s_c, made))
    tables = []
    for granularity, s_c, made in sheets:
        judged = scene.world.judge(made)
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


def reverse_strip(rows: pd.DataFrame, trained: Trained, recipe: Recipe) -> pd.DataFrame:
    """From noise to an image: x_t along the sampler, the feature arm's first seed (points), asked
    for its most frequent combinations; one row an image, with t and the combination.
    """
    (number,) = first_seed(rows, POINT, "feature")
    run = run_of(rows, number, recipe)
    combination = run.scene.seen[:2]
    tables = [
        _pixels(x * run.data[2] + recipe.centre).assign(t=t, combination=combination)
        for t, x in reverse_diffusion(run, trained.parameters[number], combination)
    ]
    return pd.concat(tables, ignore_index=True)
