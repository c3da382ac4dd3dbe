"""Experiment B on drawn faces: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.joint.classifiers import JointEnsemble
from gmmdiff.engine.runs import TrainingSettings
from gmmdiff.experiments.ngmg_stability.arms import (
    GRANULARITY,
    JUDGED,
    arm_rows,
    require_lam,
    with_signals,
)
from gmmdiff.experiments.run_tables import RunTables, checked, require_distinct
from gmmdiff.worlds.faces import CENTRE, Faces


def run_tables(
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
) -> RunTables:
    """Run tables and settings by name.

    ``lam_X``: every judged cost at that lambda, raw and, where it is one of ``matched_lam``,
    matched; 0, which has to be among them, is the reference without a cost.  ``choice``: the raw
    ones and the reference on ``choosing_seeds`` of their own at every lambda of the finer grid
    ``choosing_lam``, which choose each cost's best lambda and tell how much of it is borne.

    Args:
        held_out: share of the combinations that is left out of training, in (0, 1).
        network: further fields of ``TrainingSettings``.

    Raises:
        ValueError: on grids in which something is missing or twice, and as ``checked``.
    """
    owner = "ngmg_faces"
    require_lam(owner, lam)
    require_distinct(owner, matched_lam=matched_lam, choosing_lam=choosing_lam)
    good = set(matched_lam) <= set(lam) - {0} <= set(choosing_lam)
    allowed = f"with every lambda > 0 of lam {list(lam)}, and matched_lam among them"
    require(good, owner, "choosing_lam", allowed, choosing_lam)
    left_out, world = round(held_out * 2**attributes), partial(Faces, attributes, size)
    settings = TrainingSettings(world, left_out, centre=CENTRE, size=1, **network)
    factors = {"granularity": GRANULARITY, "s_c": 0.0, "n_train": n_train, "steps": steps}
    factors |= {"learning_rate": learning_rate, "label_noise": 0.0}
    every, others = range(seed, seed + seeds), range(seed + seeds, seed + seeds + choosing_seeds)
    raw = [(cost, "raw") for cost in JUDGED]
    found = {"lam_0.0": arm_rows(raw[:1], every, lam=0.0, **factors)}
    for level in (level for level in lam if level):
        arms = with_signals(JUDGED) if level in matched_lam else raw
        found[f"lam_{level}"] = arm_rows(arms, every, lam=level, **factors)
    choice = [arm_rows(raw, others, lam=level, **factors) for level in choosing_lam]
    choice.append(arm_rows(raw[:1], others, lam=0.0, **factors))
    found["choice"] = pd.concat(choice, ignore_index=True)
    run_tables = {name: (rows, settings) for name, rows in found.items()}
    return checked(owner, run_tables, ["sparse"], ensemble=JointEnsemble)
