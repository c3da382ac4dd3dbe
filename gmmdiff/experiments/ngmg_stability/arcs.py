"""Experiments A and B on the arcs: their run tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.core.costs import COSTS
from gmmdiff.engine.joint.classifiers import JointEnsemble
from gmmdiff.experiments.ngmg_stability.arms import (
    GRANULARITY,
    JOINT_COSTS,
    JUDGED,
    arm_rows,
    require_lam,
    with_signals,
)
from gmmdiff.experiments.run_tables import RunTables, checked, require_distinct, settings_of
from gmmdiff.worlds.arcs import Arcs


def run_tables(parameters: Mapping[str, Any]) -> RunTables:
    """Run tables and settings by name.

    ``label_noise_X``: experiment A at that noise.  ``lam_X``: experiment B at that lambda, 0 being
    the reference without a cost; the first of its learning rates is judged, the others are controls
    on ``other_seeds``, as is what no claim judges.

    Args:
        parameters: as notebooks/03a_ngmg_stability_runs.ipynb declares them.

    Raises:
        ValueError: on lists in which something is missing or twice, and as ``checked``.
    """
    p, owner = SimpleNamespace(**parameters), "ngmg_stability"
    for name in ("label_noise", "learning_rate", "joint_learning_rate"):
        require_distinct(owner, **{name: parameters[name]})
    require_lam(owner, p.lam)
    good, allowed = p.other_seeds <= p.seeds, f"in 1 .. seeds = {p.seeds}"
    require(good, owner, "other_seeds", allowed, p.other_seeds)
    own = {"world": partial(Arcs, p.dimension), "classifier_width": p.classifier_width}
    settings = settings_of(parameters, held_out=p.held_out, **own)
    alone = {"granularity": "none", "s_c": 0.0, "lam": 1.0, "steps": p.classifier_steps}
    joint = {"granularity": GRANULARITY, "s_c": p.s_c, "label_noise": 0.0, "steps": p.steps}
    main, *controls = p.joint_learning_rate
    joint_rates = [(main, JOINT_COSTS, p.seeds)]
    joint_rates += [(rate, JUDGED, p.other_seeds) for rate in controls]

    def rows(costs: Sequence[str], judged_on: int, **factors: Any) -> pd.DataFrame:
        arms = sorted(with_signals(costs), key=lambda arm: arm[0] not in JUDGED)
        every, few = range(p.seed, p.seed + judged_on), range(p.seed, p.seed + p.other_seeds)
        seeds = {arm: every if arm[0] in JUDGED else few for arm in arms}
        return arm_rows(seeds, n_train=p.n_train, **factors)

    found = {}
    for noise in p.label_noise:
        found[f"label_noise_{noise}"] = [
            rows(COSTS, p.seeds, learning_rate=rate, label_noise=noise, **alone)
            for rate in p.learning_rate
        ]
    for lam in p.lam:
        found[f"lam_{lam}"] = [
            rows(costs if lam else ["BCE"], count, learning_rate=rate, lam=lam, **joint)
            for rate, costs, count in joint_rates
        ]
    tables = {k: (pd.concat(own, ignore_index=True), settings) for k, own in found.items()}
    return checked(owner, tables, ensemble=JointEnsemble)
