"""Every claim, and the verdicts of a stage as claims.json holds them.

``judge`` reads finished tables and nothing else, so anybody can recompute every verdict from the
published ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmmdiff.judging.claims import Claim, Tables
from gmmdiff.judging.feature_vs_class import CLAIMS as FEATURE_VS_CLASS
from gmmdiff.judging.ngmg_stability import CLAIMS as NGMG_STABILITY
from gmmdiff.judging.theory import CLAIMS as THEORY

REGISTER = (*THEORY, *FEATURE_VS_CLASS, *NGMG_STABILITY)


def rounded(value: Any) -> Any:
    """A number to six digits, what is not finite as None; a mapping or list by its parts; whatever
    else as it is.
    """
    if isinstance(value, Mapping):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def judge(stage: str, tables: Tables) -> list[dict[str, Any]]:
    """Every claim of one stage, judged on its tables: the objects of claims.json."""
    return [judged(claim, tables) for claim in REGISTER if claim.stage == stage]


def judged(claim: Claim, tables: Tables) -> dict[str, Any]:
    """One claim, judged: an object of claims.json."""
    found = claim.judge(tables)
    return {
        "id": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "criterion": claim.criterion,
        "estimate": rounded(found.estimate),
        "ci_low": rounded(found.ci_low),
        "ci_high": rounded(found.ci_high),
        "n_seeds": found.n_seeds,
        "world": claim.world,
        "regime": claim.regime,
        "delta": claim.delta and rounded(claim.delta),
        "cells": [rounded(cell) for cell in found.cells],
        "replication": found.replication,
        "rival_verdict": found.rival_verdict,
        "undertrained": found.undertrained,
        "verdict": found.verdict,
        "stage": claim.stage,
        "details": found.details,
    }
