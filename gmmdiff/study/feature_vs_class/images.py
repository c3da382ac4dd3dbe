"""The experiment on images, of whatever world: what their settings are, and what each part leaves
behind.

A setting is *dense* where the training set holds at least ``DENSE`` images of the average
combination seen, *sparse* where fewer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.streams import stream
from gmmdiff.study.engine.parallel.threads import Workers, side_by_side
from gmmdiff.study.engine.runs import Progress, Recipe, Run, Scene
from gmmdiff.study.engine.training import Trained, train
from gmmdiff.study.feature_vs_class.runs import measure, reverse_diffusion
from gmmdiff.worlds.world import World

DENSE = 30
POINTS = [0.0]
SHOWN = {"held out": 4, "rare": 2, "frequent": 2}  # combinations pictured, by group
COPIES = 4  # samples of each


def regime(n_train: int, recipe: Recipe) -> str:
    """How many images a combination has: dense or sparse."""
    seen = len(Scene(0, recipe).seen)
    return "dense" if n_train >= DENSE * seen else "sparse"


def check(
    owner: str,
    s_c: Sequence[float],
    seeds: int,
    swept_seeds: int,
    swept_steps: Sequence[int],
    longest: int,
) -> None:
    """Refuses factors that do not fit together; ``longest`` are the steps of what is swept."""
    good = len(s_c) == 2 and min(s_c) == 0 < max(s_c)
    require(good, owner, "s_c", "0 (point) and one larger scale (mixture)", list(s_c))
    allowed = f"below {longest}, the steps of the setting that is swept"
    require(max(swept_steps) < longest, owner, "swept_steps", allowed, list(swept_steps))
    good, allowed = 1 <= swept_seeds <= seeds, f"in 1 .. seeds, which is {seeds}"
    require(good, owner, "swept_seeds", allowed, swept_seeds)


Parts = dict[str, tuple[pd.DataFrame, Recipe]]  # run tables and recipes by name


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
    """Trains one part and measures it: tables by name, see ``runs.measure``; the runs with their
    regime, and the number m of attributes.

    ``closely`` adds pictures of the first seed: samples of every arm, and one reverse diffusion.
    """
    trained = train(rows, recipe, device, progress, workers=workers)
    tables = measure(rows, trained, recipe, progress, workers)
    regimes = {n: regime(n, recipe) for n in rows["n_train"].unique()}
    attributes = Scene(0, recipe).world.combinations.shape[1]
    runs = tables["runs"].assign(regime=tables["runs"]["n_train"].map(regimes))
    tables["runs"] = runs.assign(attributes=attributes)
    if closely:
        tables["pictures"] = pictures(rows, trained, recipe)
        tables["strip"] = reverse_strip(rows, trained, recipe)
    return tables


def _pixels(images: Tensor) -> pd.DataFrame:
    """Images ``(n, ...)`` as rows of greys p0, p1, ..."""
    greys = images.flatten(1).double().numpy().round(3)
    return pd.DataFrame(greys, columns=[f"p{i}" for i in range(greys.shape[1])])


def pictures(rows: pd.DataFrame, trained: Trained, recipe: Recipe) -> pd.DataFrame:
    """Images that every arm of the first seed makes, ``COPIES`` for some combinations of each
    group, and real ones: one row an image.

    Columns: granularity, s_c, group, combination, shown (the combination that the judge
    reads), off (off-manifold), p0, p1, ... (greys).
    """
    tables = []
    for number, row in enumerate(rows.itertuples(index=False)):
        if row.seed != rows["seed"].iloc[0]:
            continue
        run = Run(row, recipe)
        scene, groups = run.scene, run.scene.groups(run.data[1])
        order = torch.cat([scene.seen, scene.held_out]).tolist()
        chosen = [
            c
            for group, count in SHOWN.items()
            for c in itertools.islice((c for c in order if groups[c] == group), count)
        ]
        combination = torch.tensor(chosen).repeat_interleave(COPIES)
        z = run.generate(trained.parameters[number], combination, recipe.evaluations)
        sheets = {(row.granularity, row.s_c): z.unflatten(1, scene.world.shape)}
        if not tables:
            drawn = stream(row.seed, "pictures")
            sheets["real", 0.0] = scene.world.sample(combination, drawn, "floor")
        for (granularity, s_c), images in sheets.items():
            judged = scene.world.judge(images)
            table = pd.DataFrame({"granularity": granularity, "s_c": s_c}, range(len(images)))
            table["group"] = [groups[c] for c in combination.tolist()]
            table["combination"], table["shown"] = combination, judged.combination
            table["off"] = judged.off_manifold
            tables.append(pd.concat([table, _pixels(images)], axis=1))
    return pd.concat(tables, ignore_index=True)


def reverse_strip(rows: pd.DataFrame, trained: Trained, recipe: Recipe) -> pd.DataFrame:
    """From noise to an image: x_t along the sampler, the feature arm's first seed (points), asked
    for its most frequent combinations; one row an image, with t and the combination.
    """
    mine = (rows["granularity"] == "feature") & (rows["s_c"] == 0)
    number = int(mine.to_numpy().argmax())
    run = Run(next(rows.iloc[[number]].itertuples(index=False)), recipe)
    combination = run.scene.seen[:2]
    tables = [
        _pixels(x * run.data[2] + recipe.centre).assign(t=t, combination=combination)
        for t, x in reverse_diffusion(run, trained.parameters[number], combination)
    ]
    return pd.concat(tables, ignore_index=True)
