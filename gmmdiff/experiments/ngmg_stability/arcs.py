"""Experiments A and B on the arcs: their run tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pandas as pd

from gmmdiff.core.costs import COSTS
from gmmdiff.engine.joint.classifiers import JointEnsemble
from gmmdiff.experiments.ngmg_stability import arms
from gmmdiff.experiments.run_tables import RunTables, checked, require_levels, settings_of
from gmmdiff.worlds.arcs import Arcs


def run_tables(parameters: Mapping[str, Any]) -> RunTables:
    """Run tables and settings by name.

    ``alone``: experiment A at every noise of the labels.  ``joint``: experiment B at every lambda,
    0 being the reference without a cost; the first of its learning rates is judged, the others are
    controls on ``other_seeds``, as is what no claim judges.

    Args:
        parameters: as notebooks/03a_ngmg_stability_runs.ipynb declares them.

    Raises:
        ValueError: on lists in which something is missing or twice, and as ``checked``.
    """
    p, owner = SimpleNamespace(**parameters), "ngmg_stability"
    needed = {
        "lam": ({0, 1} <= set(p.lam), arms.LAM),
        "other_seeds": (p.other_seeds <= p.seeds, f"in 1 .. seeds = {p.seeds}"),
    }
    distinct = ["label_noise", "learning_rate", "joint_learning_rate", "lam"]
    require_levels(owner, parameters, distinct, **needed)
    own = {"world": partial(Arcs, p.dimension), "classifier_width": p.classifier_width}
    settings = settings_of(parameters, held_out=p.held_out, **own)
    main, *controls = p.joint_learning_rate
    alone = {"granularity": "none", "s_c": 0.0, "lam": 1.0, "steps": p.classifier_steps}
    joint = {"granularity": arms.GRANULARITY, "s_c": p.s_c, "label_noise": 0.0, "steps": p.steps}
    found = {
        "alone": [
            _rows(p, COSTS, p.learning_rate, label_noise=noise, **alone) for noise in p.label_noise
        ],
        "joint": [
            _rows(p, arms.JOINT_COSTS if lam else ["BCE"], [main], controls, lam=lam, **joint)
            for lam in p.lam
        ],
    }
    tables = {name: (pd.concat(own, ignore_index=True), settings) for name, own in found.items()}
    return checked(owner, tables, ensemble=JointEnsemble)


def _rows(
    p: SimpleNamespace,
    costs: Iterable[str],
    rates: Sequence[float],
    controls: Sequence[float] = (),
    **factors: Any,
) -> pd.DataFrame:
    """Costs at all rates, those that no claim judges on few seeds; judged ones also at controls."""
    every, few = (range(p.seed, p.seed + count) for count in (p.seeds, p.other_seeds))
    judged = [cost for cost in costs if cost in arms.JUDGED]
    others = [cost for cost in costs if cost not in arms.JUDGED]
    groups = [(rate, *own) for rate in rates for own in ((judged, every), (others, few)) if own[0]]
    groups += [(rate, judged, few) for rate in controls]
    factors["n_train"] = p.n_train
    tables = [
        arms.arm_rows(arms.with_signals(own), seeds, learning_rate=rate, **factors)
        for rate, own, seeds in groups
    ]
    return pd.concat(tables, ignore_index=True)
