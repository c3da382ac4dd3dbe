"""Experiment B on drawn faces: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.study.engine.runs import Recipe
from gmmdiff.study.ngmg_stability.runs import GRANULARITY, JUDGED, run_rows
from gmmdiff.worlds.faces import Faces

CENTRE = 0.4  # about the mean grey of the data
RAW = [(cost, "raw") for cost in JUDGED]
ARMS = [*RAW, ("NGMG s=1", "matched")]


def parts(
    lam: Sequence[float],
    learning_rate: float,
    steps: int,
    n_train: int,
    attributes: int,
    seeds: int,
    choosing_seeds: int,
    seed: int,
    size: int,
    held_out: float,
    **network: Any,
) -> dict[str, tuple[pd.DataFrame, Recipe]]:
    """Run tables and recipes by name, each trained and kept by itself.

    ``lam_X``: every judged cost at that lambda, raw, and NGMG matched too; 0, which has to be among
    them, is the reference without a cost, on ``choosing_seeds`` also trained twice as long.
    ``choice``: the raw ones at every lambda on as many seeds of their own, which choose each cost's
    best lambda.

    Args:
        held_out: share of the combinations that is left out of training, in (0, 1).
        network: further fields of ``Recipe``.
    """
    owner, allowed = "ngmg_faces", "0 (the reference) and others, all distinct"
    good = len(set(lam)) == len(lam) > 1 and min(lam) == 0
    require(good, owner, "lam", allowed, list(lam))
    good, allowed = 1 <= choosing_seeds <= seeds, f"in 1 .. seeds, which is {seeds}"
    require(good, owner, "choosing_seeds", allowed, choosing_seeds)
    left_out = round(held_out * 2**attributes)
    world = partial(Faces, attributes, size)
    recipe = Recipe(world, left_out, centre=CENTRE, size=1.0, **network)
    alike = {"learning_rate": [learning_rate], "n_train": n_train, "s_c": 0.0}
    alike |= {"label_noise": 0.0, "granularity": GRANULARITY}
    found = {}
    for level in lam:
        arms = [(*arm, seeds) for arm in (ARMS if level else RAW[:1])]
        tables = [run_rows(arms, lam=level, steps=steps, first_seed=seed, **alike)]
        if not level:
            longer = [(*RAW[0], choosing_seeds)]
            tables.append(run_rows(longer, lam=0.0, steps=2 * steps, first_seed=seed, **alike))
        found[f"lam_{level}"] = pd.concat(tables, ignore_index=True), recipe
    arms, others = [(*arm, choosing_seeds) for arm in RAW], seed + seeds
    tables = [
        run_rows(arms, lam=level, steps=steps, first_seed=others, **alike) for level in lam if level
    ]
    found["choice"] = pd.concat(tables, ignore_index=True), recipe
    return found
