"""Every finding's sentence turns with its numbers, and stays a sentence."""

import json
import math
import re

import pytest

from gmmdiff.study import verdicts
from gmmdiff.study.findings import findings, legend, number
from gmmdiff.study.register import REGISTER
from tests.paths import PUBLISHED

SEEN, RARE, HELD_OUT = (
    "feature minus class, seen",
    "feature minus class, rare",
    "held out minus rare",
)
FEATURES, MIXTURES = "Do features beat classes?", "Do mixtures help?"
COMPOSE, STEADIER, GOOD = "Do features compose?", "Is NGMG steadier?", "Is NGMG as good?"
HELP, THEORY = "Does the classifier help?", "Does the theory hold?"
ARCS, DENSE, SPARSE = ("arcs", "dense"), ("faces", "dense"), ("faces", "sparse")


def cell(low, high, delta=1.0, judged=True, margin=False, **factors):
    """In points; a variation as a factor."""
    size = math.log if factors.get("metric") == "variation" else (0.01).__mul__
    low, high, delta = size(low), size(high), size(delta)
    state = verdicts.state(low, high, delta, margin) if judged else "not judged"
    ends = {"estimate": (low + high) / 2, "low": low, "high": high}
    return {"factors": factors, **ends, "delta": delta, "state": state}


def claim(name, place, *cells, moved=False, seeds=20):
    """An object of claims.json, judged by the rule's states."""
    states = [one["state"] for one in cells if one["state"] != "not judged"]
    told = "inconclusive" if moved or seeds < 20 else verdicts.verdict(states)
    return {
        "id": name,
        "world": place[0],
        "regime": place[1],
        "cells": list(cells),
        "verdict": told,
        "n_seeds": seeds,
        "replication": None if moved else 1.0,
    }


def all_of(finding):
    return " ".join(filter(None, [finding.sentence, *finding.more]))


def tell(question, *claims):
    return next(all_of(one) for one in findings(claims) if one.question == question)


def f1(low, high, s_c=0.0, **factors):
    return cell(low, high, contrast=SEEN, s_c=s_c, **factors)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (
            [f1(-9, -5), f1(-50, -40, 0.1)],
            "features make fewer misses than classes with point conditions on arcs, by 7.0 "
            "points, and with mixture conditions on arcs, by 45 points "
            "([F1](#F1)).",
        ),
        (
            [f1(5, 9), f1(40, 50)],
            "features make more misses than classes with point conditions on arcs, by 7.0 to 45 "
            "points ([F1](#F1)).",
        ),
        (
            [f1(5, 9), f1(-9, -5, 0.1, n_train=8000), f1(-3, 2, 0.1, n_train=500)],
            "features make fewer misses than classes with mixture conditions on arcs (8,000 "
            "training samples), by 7.0 points; more misses with point conditions on arcs, by 7.0 "
            "points; elsewhere the difference is undecided, at most 3.0 points, where 1.0 points "
            "would count ([F1](#F1)).",
        ),
        (
            [f1(-0.1, 0.3), f1(-0.4, 0.2)],
            "the difference in misses between features and classes is too small to count, at most "
            "0.40 points, where 1.0 points would count ([F1](#F1)).",
        ),
    ],
)
def test_features_better_worse_both_and_neither(cells, told):
    assert tell(FEATURES, claim("F1", ARCS, *cells)) == told[0].upper() + told[1:]


def test_open_intervals_and_too_short_a_training_are_said():
    arcs, dense = claim("F1", ARCS, f1(-3, 2)), claim("F1", DENSE, f1(0.5, 2))
    sparse = claim("F1", SPARSE, f1(-9, -5), moved=True)
    assert tell(FEATURES, arcs, dense, sparse).endswith(
        "On arcs and dense faces the intervals leave the difference open, and on sparse faces "
        "twice the training still moves differences that count: 3 of 3 verdicts are inconclusive."
    )
    assert tell(FEATURES, arcs, claim("F1", SPARSE, f1(-9, -5))).endswith(
        "On arcs the intervals leave the difference open: 1 of 2 verdicts is inconclusive."
    )
    assert tell(FEATURES, claim("F1", ARCS, f1(-9, -5), seeds=2)).endswith(
        "On arcs there are fewer than 20 seeds: 1 of 1 verdicts is inconclusive."
    )
    assert "inconclusive" not in tell(FEATURES, claim("F1", SPARSE, f1(-9, -5)))


