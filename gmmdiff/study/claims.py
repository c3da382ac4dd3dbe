"""What a claim is, and what is found of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gmmdiff.study import verdicts

Tables = Mapping[str, pd.DataFrame]
PAPER = "arXiv 2401.11261, abstract"
# A claim of theory passes or not; a sampled one gets what ``gmmdiff.study.verdicts`` says.
Verdict = Literal["not reproduced"] | verdicts.Verdict


@dataclass(frozen=True)
class Judgement:
    """What the tables say of one claim; fields that do not apply are None.

    Attributes:
        cells: of a sampled claim, one object a cell: factors, estimate, low, high, delta, state.
        replication: share of the resamples of the seeds that give the same verdict; None where
            twice the training leaves the claim without one.
        rival_verdict: the most frequent other verdict, of a fragile one.
    """

    verdict: Verdict
    details: str
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_seeds: int | None = None
    cells: Sequence[Mapping[str, Any]] = ()
    replication: float | None = None
    rival_verdict: Verdict | None = None


@dataclass(frozen=True)
class Claim:
    """One claim, fixed before the numbers.

    Attributes:
        world, regime: where it is asked; None for a claim of theory.
        delta: of a sampled claim, the smallest effect that matters, by kind of cell.
    """

    id: str
    statement: str
    source: str
    criterion: str
    stage: str
    judge: Callable[[Tables], Judgement]
    world: str | None = None
    regime: str | None = None
    delta: Mapping[str, float] | None = None


def by_rule(
    claim: str,
    cells: Sequence[verdicts.Cell],
    tell: Callable[..., str],
    moved: Sequence[Mapping[str, Any]] = (),
    **told: Any,
) -> Judgement:
    """A sampled claim, judged by ``verdicts.rule``.

    Its estimate is that of the cell whose interval ends highest.

    Args:
        tell: the sentence of a list of cells, each with ``name`` beside what claims.json holds.
        moved: cells that twice the training moves by delta; with one, there is no verdict.
        told: whatever else the sentence tells.
    """
    ruling = verdicts.rule(claim, cells)
    rows = [
        {**interval._asdict(), "delta": cell.delta, "state": state or "not judged"}
        for cell, interval, state in zip(cells, ruling.intervals, ruling.states, strict=True)
    ]
    found = [{"factors": dict(cell.factors), **row} for cell, row in zip(cells, rows, strict=True)]
    judged = [row for row in rows if row["state"] != "not judged"] or rows
    hardest = max(judged, key=lambda row: row["high"])
    seeds = len(cells[0].difference)
    return Judgement(
        "inconclusive" if moved else ruling.verdict,
        tell(cells=found, seeds=seeds, moved=moved, **told),
        hardest["estimate"],
        hardest["low"],
        hardest["high"],
        seeds,
        found,
        None if moved else ruling.replication,
        None if moved else ruling.rival,
    )


def cells_table(claims: Sequence[Claim], tables: Tables) -> pd.DataFrame:
    """The cells of sampled claims: one row a cell.

    Columns: claim, name, estimate, low, high, delta, state.
    """
    rows = []
    for claim in claims:
        for cell in claim.judge(tables).cells:
            told = {name: value for name, value in cell.items() if name != "factors"}
            what, *_ = cell["factors"].values()
            name = f"{what.replace('_', ' ')}, {levels(cell['factors'])}"
            rows.append({"claim": claim.id, "name": name, **told})
    return pd.DataFrame(rows)


def levels(factors: Mapping[str, Any]) -> str:
    """The numeric factors of a cell: ``{"lam": 1.0, "learning_rate": 0.01}`` -> "lambda 1, rate
    0.01".
    """
    words = {"lam": "lambda", "learning_rate": "rate", "label_noise": "label noise"}
    words |= {"twice": "steps", "rival_lam": "the rival's"}
    return ", ".join(
        f"{words.get(name, name)} {level:g}"
        for name, level in factors.items()
        if not isinstance(level, str)
    )


@cache
def _sentences(room: str) -> Any:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"form": format, "listed": listed, "levels": levels, "exp": math.exp}
    return templates.get_template(f"{room}/sentences.j2").module


def listed(values: Mapping[str, float], form: str) -> str:
    """``{"a": 0.5, "b": 2}`` -> "a 0.5, b 2", every value in one format."""
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def sentence(room: str, name: str, **numbers: Any) -> str:
    """What was measured, in words: the macro ``name`` of study/ROOM/sentences.j2 on these numbers.

    Line breaks and indents of the template count as single blanks.
    """
    return " ".join(getattr(_sentences(room), name)(**numbers).split())
