"""The arms of both experiments: a cost, raw, or with its signal matched to BCE's at the start.

A trains a classifier of noisy points alone, B the denoiser with it (see
``gmmdiff.engine.joint.classifiers``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pandas as pd

from gmmdiff.engine.joint.classifiers import SIGNALS, JointEnsemble

JUDGED = ("BCE", "Brier", "NGMG s=1")  # by the claims; every other cost is reported
JOINT_COSTS = (*JUDGED, "NGMG scale mixture", "NGMG with entropy")
GRANULARITY = "feature"  # of the denoiser's condition in B
LAM = "0 (no cost), 1 (where N5 is asked) and larger or smaller ones"  # what a grid has to hold
Arm = tuple[str, str]  # a cost and its signal


def with_signals(costs: Iterable[str]) -> list[Arm]:
    """Every cost with every signal; matched to itself, BCE stands once."""
    both = itertools.product(SIGNALS, costs)
    return [(cost, signal) for signal, cost in both if (cost, signal) != ("BCE", "matched")]


def arm_rows(arms: Iterable[Arm], seeds: Iterable[int], **factors: Any) -> pd.DataFrame:
    """Every arm with every seed; ``factors`` are the other columns, alike in all rows."""
    rows = [
        factors | {"cost": cost, "signal": signal, "seed": seed}
        for (cost, signal), seed in itertools.product(arms, seeds)
    ]
    return pd.DataFrame(rows, columns=list(JointEnsemble.columns))
