"""Every claim, and the verdicts of a stage as claims.json holds them.

``judge`` reads finished tables and nothing else, so anybody can recompute every verdict from the
published ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gmmdiff.study.claims import Tables
from gmmdiff.study.feature_vs_class.claims import CLAIMS as FEATURE_VS_CLASS
from gmmdiff.study.ngmg_stability.claims import CLAIMS as NGMG_STABILITY
from gmmdiff.study.theory.claims import CLAIMS as THEORY

REGISTER = (*THEORY, *FEATURE_VS_CLASS, *NGMG_STABILITY)


def judge(stage: str, tables: Tables) -> list[dict[str, Any]]:
    """Every claim of one stage, judged on its tables: the objects of claims.json."""
    found = []
    for claim in (c for c in REGISTER if c.stage == stage):
        judgement = claim.judge(tables)
        numbers = {
            name: None if value is None or not np.isfinite(value) else float(f"{value:.6g}")
            for name, value in (
                ("estimate", judgement.estimate),
                ("ci_low", judgement.ci_low),
                ("ci_high", judgement.ci_high),
            )
        }
        found.append(
            {
                "id": claim.id,
                "statement": claim.statement,
                "source": claim.source,
                "criterion": claim.criterion,
                **numbers,
                "n_seeds": judgement.n_seeds,
                "verdict": judgement.verdict,
                "stage": claim.stage,
                "details": judgement.details,
            }
        )
    return found