@pytest.mark.parametrize(
    ("claims", "answer"),
    [
        ([claim("F1", ARCS, f1(-9, -5))], "Yes."),
        ([claim("F1", ARCS, f1(-9, -5), f1(-3, 2))], "In part."),
        ([claim("F1", ARCS, f1(-9, -5)), claim("F1", SPARSE, f1(5, 9))], "Yes and no."),
        ([claim("F1", ARCS, f1(-9, -5)), claim("F1", SPARSE, f1(-3, 2))], "In part, so far."),
        ([claim("F1", ARCS, f1(5, 9))], "No, the opposite."),
        ([claim("F1", ARCS, f1(5, 9)), claim("F1", SPARSE, f1(0, 0))], "No, in part the opposite."),
        ([claim("F1", ARCS, f1(-0.1, 0.1))], "Not so that it counts."),
        ([claim("F1", ARCS, f1(-3, 2))], "Open."),
        ([claim("F1", ARCS, f1(-9, -5), moved=True)], "Yes, so far."),
    ],
)
def test_the_answer_turns(claims, answer):
    assert next(one.answer for one in findings(claims) if one.question == FEATURES) == answer


def test_rare_combinations_and_regimes_are_named():
    rare = [cell(-9, -5, contrast=RARE, s_c=0.1)]
    told = tell(FEATURES, claim("F1", DENSE, f1(-9, -5)), claim("F2", SPARSE, *rare))
    assert told == (
        "Features make fewer misses than classes with point conditions on dense faces, by "
        "7.0 points ([F1](#F1)). On rare combinations, features make "
        "fewer misses than classes with mixture conditions on sparse faces, by 7.0 points "
        "([F2](#F2))."
    )
    both = [claim("F1", place, f1(-9, -5)) for place in (DENSE, SPARSE)]
    assert "conditions on faces, by" in tell(FEATURES, *both)


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((5, 9), "make more defects than fixed ones for classes on arcs, by 7.0"),
        ((-9, -5), "make fewer defects than fixed ones for classes on arcs, by 7.0"),
    ],
)
def test_what_mixtures_cost_turns(ends, told):
    cells = [cell(*ends, contrast="class: mixture minus point", n_train=500)]
    assert tell(MIXTURES, claim("F4", ARCS, *cells)) == (
        f"Conditions drawn from mixtures {told} points ([F4](#F4))."
    )


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((40, 60), "features make more misses than on rare ones on arcs, by 50 points"),
        ((-60, -40), "features make fewer misses than on rare ones on arcs, by 50 points"),
        ((-2, 3), "features make no more misses than on rare ones on arcs, to within 3.0 points, "
         "where 5.0 points would count"),
        ((1, 9), "the difference in misses between combinations held out of training and rare "
         "ones is undecided, at most 9.0 points, where 5.0 points would count"),
    ],
)  # fmt: skip
def test_composition_turns(ends, told):
    found = tell(COMPOSE, claim("F3", ARCS, cell(*ends, 5.0, margin=True, contrast=HELD_OUT)))
    lead = "" if told.startswith("the diff") else "Asked for combinations held out of training, "
    sentence = f"{lead}{told} ([F3](#F3))."
    assert found.startswith(sentence[0].upper() + sentence[1:])


def steady(low, high, metric="variation", lam=1, **options):
    delta = 1.1 if metric == "variation" else 0.2
    return cell(low, high, delta, metric=metric, lam=lam, **options)


