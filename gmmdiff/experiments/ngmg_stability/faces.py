"""Experiment B on drawn faces: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.runs import TrainingSettings
from gmmdiff.experiments.ngmg_stability.run_tables import (
    GRANULARITY,
    JUDGED,
    kinds,
    require_lam,
    run_rows,
)
from gmmdiff.worlds.faces import CENTRE, Faces


def parts(
    lam: Sequence[float],
    matched_lam: Sequence[float],
    choosing_lam: Sequence[float],
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
) -> dict[str, tuple[pd.DataFrame, TrainingSettings]]:
    """Run tables and settings by name, each trained and kept by itself.

    ``lam_X``: every judged cost at that lambda, raw and, where it is one of ``matched_lam``,
    matched; 0, which has to be among them, is the reference without a cost.  ``choice``: the raw
    ones and the reference on ``choosing_seeds`` of their own at every lambda of the finer grid
    ``choosing_lam``, which choose each cost's best lambda and tell how much of it is borne.

    Args:
        held_out: share of the combinations that is left out of training, in (0, 1).
        network: further fields of ``TrainingSettings``.
    """
    owner = "ngmg_faces"
    require_lam(owner, lam)
    require(seeds >= 1, owner, "seeds", ">= 1", seeds)
    require(choosing_seeds >= 1, owner, "choosing_seeds", ">= 1", choosing_seeds)
    world, left_out = partial(Faces, attributes, size), round(held_out * 2**attributes)
    settings = TrainingSettings(world, left_out, centre=CENTRE, size=1.0, **network)
    alike = {"granularity": GRANULARITY, "s_c": 0.0, "n_train": n_train, "steps": steps}
    alike |= {"learning_rate": learning_rate, "label_noise": 0.0}
    for name, levels in (("matched_lam", matched_lam), ("choosing_lam", choosing_lam)):
        good = len(set(levels)) == len(levels) and all(level > 0 for level in levels)
        require(good, owner, name, "distinct numbers > 0", levels)
    allowed = f"with every lambda > 0 of lam {list(lam)}, and matched_lam among them"
    good = set(matched_lam) <= set(lam) - {0} <= set(choosing_lam)
    require(good, owner, "choosing_lam", allowed, choosing_lam)
    every, others = range(seed, seed + seeds), range(seed + seeds, seed + seeds + choosing_seeds)
    raw = [(cost, "raw") for cost in JUDGED]
    found = {"lam_0.0": run_rows(raw[:1], every, lam=0.0, **alike)}
    for level in (level for level in lam if level):
        arms = kinds(JUDGED) if level in matched_lam else raw
        found[f"lam_{level}"] = run_rows(arms, every, lam=level, **alike)
    choice = [run_rows(raw, others, lam=level, **alike) for level in choosing_lam]
    choice.append(run_rows(raw[:1], others, lam=0.0, **alike))
    found["choice"] = pd.concat(choice, ignore_index=True)
    return {name: (rows, settings) for name, rows in found.items()}
