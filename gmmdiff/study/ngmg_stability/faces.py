"""Experiment B on drawn faces: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.study.engine.runs import Recipe
from gmmdiff.study.ngmg_stability.runs import GRANULARITY, JUDGED, kinds, require_lam, run_rows
from gmmdiff.worlds.faces import Faces

CENTRE = 0.4  # about the mean grey of the data


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

    ``lam_X``: every judged cost at that lambda, raw and matched; 0, which has to be among them, is
    the reference without a cost.  ``choice``: the raw ones at every lambda on ``choosing_seeds`` of
    their own, which choose each cost's best lambda.

    Args:
        held_out: share of the combinations that is left out of training, in (0, 1).
        network: further fields of ``Recipe``.
    """
    owner = "ngmg_faces"
    require_lam(owner, lam)
    require(seeds >= 1, owner, "seeds", ">= 1", seeds)
    require(choosing_seeds >= 1, owner, "choosing_seeds", ">= 1", choosing_seeds)
    world, left_out = partial(Faces, attributes, size), round(held_out * 2**attributes)
    recipe = Recipe(world, left_out, centre=CENTRE, size=1.0, **network)
    alike = {"granularity": GRANULARITY, "s_c": 0.0, "n_train": n_train, "steps": steps}
    alike |= {"learning_rate": learning_rate, "label_noise": 0.0}
    every, others = range(seed, seed + seeds), range(seed + seeds, seed + seeds + choosing_seeds)
    found = {
        f"lam_{level}": run_rows(kinds(JUDGED if level else ["BCE"]), every, lam=level, **alike)
        for level in lam
    }
    raw = [(cost, "raw") for cost in JUDGED]
    choice = [run_rows(raw, others, lam=level, **alike) for level in lam if level]
    found["choice"] = pd.concat(choice, ignore_index=True)
    return {name: (rows, recipe) for name, rows in found.items()}