def test_steadier_less_steady_and_mixed_signs_between_worlds():
    better, worse = claim("N1", ARCS, steady(0.4, 0.5)), claim("N1", SPARSE, steady(2, 2.5))
    assert tell(STEADIER, better) == (
        "NGMG trains more steadily than binary cross entropy on arcs, by a factor of 2.2 in "
        "gradient variation ([N1](#N1))."
    )
    assert tell(STEADIER, worse) == (
        "NGMG trains less steadily than binary cross entropy on faces, by a factor of 2.2 in "
        "gradient variation ([N1](#N1))."
    )
    assert tell(STEADIER, better, worse) == (
        "NGMG trains more steadily than binary cross entropy on arcs, by a factor of 2.2 in "
        "gradient variation; less steadily on faces, by a factor of 2.2 in gradient variation "
        "([N1](#N1))."
    )
    spikes = claim("N4", ARCS, steady(1, 3, "spike_rate"), cell(-9, -5, metric="error"))
    assert tell(STEADIER, spikes) == (
        "NGMG trains less steadily than the Brier score on arcs, by 2.0 points of steps that "
        "spike ([N4](#N4))."
    )


@pytest.mark.parametrize(
    ("matched", "lead"),
    [
        ((0.5, 0.5), "shrinks, as a geometric mean, from a factor of 4.0 to one of 2.0"),
        ((0.2, 0.2), "grows, as a geometric mean, from a factor of 4.0 to one of 5.0"),
        ((1.3, 1.3), "is gone"),
    ],
)
def test_how_much_is_a_weaker_push(matched, lead):
    raw = claim("N1", ARCS, steady(0.25, 0.25), steady(0.9, 1.1, lam=10))
    told = tell(STEADIER, raw, claim("N2", ARCS, steady(*matched), steady(0.1, 0.1, lam=10)))
    assert told.count("that lead") == 1
    assert f"equal strength, that lead in gradient variation {lead} ([N2](#N2))." in told
    assert "With signals of equal strength, NGMG trains " in told


def test_the_sentence_answers_and_the_rest_stands_beside_it():
    rare = cell(-9, -5, contrast=RARE, s_c=0.0)
    scrambled = cell(-0.1, 0.3, contrast="feature minus scrambled, rare", s_c=0.0)
    _, told = findings(
        [claim("F1", ARCS, f1(-9, -5)), claim("F2", ARCS, rare), claim("F5", ARCS, scrambled)]
    )
    assert told.sentence.endswith("by 7.0 points ([F1](#F1)).")
    assert [one[-12:] for one in told.more] == ["([F2](#F2)).", "([F5](#F5))."]
    assert "between features and the same codes scrambled is too small to count" in told.more[1]


@pytest.mark.parametrize(
    ("ends", "told"), [((-9, -5), "makes fewer errors than"), ((5, 9), "makes more errors than")]
)
def test_the_classifiers_error_turns(ends, told):
    cells = [cell(*ends, metric="error", label_noise=0.2)]
    assert tell(GOOD, claim("N3", ARCS, *cells), claim("N5", ARCS)).startswith(
        f"NGMG's classifier {told} binary cross entropy's on arcs, by 7.0 points ([N3](#N3))."
    )


def test_without_a_lead_nothing_is_said_of_its_push():
    claims = claim("N1", ARCS, steady(2, 3)), claim("N2", ARCS, steady(0.5, 0.6))
    assert "that lead" not in tell(STEADIER, *claims)
    unjudged = claim("N1", ARCS, steady(0.5, 0.6, judged=False))
    assert tell(STEADIER, unjudged) == (
        "On arcs the intervals leave the difference open: 1 of 1 verdicts is inconclusive."
    )


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((-9, -5), "with NGMG's classifier the denoiser makes fewer misses than with none on "
         "faces, by 7.0 points"),
        ((5, 9), "with NGMG's classifier the denoiser makes more misses than with none on "
         "faces, by 7.0 points"),
        ((-0.3, 0.4), "the difference in misses between NGMG's classifier and none is too small "
         "to count, at most 0.40 points, where 1.0 points would count"),
    ],
)  # fmt: skip
def test_help_turns(ends, told):
    cells = [cell(*ends, metric=f"{kind}misses, minus none", lam=1) for kind in ("", "held-out ")]
    sentence = f"At its best lambda, {told} ([N6a](#N6a))."
    assert tell(HELP, claim("N6a", SPARSE, *cells)) == sentence


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((-9, -5), "makes fewer defects than {} on arcs, by 7.0 points"),
        ((-9, -0.5), "makes no more defects than {} on arcs, to within 0 points, where 1.0 points "
         "would count"),
        ((-9, 0.5), "makes no more defects than {} on arcs, to within 0.50 points, where 1.0 "
         "points would count"),
        ((5, 9), "makes more defects than {} on arcs, by 7.0 points"),
    ],
)  # fmt: skip
def test_quality_turns(ends, told):
    """Only the upper end of an interval tells how much worse NGMG may be."""
    rivals = {"BCE": "binary cross entropy's", "without a cost": "one without it"}
    cells = [cell(*ends, margin=True, metric=f"defects, minus {name}", lam=1) for name in rivals]
    sentences = [
        f"Lambda by lambda, a denoiser with NGMG's classifier {told.format(words)} ([N5](#N5))."
        for words in rivals.values()
    ]
    assert tell(GOOD, claim("N5", ARCS, *cells)) == " ".join(sentences)


