"""Experiments A and B on the arcs: their run tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.core.costs import COSTS
from gmmdiff.engine.joint.classifiers import JointEnsemble
from gmmdiff.engine.runs import TrainingSettings
from gmmdiff.experiments.ngmg_stability.arms import (
    GRANULARITY,
    JOINT_COSTS,
    JUDGED,
    arm_rows,
    require_lam,
    with_signals,
)
from gmmdiff.experiments.run_tables import RunTables, checked, require_distinct
from gmmdiff.worlds.arcs import Arcs


def run_tables(
    label_noise: Sequence[float],
    learning_rate: Sequence[float],
    classifier_steps: int,
    lam: Sequence[float],
    joint_learning_rate: Sequence[float],
    steps: int,
    n_train: int,
    s_c: float,
    seeds: int,
    other_seeds: int,
    seed: int,
    dimension: int,
    held_out: int,
    **network: Any,
) -> RunTables:
    """Run tables and settings by name.

    ``label_noise_X``: experiment A at that noise.  ``lam_X``: experiment B at that lambda, 0 being
    the reference without a cost; the first of its learning rates is judged, the others are controls
    on ``other_seeds``, as is what no claim judges.

    Args:
        network: further fields of ``TrainingSettings``.

    Raises:
        ValueError: on grids in which something is missing or twice, and as ``checked``.
    """
    owner, rates = "ngmg_stability", {"joint_learning_rate": joint_learning_rate}
    require_distinct(owner, label_noise=label_noise, learning_rate=learning_rate, **rates)
    require_lam(owner, lam)
    good, allowed = 1 <= other_seeds <= seeds, f"in 1 .. seeds = {seeds}"
    require(good, owner, "other_seeds", allowed, other_seeds)
    settings = TrainingSettings(partial(Arcs, dimension), held_out, **network)
    alone = {"granularity": "none", "s_c": 0.0, "lam": 1.0, "steps": classifier_steps}
    joint = {"granularity": GRANULARITY, "s_c": s_c, "label_noise": 0.0, "steps": steps}

    def tables(costs: Iterable[str], judged_on: int, **factors: Any) -> list[pd.DataFrame]:
        arms = with_signals(costs)
        groups = (
            ([arm for arm in arms if arm[0] in JUDGED], judged_on),
            ([arm for arm in arms if arm[0] not in JUDGED], other_seeds),
        )
        return [
            arm_rows(own, range(seed, seed + count), n_train=n_train, **factors)
            for own, count in groups
        ]

    found = {
        f"label_noise_{noise}": [
            table
            for rate in learning_rate
            for table in tables(COSTS, seeds, learning_rate=rate, label_noise=noise, **alone)
        ]
        for noise in label_noise
    }
    main, *controls = joint_learning_rate
    for level in lam:
        costs = JOINT_COSTS if level else ["BCE"]
        own = tables(costs, seeds, learning_rate=main, lam=level, **joint)
        for rate in controls:
            costs = JUDGED if level else ["BCE"]
            own += tables(costs, other_seeds, learning_rate=rate, lam=level, **joint)
        found[f"lam_{level}"] = own
    run_tables = {k: (pd.concat(own, ignore_index=True), settings) for k, own in found.items()}
    return checked(owner, run_tables, ensemble=JointEnsemble)
