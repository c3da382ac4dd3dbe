"""What was found, in plain words: no sentence holds an outcome, the numbers of claims.json give it.

A sampled claim is told by its cells: where it holds and by how much, where the opposite is true,
and at most how far apart the two sides lie in the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gmmdiff.study.verdicts import ENOUGH_SEEDS, FRAGILE, LEVEL

Found = Mapping[str, Any]  # an object of claims.json, or one of its cells with its claim's place
Told = tuple[list[str], list[str]]  # the sentences of a finding, and more of them
THEORY = {  # what a claim of theory is about
    "T1": "features as mixtures of their classes",
    "T2": "features apart from their classes",
    "T3": "NGMG vanishing where two manifolds meet",
    "T4": "NGMG as linear in Wasserstein's distance",
    "T5": "manifolds found by gradient descent",
    "T6": "a sample cost free of dimension",
}
GRANULARITIES = {"coarse": "classes of two attributes", "class": "classes", "feature": "features"}
RARE = "on rare combinations, "
UNITS = {  # of what a cell measures, where it is no share of samples
    "variation": "a factor of {} in gradient variation",
    "spike_rate": "{} points of steps that spike",
}
REST = {"negligible": "too small to count", "undecided": "undecided"}


class Finding(NamedTuple):
    """A question and what was found: Markdown, with links to #F1 and the like."""

    question: str
    answer: str  # in a few words
    sentence: str  # with its number
    more: Sequence[str]  # sentences on claims beside it, and on how sure all of it is


class Sides(NamedTuple):
    """How the difference of two sides is told."""

    subject: str  # "features make"
    below: str  # "fewer misses than classes"
    above: str  # "more misses than classes"
    between: str  # "in misses between features and classes", where neither is sure


def number(value: float) -> str:
    """Two digits at least, and no power: 0.416 -> "0.42", 98.7 -> "99".

    Args:
        value: >= 0.
    """
    decimals = max(0, 1 - math.floor(math.log10(value))) if value else 0
    return f"{value:.{decimals}f}"


def listed(parts: Iterable[str], last: str = " and ") -> str:
    """``["a", "b", "c"]`` -> "a, b and c"."""
    *most, end = parts
    return f"{', '.join(most)}{last}{end}" if most else end


