"""What a claim is, and what is found of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
    """``{"a": 0.5, "b": 2}`` -> "a 0.5, b 2", every value in one format."""
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


@cache
def _sentences(room: str) -> Any:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"form": format, "listed": listed}
    return templates.get_template(f"{room}/sentences.j2").module


def sentence(room: str, name: str, **numbers: Any) -> str:
    """What was measured, in words: the macro ``name`` of study/ROOM/sentences.j2 on these numbers.

    Line breaks and indents of the template count as single blanks.
    """
    return " ".join(getattr(_sentences(room), name)(**numbers).split())
