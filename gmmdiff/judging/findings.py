"""What was found, as rows: findings.yaml holds each question, where it is answered, and for every
verdict one sentence that a person wrote; claims.json chooses the sentence and fills in its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gmmdiff.judging.rule import RATIOS

Judged = Mapping[str, Any]  # an object of claims.json
SAMPLED = ("reproduced", "partly", "no effect", "reversed", "mixed", "inconclusive")
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


@cache
def rows() -> list[dict[str, Any]]:
    """The content of findings.yaml."""
    text = Path(__file__).with_name("findings.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def number(value: float | None) -> str:
    """Two digits at least, and no power: 0.416 -> "0.42", 98.7 -> "99"; "?" where there is none."""
    if value is None or not math.isfinite(value):
        return "?"
    decimals = max(0, 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"


def amount(value: float | None, metric: str = "") -> str:
    """An arm's level as it is read: a share in percent, of ``RATIOS`` the number itself."""
    if metric in RATIOS or value is None or not math.isfinite(value):
        return number(value)
    return f"{number(100 * value)} %"


def _cell(row: Mapping[str, Any], claim: Judged) -> Judged | None:
    """The first of the claim's cells that compares the row's arms and has its factors."""
    for cell in claim["cells"]:
        arms = [level["arm"] for level in cell["levels"]]
        if arms == row["arms"] and row["cell"].items() <= cell["factors"].items():
            return cell
    return None


def _numbers(row: Mapping[str, Any], claim: Judged) -> dict[str, str] | None:
    """The numbers of a row by what they belong to; None where its cell was not measured."""
    if "cell" not in row:
        return {row["estimate"]: amount(claim["estimate"])} if "estimate" in row else {}
    if (cell := _cell(row, claim)) is None:
        return None
    metric = cell["factors"]["metric"]
    return {level["arm"]: amount(level["estimate"], metric) for level in cell["levels"]}


def findings(claims: Sequence[Judged]) -> list[Finding]:
    """Every row that these objects of claims.json answer: a quick look asks less."""
    answered = []
    for row in rows():
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
        sentence = row[verdict].format(
            **dict(zip(("first", "second"), numbers.values(), strict=False))
        )
        levels = [f"{whose} {one}" for whose, one in numbers.items()]
        headline = row.get("headline", False)
        answered.append(
            Finding(row["question"], row["where"], asked, levels, verdict, sentence, headline)
        )
    return answered


def show_findings(claims: Sequence[Judged], *ids: str) -> None:
    """Displays what these objects of claims.json answer, of the claims with these ids."""
    from IPython.display import Markdown, display

    for one in findings([claim for claim in claims if claim["id"] in ids]):
        display(Markdown(f"**{one.question}** *{one.verdict}.* {one.sentence}"))
