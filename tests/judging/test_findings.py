"""Every finding has a sentence for every verdict, with the numbers of its claim and no others."""

import json
import math
import re
from typing import get_args

import pytest

from gmmdiff.judging.findings import EXACT, ROWS, amount, findings, number
from gmmdiff.judging.register import REGISTER
from gmmdiff.judging.rule import RATIOS, Verdict
from tests.paths import PUBLISHED

SAMPLED = get_args(Verdict)
TURNS = [(row, v) for row in ROWS for v in (SAMPLED if "world" in row else EXACT)]
NUMBER = re.compile(r"(?<![\w])\d[\d.]*(?: %)?")


def claim(row, verdict, name=None, levels=(0.0412, 0.1987)):
    """An object of claims.json whose cells have, among others, the row's factors."""
    factors = row.get("cell", {})
    names = row.get("arms", "ab")
    arms = [{"arm": arm, "estimate": level} for arm, level in zip(names, levels, strict=True)]
    cell = {"factors": {"metric": "defect"} | factors, "levels": arms}
    other = {"factors": dict.fromkeys(factors, 7.0), "levels": arms}
    cells = [other, cell | {"levels": arms[::-1]}, cell] if "cell" in row else []
    found = {"id": name or row["claims"][0], "verdict": verdict, "estimate": levels[0]}
    return found | {"world": row.get("world"), "regime": row.get("regime"), "cells": cells}


def answer(row, *claims):
    """What is found for one row, among those that the same claims answer."""
    same = (row["question"], row["where"])
    return next((one for one in findings(claims) if (one.question, one.where) == same), None)


@pytest.mark.parametrize(("row", "verdict"), TURNS)
def test_a_verdict_turns_its_sentence(row, verdict):
    found = answer(row, claim(row, verdict))
    metric = row.get("cell", {}).get("metric", "defect")
    numbers = [amount(level, metric) for level in (0.0412, 0.1987)]
    shown = 2 if "cell" in row else "estimate" in row
    assert NUMBER.findall(found.sentence) == numbers[:shown], "the levels, first arm first"
    whose = row.get("arms") or [row.get("estimate")]
    assert list(found.levels) == [f"{a} {n}" for a, n in zip(whose, numbers[:shown], strict=False)]
    assert len(found.sentence.split()) <= 30 and found.sentence.endswith(".")
    assert not re.search(r"[{}_]|undecided|would count|to within", found.sentence)
    assert re.search(row.get("world", "exact laws")[:-1], found.sentence), "it names its place"
    assert found.verdict == verdict and found.headline == row.get("headline", False)


def test_every_row_names_a_claim_that_is_asked_there():
    asked = {(one.id, one.world, one.regime) for one in REGISTER}
    for row in ROWS:
        place = (row.get("world"), row.get("regime"))
        assert {(name, *place) for name in row["claims"]} <= asked, row["question"]
        told = [row[verdict] for verdict in (SAMPLED if "world" in row else EXACT)]
        assert len(set(told)) == len(told), "no two verdicts share a sentence"
        assert set(row) - set(SAMPLED) - set(EXACT) <= {
            *("question", "claims", "world", "regime", "where"),
            *("arms", "cell", "headline", "estimate"),
        }
    assert sum(row.get("headline", False) for row in ROWS) == 3


def test_of_several_checks_the_worst_verdict_is_told():
    row = next(row for row in ROWS if len(row["claims"]) > 1)
    first, *others = row["claims"]
    passed = [claim(row, "reproduced", name) for name in others]
    assert answer(row, claim(row, "reproduced", first), *passed).verdict == "reproduced"
    assert answer(row, claim(row, "not reproduced", first), *passed).verdict == "not reproduced"


def test_what_was_not_asked_or_measured_is_left_out():
    row = next(row for row in ROWS if row.get("cell"))
    elsewhere = claim(row, "reproduced") | {"regime": "elsewhere"}
    unmeasured = claim(row, "reproduced") | {"cells": []}
    assert answer(row, elsewhere) is answer(row, unmeasured) is None


def test_numbers_are_read_as_shares_or_as_they_are():
    told = [number(value) for value in (0.416, 98.7, 0.0, 0.00034, -1.26, None)]
    assert told == ["0.42", "99", "0", "0.00034", "-1.3", "?"] and amount(math.nan) == "?"
    assert amount(0.0412, "defect") == amount(0.0412) == "4.1 %" and amount(None) == "?"
    assert {amount(1.314, metric) for metric in RATIOS} == {"1.31"}


def test_the_published_claims_answer_every_row():
    claims = json.loads((PUBLISHED / "claims.json").read_text())
    assert [one.question for one in findings(claims)] == [row["question"] for row in ROWS]