def test_better_is_told_apart_from_no_worse():
    metric = {"metric": "defects, minus BCE", "margin": True}
    cells = cell(-33, -25, 10.0, lam=3, **metric), cell(-16, 2, 10.0, lam=1, **metric)
    assert tell(GOOD, claim("N5", ARCS, *cells)) == (
        "Lambda by lambda, a denoiser with NGMG's classifier makes fewer defects than binary cross "
        "entropy's on arcs (lambda 3), by 29 points; no more defects on arcs (lambda 1), to within "
        "2.0 points, where 10 points would count ([N5](#N5))."
    )


def test_what_may_be_worse_stands_beside_its_own_delta():
    metric = {"metric": "defects, minus BCE", "margin": True}
    places = {ARCS: cell(-1, 0.5, 0.6, **metric), SPARSE: cell(-1, 6.0, 13.0, **metric)}
    assert tell(GOOD, *(claim("N5", place, one) for place, one in places.items())) == (
        "Lambda by lambda, a denoiser with NGMG's classifier makes no more defects than binary "
        "cross entropy's on arcs, to within 0.50 points, where 0.60 points would count, and on "
        "faces, to within 6.0 points, where 13 points would count ([N5](#N5))."
    )


def test_of_no_claims_nothing_is_found():
    assert findings([]) == []


def test_spikes_are_told_beside_variation():
    both = claim("N1", ARCS, steady(0.4, 0.5), steady(-3, -1, "spike_rate"))
    assert "by a factor of 2.2 in gradient variation and 2.0 points of steps that spike" in tell(
        STEADIER, both
    )
    open_ones = claim("N1", ARCS, steady(0.9, 1.2), steady(-3, 1, "spike_rate"))
    assert "at most a factor of 1.2 in gradient variation and 3.0 points of" in tell(
        STEADIER, open_ones
    )


def test_unlike_deltas_are_told_from_the_least_to_the_largest():
    cells = [cell(-8, -1, 10.0, metric="misses, minus BCE"), cell(0, 9, 20.0, metric="held-out")]
    told = "too small to count, at most 9.0 points, where 10 to 20 points would count"
    assert told in tell(HELP, claim("N6b", SPARSE, *cells))


def test_cells_of_a_place_are_told_by_what_sets_them_apart():
    """By the first factor whose levels the others do not share, else by their number."""
    better, worse = {"low": -9, "high": -5}, {"low": 5, "high": 9}
    settings = [(1, 500, better), (1, 8000, worse), (10, 500, better), (10, 8000, better)]
    cells = [f1(**ends, lam=lam, n_train=size) for lam, size, ends in settings]
    told = tell(FEATURES, claim("F1", ARCS, *cells))
    assert "on arcs (3 of 4 settings), by 7.0" in told and "arcs (1 of 4 settings)" in told
    told = tell(FEATURES, claim("F1", ARCS, *cells[:2], *cells[2:3]))
    assert "on arcs (500 training samples), by 7.0 points; more misses" in told


