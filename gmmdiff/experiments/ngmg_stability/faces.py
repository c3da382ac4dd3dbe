"""Experiment B on drawn faces: its run tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pandas as pd

from gmmdiff.engine.joint.classifiers import JointEnsemble
from gmmdiff.experiments.ngmg_stability import arms
from gmmdiff.experiments.run_tables import RunTables, checked, require_levels, settings_of
from gmmdiff.worlds.faces import CENTRE, Faces


def run_tables(parameters: Mapping[str, Any]) -> RunTables:
    """Run tables and settings by name.

    ``joint``: every judged cost at every lambda, raw and, where it is one of ``matched_lam``,
    matched; 0, which has to be among them, is the reference without a cost.  ``choice``: the raw
    ones and the reference on ``choosing_seeds`` of their own at every lambda of the finer grid
    ``choosing_lam``, which choose each cost's best lambda and tell how much of it is borne.

    Args:
        parameters: as notebooks/03b_ngmg_faces_runs.ipynb declares them.

    Raises:
        ValueError: on lists in which something is missing or twice, and as ``checked``.
    """
    p, owner = SimpleNamespace(**parameters), "ngmg_faces"
    good = set(p.matched_lam) <= set(p.lam) - {0} <= set(p.choosing_lam)
    allowed = f"with every lambda > 0 of lam {p.lam}, and matched_lam among them"
    needed = {"lam": ({0, 1} <= set(p.lam), arms.LAM), "choosing_lam": (good, allowed)}
    require_levels(owner, parameters, ["lam", "matched_lam", "choosing_lam"], **needed)
    own = {"world": partial(Faces, p.attributes, p.size), "centre": CENTRE, "size": 1}
    own["classifier_width"] = p.classifier_width
    settings = settings_of(parameters, held_out=round(p.held_out * 2**p.attributes), **own)
    factors = {"granularity": arms.GRANULARITY, "s_c": 0.0, "label_noise": 0.0}
    factors |= {name: parameters[name] for name in ("n_train", "steps", "learning_rate")}
    last = p.seed + p.seeds
    every, others = range(p.seed, last), range(last, last + p.choosing_seeds)
    raw = [(cost, "raw") for cost in arms.JUDGED]
    matched = arms.with_signals(arms.JUDGED)

    def rows(weights: Iterable[float], seeds: Iterable[int], matched_at: Sequence[float] = ()):
        by_lam = {lam: matched if lam in matched_at else raw for lam in weights if lam}
        by_lam = {0.0: raw[:1]} | by_lam
        tables = [arms.arm_rows(costs, seeds, lam=lam, **factors) for lam, costs in by_lam.items()]
        return pd.concat(tables, ignore_index=True), settings

    joint, choice = rows(p.lam, every, p.matched_lam), rows(p.choosing_lam, others)
    tables = {"joint": joint, "choice": choice}
    return checked(owner, tables, ["sparse"], ensemble=JointEnsemble)
