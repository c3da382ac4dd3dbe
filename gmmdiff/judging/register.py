"""Every claim, and the verdicts of a stage as claims.json holds them.

``judge`` reads finished tables and nothing else, so anybody can recompute every verdict from the
published ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from gmmdiff.judging.claims import Claim
from gmmdiff.judging.feature_vs_class import CLAIMS as FEATURE_VS_CLASS
from gmmdiff.judging.ngmg_stability import CLAIMS as NGMG_STABILITY
from gmmdiff.judging.tables import Tables
from gmmdiff.judging.theory import CLAIMS as THEORY

REGISTER = (*THEORY, *FEATURE_VS_CLASS, *NGMG_STABILITY)
FIELDS = (  # of a claim and what is found of it, as they stand in claims.json
    *("id", "statement", "source", "criterion", "estimate", "ci_low", "ci_high", "n_seeds"),
    *("world", "regime", "delta", "cells", "replication", "rival_verdict", "undertrained"),
    *("verdict", "stage", "details"),
)


def rounded(value: Any) -> Any:
    """A number to six digits, what is not finite as None; a mapping or list by its parts; whatever
    else as it is.
    """
    if isinstance(value, Mapping):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def judge(stage: str, tables: Tables) -> list[dict[str, Any]]:
    """Every claim of one stage, judged on its tables: the objects of claims.json."""
    return [judged(claim, tables) for claim in REGISTER if claim.stage == stage]


def judged(claim: Claim, tables: Tables) -> dict[str, Any]:
    """One claim, judged: an object of claims.json."""
    fields = asdict(claim) | claim.words | asdict(claim.judge(tables))
    return rounded({name: fields[name] for name in FIELDS})
