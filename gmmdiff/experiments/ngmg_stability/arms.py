"""The arms of both experiments: a cost, raw, or with its signal matched to BCE's at the start.

A trains a classifier of noisy points alone, B the denoiser with it (see
``gmmdiff.engine.joint.classifiers``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.joint.classifiers import SIGNALS, JointEnsemble
from gmmdiff.experiments.run_tables import require_distinct

JUDGED = ("BCE", "Brier", "NGMG s=1")  # by the claims; every other cost is reported
JOINT_COSTS = (*JUDGED, "NGMG scale mixture", "NGMG with entropy")
GRANULARITY = "feature"  # of the denoiser's condition in B
Arm = tuple[str, str]  # a cost and its signal


def with_signals(costs: Iterable[str]) -> list[Arm]:
    """Every cost with every signal; matched to itself, BCE stands once."""
    both = itertools.product(SIGNALS, costs)
    return [(cost, signal) for signal, cost in both if (cost, signal) != ("BCE", "matched")]


def arm_rows(arms: Mapping[Arm, Iterable[int]], **factors: Any) -> pd.DataFrame:
    """Every arm with each of its seeds; ``factors`` are the other columns, alike in all rows."""
    rows = [
        factors | {"seed": seed, "cost": cost, "signal": signal}
        for (cost, signal), seeds in arms.items()
        for seed in seeds
    ]
    return pd.DataFrame(rows, columns=list(JointEnsemble.columns))


def require_lam(owner: str, lam: Sequence[float]) -> None:
    """Refuses a grid of lambda without 0 or 1, or with one twice."""
    allowed = "0 (no cost), 1 (where N5 is asked) and larger or smaller ones"
    require({0, 1} <= set(lam), owner, "lam", allowed, lam)
    require_distinct(owner, lam=lam)
