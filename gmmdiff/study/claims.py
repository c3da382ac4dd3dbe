"""What a claim is, and what is found of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

Tables = Mapping[str, pd.DataFrame]
PAPER = "arXiv 2401.11261, abstract"
ENOUGH_SEEDS = 10  # for a verdict
Verdict = Literal["reproduced", "partly", "not reproduced", "inconclusive"]


@dataclass(frozen=True)
class Judgement:
    """What the tables say of one claim; fields that do not apply are None."""

    verdict: Verdict
    details: str
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_seeds: int | None = None


@dataclass(frozen=True)
class Claim:
    """One claim, fixed before the numbers."""

    id: str
    statement: str
    source: str
    criterion: str
    stage: str
    judge: Callable[[Tables], Judgement]


def listed(values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())
