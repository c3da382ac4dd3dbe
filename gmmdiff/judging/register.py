"""Every claim, and the verdicts of a stage as claims.json holds them, from its tables alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

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


def judge(stage: str, tables: Tables) -> list[dict[str, Any]]:
    """Every claim of one stage, judged on its tables: the objects of claims.json."""
    return [judged(claim, tables) for claim in REGISTER if claim.stage == stage]


def judged(claim: Claim, tables: Tables) -> dict[str, Any]:
    """One claim, judged: an object of claims.json, its numbers to six digits, None where one is not
    finite.
    """
    fields = asdict(claim) | claim.words | asdict(claim.judge(tables))
    return json.loads(
        json.dumps({name: fields[name] for name in FIELDS}, default=int),
        parse_float=lambda number: float(f"{float(number):.6g}"),
        parse_constant=lambda _: None,
    )