@pytest.mark.parametrize(
    ("verdicts_of", "answer"),
    [
        (["reproduced", "reproduced"], "Yes. The 2 verdicts on {}: 2 reproduced."),
        (
            ["partly", "reversed", "reversed"],
            "In part. The 3 verdicts on {}: 2 reversed and 1 partly.",
        ),
        (["mixed", "inconclusive"], "No. The 2 verdicts on {}: 1 mixed and 1 inconclusive."),
    ],
)
def test_all_in_all_turns(verdicts_of, answer):
    found = findings([claim("F1", ARCS, f1(0, 0)) | {"verdict": one} for one in verdicts_of])[0]
    told = answer.format("1 claim, asked in one place or several")
    assert f"{found.answer} {found.sentence}" == told


def test_the_legend_says_why_verdicts_are_open():
    moved, open_one = claim("F1", ARCS, f1(-9, -5), moved=True), claim("F1", SPARSE, f1(-3, 2))
    assert (
        "verdicts are inconclusive, as twice the training still moves differences that count (1) "
        "and the intervals leave the difference open (1)."
    ) in legend([moved, open_one])
    told = legend([claim("F1", ARCS, f1(-9, -5))])
    assert "inconclusive" not in told and "each over 20 seeds" in told


def test_a_fragile_verdict_is_said():
    firm, fragile = claim("F3", ARCS, f1(5, 9)), claim("F3", SPARSE, f1(5, 9))
    told = "Fragile, as resampled seeds often give another verdict, on faces: 1 of 2."
    assert tell(COMPOSE, firm, fragile | {"replication": 0.5}).endswith(told)
    assert "Fragile" not in tell(COMPOSE, firm, fragile)


def theory(name, verdict):
    return claim(name, (None, None)) | {"verdict": verdict}


def test_theory_turns():
    assert tell(THEORY, theory("T1", "reproduced"), theory("T4", "partly")) == (
        "On exact laws, [features as mixtures of their classes](#T1) is reproduced; [NGMG as "
        "linear in Wasserstein's distance](#T4) is partly reproduced: in full, 1 of 2."
    )
    verdicts_of = {"T1": "not reproduced", "T2": "not reproduced", "T6": "inconclusive"}
    assert tell(THEORY, *(theory(*pair) for pair in verdicts_of.items())) == (
        "On exact laws, [features as mixtures of their classes](#T1) and [features apart from "
        "their classes](#T2) are not reproduced; [a sample cost free of dimension](#T6) is "
        "inconclusive: in full, 0 of 3."
    )


@pytest.mark.parametrize(
    ("told", "answer"),
    [("reproduced", "Yes."), ("partly", "In part."), ("not reproduced", "In part.")],
)
def test_the_answer_of_theory_turns(told, answer):
    found = findings([theory("T1", "reproduced"), theory("T2", told)])
    assert [one.answer for one in found] == [answer, answer]
    alone = [findings([theory("T1", verdict)])[0].answer for verdict in ("partly", "inconclusive")]
    assert alone == ["In part.", "No."]


def test_numbers_have_two_digits_and_no_power():
    values = (0.00416, 0.416, 6.01, 45.3, 98.7, 100.0, 1234.5, 0)
    told = ["0.0042", "0.42", "6.0", "45", "99", "100", "1234", "0"]
    assert [number(value) for value in values] == told


def test_the_published_claims_are_told():
    """All seven, each sentence ending in a link or a count, each link at a claim that is there."""
    found = findings(json.loads((PUBLISHED / "claims.json").read_text()))
    assert len(found) == 8
    links = set(re.findall(r"\(#(\w+)\)", " ".join(all_of(one) for one in found)))
    assert links <= {one.id for one in REGISTER} and len(links) == 18
    for one in found:
        for sentence in re.split(r"(?<=\.) (?=[A-Z])", all_of(one)):
            assert re.search(r"\)\.$|inconclusive\.$|\d of \d+\.$|\d [a-z ]+\.$", sentence), (
                sentence
            )
            assert sentence[0].isupper() and "  " not in sentence
            assert re.search(r"\d|gone", re.sub(r"\(#\w+\)|\[\w+\]", "", sentence)), sentence