def _grouped(items: Iterable[Found], key: Callable[[Found], Any]) -> dict[Any, list[Found]]:
    """Items by key, keys in the order in which they come."""
    found: dict[Any, list[Found]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def _sizes(cells: Sequence[Found], told: Callable[[list[float]], str], *ends: str) -> str:
    """How large differences are, either way, with their unit, each kind by itself."""
    kinds = []
    for unit, group in _grouped(cells, _unit).items():
        sizes = [max(abs(cell[end]) for end in ends) for cell in group]
        factors = unit == UNITS["variation"]
        kinds.append(unit.format(told([math.exp(x) if factors else 100 * x for x in sizes])))
    return listed(kinds)


def _unit(cell: Found) -> str:
    return UNITS.get(cell["factors"].get("metric"), "{} points")


def _range(sizes: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys([number(min(sizes)), number(max(sizes))]))


def by(cells: Sequence[Found]) -> str:
    """Estimates: "6.0 to 45 points"."""
    return _sizes(cells, _range, "estimate")


def farthest(cells: Sequence[Found]) -> str:
    """The farthest end of their intervals: "1.0 points"."""
    return _sizes(cells, lambda sizes: number(max(sizes)), "low", "high")


def highest(cells: Sequence[Found]) -> str:
    """The highest end of their intervals, 0 where all lie below it."""
    return farthest([{**cell, "low": 0.0, "high": max(cell["high"], 0.0)} for cell in cells])


def would_count(cells: Sequence[Found]) -> str:
    """How much would, beside ``farthest``: their delta, or where there are several the share of
    its own that an interval reaches.
    """
    if len({cell["delta"] for cell in cells}) == 1:
        return f"where {_sizes(cells, _range, 'delta')} would count"
    reached = max(max(abs(c["low"]), abs(c["high"])) / c["delta"] for c in cells)
    return f"and in no case more than {100 * reached:.0f} % of what would count there"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _why_inconclusive(claim: Found) -> str:
    if claim["n_seeds"] < ENOUGH_SEEDS:
        return f"there are fewer than {ENOUGH_SEEDS} seeds"
    if claim["replication"] is None:
        return "twice the training still moves differences that count"
    return "the intervals leave the difference open"


def _place(claim: Found) -> dict[str, Any]:
    return {name: claim[name] for name in ("world", "regime")}


def answer(claims: Sequence[Found]) -> str:
    """The states of a sampled claim's cells in a few words: "Yes and no, so far."; so far while a
    verdict is inconclusive.
    """
    states = {cell["state"] for claim in claims for cell in claim["cells"]} - {"not judged"}
    open_ones = [claim["verdict"] == "inconclusive" for claim in claims]
    if not states or (all(open_ones) and states <= {"negligible", "undecided"}):
        return "Open."
    if {"holds", "reversed"} <= states:
        told = "Yes and no"
    elif "holds" in states:
        told = "In part" if states - {"holds"} else "Yes"
    elif "reversed" in states:
        told = "No, in part the opposite" if states - {"reversed"} else "No, the opposite"
    else:
        told = "Not so that it counts"
    return f"{told}, so far." if any(open_ones) else f"{told}."


class _Findings:
    """The findings of one claims.json."""

    def __init__(self, claims: Sequence[Found]) -> None:
        self.claims = claims
        self.regimes = {
            world: {claim["regime"] for claim in group}
            for world, group in _grouped(claims, lambda claim: claim["world"]).items()
        }

    def asked(self, *names: str) -> list[Found]:
        return [claim for claim in self.claims if claim["id"] in names]

    def cells(self, name: str, kind: Callable[[Found], str] = lambda cell: "") -> list[Found]:
        """Judged cells with their place, and as ``kind`` the setting by which they are told."""
        return [
            {**cell, **_place(claim), "kind": kind(cell)}
            for claim in self.asked(name)
            for cell in claim["cells"]
            if cell["state"] != "not judged"
        ]

    def places(self, items: Sequence[Found], among: Sequence[Found]) -> str:
        """Where items are, and how many of those asked there: "arcs (1 of 2 settings) and
        digits".

        A regime is named where its world has another that is not told alike.
        """
        told = []
        for world, group in _grouped(items, lambda item: item["world"]).items():
            counts = {}
            for regime, here in _grouped(group, lambda item: item["regime"]).items():
                there = [one for one in among if (one["world"], one["regime"]) == (world, regime)]
                part = f" ({len(here)} of {len(there)} settings)" if len(here) < len(there) else ""
                counts[regime] = part
            if set(counts) == self.regimes[world] and len(set(counts.values())) == 1:
                told.append(world + next(iter(counts.values())))
            else:
                told += [f"{regime} {world}{part}" for regime, part in counts.items()]
        return listed(told)

    def compared(
        self, name: str, sides: Sides, cells: Sequence[Found], margin: bool = False
    ) -> str:
        """One claim's cells in a sentence that ends in its number and the link.

        Args:
            margin: whether a cell holds where its interval ends below delta, and not below 0.
        """
        parts = []
        for state, words in (("holds", sides.below), ("reversed", sides.above)):
            where = []
            for kind, among in _grouped(cells, lambda cell: cell["kind"]).items():
                here = [cell for cell in among if cell["state"] == state]
                within = margin and state == "holds"
                if here:
                    size = f"to within {highest(here)}" if within else f"by {by(here)}"
                    where.append(f"{kind}on {self.places(here, among)}, {size}")
            if where:
                first = f"{sides.subject} {words}"
                told = words.partition(" than ")[0] if parts else first
                parts.append(f"{told} {listed(where, ', and ')}")
        if rest := [cell for cell in cells if cell["state"] in REST]:
            states = dict.fromkeys(sorted(cell["state"] for cell in rest))
            told = f"is {' or '.join(REST[state] for state in states)}, at most {farthest(rest)}"
            if parts:
                parts.append(f"elsewhere the difference {told}")
            else:
                known = f", {would_count(rest)}" if list(states) == ["negligible"] else ""
                parts.append(f"the difference {sides.between} {told}{known}")
        return f"{'; '.join(parts)} ([{name}](#{name}))."

    def reservations(self, *names: str) -> list[str]:
        """Where there is no verdict and why, and where resampled seeds often give another one: a
        sentence each, where there is any.
        """
        asked = self.asked(*names)
        without = [claim for claim in asked if claim["verdict"] == "inconclusive"]
        reasons = [
            f"on {self.places(group, group)} {why}"
            for why, group in _grouped(without, _why_inconclusive).items()
        ]
        told = []
        if reasons:
            count = f"{len(without)} of {len(asked)} verdicts {_are(len(without))} inconclusive"
            told.append(f"{_capital(listed(reasons, ', and '))}: {count}.")
        fragile = [claim for claim in asked if (claim["replication"] or 1) < FRAGILE]
        if fragile:
            where = f"on {self.places(fragile, fragile)}: {len(fragile)} of {len(asked)}"
            told.append(f"Fragile, as resampled seeds often give another verdict, {where}.")
        return told

    def told(
        self,
        name: str,
        sides: Sides,
        kind: Callable[[Found], str] = lambda cell: "",
        lead: str = "",
        metric: str = "",
        margin: bool = False,
    ) -> list[str]:
        """One claim's sentence; none where nothing is judged.

        Args:
            metric: a regular expression, which finds something in what a cell measures.
        """
        cells = [
            c for c in self.cells(name, kind) if re.search(metric, c["factors"].get("metric", ""))
        ]
        return [_capital(lead + self.compared(name, sides, cells, margin))] if cells else []

    def features(self) -> Told:
        classes, scrambled = (
            Sides(
                "features make",
                f"fewer misses than {rival}",
                f"more misses than {rival}",
                f"in misses between features and {rival}",
            )
            for rival in ("classes", "the same codes scrambled")
        )

        def kind(cell: Found) -> str:
            return f"with {'mixture' if cell['factors']['s_c'] else 'point'} conditions "

        more = self.told("F2", classes, kind, RARE) + self.told("F5", scrambled, kind, RARE)
        return self.told("F1", classes, kind), more + self.reservations("F1", "F2", "F5")

    def mixtures(self) -> Told:
        sides = Sides(
            "conditions drawn from mixtures make",
            "fewer defects than fixed ones",
            "more defects than fixed ones",
            "in defects between conditions drawn from mixtures and fixed ones",
        )

        def kind(cell: Found) -> str:
            return f"for {GRANULARITIES[cell['factors']['contrast'].partition(':')[0]]} "

        return self.told("F4", sides, kind), self.reservations("F4")

    def composition(self) -> Told:
        sides = Sides(
            "asked for combinations held out of training, features make",
            "as few misses as on rare ones",
            "more misses than on rare ones",
            "in misses between combinations held out of training and rare ones",
        )
        return self.told("F3", sides, margin=True), self.reservations("F3")

    def steadiness(self) -> Told:
        """N4 without the classifier's error."""
        entropy, brier = (
            Sides(
                "NGMG trains",
                f"more steadily than {rival}",
                f"less steadily than {rival}",
                f"in steadiness between NGMG and {rival}",
            )
            for rival in ("binary cross entropy", "the Brier score")
        )
        matched = self.told("N2", entropy, lead="with signals of equal strength, ")
        more = matched + self.told("N4", brier, metric="spike_rate|variation")
        raw = self.told("N1", entropy)
        return raw + self.weaker_push(), more + self.reservations("N1", "N2", "N4")

    def weaker_push(self) -> list[str]:
        """How much of the lead of N1 in variation N2 leaves, where there is one."""
        raw, matched = (
            {
                (cell["world"], cell["regime"], *cell["factors"].values()): cell
                for claim in self.asked(name)
                for cell in ({**one, **_place(claim)} for one in claim["cells"])
                if cell["factors"]["metric"] == "variation"
            }
            for name in ("N1", "N2")
        )
        lead = [cell for cell in raw if raw[cell]["state"] == "holds" and cell in matched]
        if not lead:
            return []
        left, whole = (sum(found[cell]["estimate"] for cell in lead) for found in (matched, raw))
        gone = 1 - left / whole
        told = (
            "does not shrink" if gone <= 0
            else "is gone" if gone >= 1
            else f"shrinks, in logarithms, by {100 * gone:.0f} %"
        )  # fmt: skip
        return [
            "Once both costs send back signals of equal strength, that lead in gradient variation "
            f"{told} ([N2](#N2))."
        ]

    def quality(self) -> Told:
        sentences = []
        for rival, words in (
            ("BCE", "binary cross entropy's"),
            ("without a cost", "one without it"),
        ):
            sides = Sides(
                "a denoiser with NGMG's classifier makes",
                f"as few defects as {words}",
                f"more defects than {words}",
                f"in defects between a denoiser with NGMG's classifier and {words}",
            )
            sentences += self.told(
                "N5", sides, lead="lambda by lambda, ", metric=f"{rival}$", margin=True
            )
        errors = Sides(
            "NGMG's classifier makes",
            "fewer errors than binary cross entropy's",
            "more errors than binary cross entropy's",
            "in errors between NGMG's classifier and binary cross entropy's",
        )
        return sentences, self.told("N3", errors) + self.reservations("N5", "N3")

    def help(self) -> Told:
        alone, entropy = (
            Sides(
                "with NGMG's classifier the denoiser makes",
                f"fewer misses than with {rival}",
                f"more misses than with {rival}",
                f"in misses between NGMG's classifier and {rival}",
            )
            for rival in ("none", "binary cross entropy's")
        )
        best = "at its best lambda, "
        more = self.told("N6b", entropy, lead=f"each {best}") + self.reservations("N6a", "N6b")
        return self.told("N6a", alone, lead=best), more

    def theory(self) -> str:
        """T1 to T6, by verdict."""
        asked = self.asked(*THEORY)
        groups = []
        for verdict, group in _grouped(asked, lambda claim: claim["verdict"]).items():
            names = [claim["id"] for claim in group]
            told = listed(f"[{THEORY[name]}](#{name})" for name in names)
            label = "partly reproduced" if verdict == "partly" else verdict
            groups.append(f"{told} {_are(len(names))} {label}")
        full = sum(claim["verdict"] == "reproduced" for claim in asked)
        count = f"in full, {full} of {len(asked)}"
        return f"On exact laws, {'; '.join(groups)}: {count}."


def findings(claims: Sequence[Found]) -> list[Finding]:
    """What the objects of claims.json say; a question that none of them asks is left out."""
    found = _Findings(claims)
    told = {  # question -> the claim that answers it, and the sentences
        "Do features beat classes?": ("F1", found.features()),
        "Do mixtures help?": ("F4", found.mixtures()),
        "Do features compose?": ("F3", found.composition()),
        "Is NGMG steadier?": ("N1", found.steadiness()),
        "Is NGMG as good?": ("N5", found.quality()),
        "Does the classifier help?": ("N6a", found.help()),
    }
    sampled = [
        Finding(question, answer(found.asked(name)), " ".join(sentences), more)
        for question, (name, (sentences, more)) in told.items()
        if sentences or more
    ]
    if not (verdicts := {claim["verdict"] for claim in found.asked(*THEORY)}):
        return sampled
    part = "In part." if verdicts & {"reproduced", "partly"} else "No."
    whole = "Yes." if verdicts == {"reproduced"} else part
    return [*sampled, Finding("Does the theory hold?", whole, found.theory(), [])]


def legend(claims: Sequence[Found]) -> str:
    """What the words of the findings mean."""
    counts = sorted({claim["n_seeds"] for claim in claims if claim["world"]})
    seeds = f", each over {listed(map(str, counts), ' or ')} seeds" if counts else ""
    return (
        "Asked on *arcs*, drawn *faces* and pairs of real *digits*, *dense* (many training images "
        f"per combination of attributes) or *sparse* (few){seeds}. Differences are in percentage "
        f"points, or factors; *at most* is the far end of a {100 * LEVEL:.0f} % interval, "
        "simultaneous over a claim's settings, and *1 of 2 settings* counts those of the place "
        "named. *So far*: some verdicts are inconclusive. What is too small to count was fixed "
        "before the numbers.\n\n"
        "A condition is a fixed *point* or drawn from a Gaussian *mixture*. A *miss* shows another "
        "combination than was asked for, or is off the manifold of the data; a *defect* shows "
        "attributes that its condition does not admit, or is off the manifold. *NGMG* is a cost: "
        "minus the density of a Gaussian mixture at the difference between target and prediction; "
        "with weight *lambda* it trains a classifier of what the denoiser predicts, and the "
        "denoiser through it. A step *spikes* where its gradient's norm is far above the running "
        "median; *variation* is that norm's standard deviation over its mean."
    )
