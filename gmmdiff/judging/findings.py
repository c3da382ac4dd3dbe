"""What was found, as rows: findings.yaml holds each question, where it is answered, and for every
verdict one sentence that a person wrote; claims.json chooses the sentence and fills in its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gmmdiff.judging.rule import RATIOS

ROWS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
Judged = Mapping[str, Any]  # an object of claims.json
EXACT = ("reproduced", "partly", "inconclusive", "not reproduced")  # the best first


class Finding(NamedTuple):
    """One row of findings.yaml, answered."""

    question: str
    where: str
    claims: Sequence[Judged]  # one, or checks that are told together
    levels: Sequence[str]  # of both arms: "feature 4.1 %"; one of an exact claim, or none
    verdict: str  # of several checks the worst
    sentence: str  # with its numbers
    headline: bool  # worth quoting alone


def number(value: float | None, digits: int = 2) -> str:
    """So many digits at least, and no power: 0.416 -> "0.42", 98.7 -> "99"; "?" of none."""
    if value is None or not math.isfinite(value):
        return "?"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"


def amount(value: float | None, metric: str = "") -> str:
    """An arm's level as it is read: a share in percent, of ``RATIOS`` the number itself."""
    if metric in RATIOS or value is None or not math.isfinite(value):
        return number(value, 3)
    return f"{number(100 * value)} %"


def _numbers(row: Mapping[str, Any], claim: Judged) -> dict[str, str] | None:
    """A claim's numbers by what they belong to: both arms, of the first cell that compares those of
    the row and has its factors, or an estimate; None where that cell was not measured.
    """
    if "cell" not in row:
        return {row["estimate"]: amount(claim["estimate"])} if "estimate" in row else {}
    for cell in claim["cells"]:
        own, factors = {one["arm"]: one["estimate"] for one in cell["levels"]}, cell["factors"]
        if [*own] == row["arms"] and row["cell"].items() <= factors.items():
            return {arm: amount(level, factors["metric"]) for arm, level in own.items()}
    return None


def findings(claims: Sequence[Judged]) -> list[Finding]:
    """Every row that these objects of claims.json answer: a quick look asks less."""
    answered = []
    for row in ROWS:
        place = (row.get("world"), row.get("regime"))
        asked = [
            claim
            for claim in claims
            if claim["id"] in row["claims"] and (claim["world"], claim["regime"]) == place
        ]
        if not asked or (numbers := _numbers(row, asked[0])) is None:
            continue
        verdicts = {claim["verdict"] for claim in asked}
        verdict = max(verdicts, key=EXACT.index) if len(verdicts) > 1 else verdicts.pop()
        named = dict(zip(("first", "second"), numbers.values(), strict=False))
        levels = [f"{whose} {one}" for whose, one in numbers.items()]
        told = asked, levels, verdict, row[verdict].format(**named), row.get("headline", False)
        answered.append(Finding(row["question"], row["where"], *told))
    return answered


def show_findings(claims: Sequence[Judged], *ids: str) -> None:
    """Displays what these objects of claims.json answer, of the claims with these ids."""
    from IPython.display import Markdown, display

    for one in findings([claim for claim in claims if claim["id"] in ids]):
        display(Markdown(f"**{one.question}** *{one.verdict}.* {one.sentence}"))
