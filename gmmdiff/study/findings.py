"""What was found, in plain words: no sentence holds an outcome, the numbers of claims.json give it.

A sampled claim is told by its cells: where it holds and by how much, where the opposite is true,
and at most how far apart the two sides lie in the rest.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
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
WITHIN = {"F3", "N5"}  # claims that one side is no worse
RARE = "on rare combinations, "
UNITS = {  # of what a cell measures, where it is no share of samples
    "variation": "a factor of {} in gradient variation",
    "spike_rate": "{} points of steps that spike",
}
REST = {"negligible": "too small to count", "undecided": "undecided"}
FACTORS: dict[str, Callable[[float], str]] = {  # of a cell, as they are read
    "s_c": lambda level: f"mixtures of scale {level:g}" if level else "points",
    "attributes": lambda level: f"{level:g} attributes",
    "n_train": lambda level: f"{level:,g} training samples",
    "lam": lambda level: f"lambda {level:g}",
    "rival_lam": lambda level: f"the rival's lambda {level:g}",
    "learning_rate": lambda level: f"learning rate {level:g}",
    "label_noise": lambda level: f"{100 * level:g} % of the labels flipped",
}


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
    """Estimates: "by 6.0 to 45 points"."""
    return f"by {_sizes(cells, _range, 'estimate')}"


def farthest(cells: Sequence[Found]) -> str:
    """The farthest end of their intervals: "1.0 points"."""
    return _sizes(cells, lambda sizes: number(max(sizes)), "low", "high")


def would_count(cells: Sequence[Found]) -> str:
    """Their deltas, beside ``farthest``: "where 0.20 to 1.3 points would count"."""
    return f"where {_sizes(cells, _range, 'delta')} would count"


def to_within(cells: Sequence[Found]) -> str:
    """How much worse one side may be, by the highest end of their intervals, 0 where all lie below
    it: "to within 0.28 points, where 0.63 points would count".
    """
    ends = [{**cell, "low": 0.0, "high": max(cell["high"], 0.0)} for cell in cells]
    return f"to within {farthest(ends)}, {would_count(cells)}"


def _apart(here: Sequence[Found], there: Sequence[Found]) -> str:
    """What sets some cells of a place apart: the one factor whose levels the others do not share,
    or else how many they are: " (lambda 10 and lambda 30)", " (3 of 4 settings)".
    """
    others = [cell for cell in there if cell not in here]
    for name, told in FACTORS.items() if others else ():
        levels, rest = ({cell["factors"].get(name) for cell in cells} for cells in (here, others))
        if not levels & rest:
            return f" ({listed(told(level) for level in sorted(levels))})"
    return f" ({len(here)} of {len(there)} settings)" if others else ""


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


def answer(claims: Sequence[Found], within: bool = False) -> str:
    """The states of a sampled claim's cells in a few words: "Yes and no, so far."; so far while a
    verdict is inconclusive.

    Args:
        within: whether it says that one side is no worse, rather than better.
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
        part = states - {"reversed"}
        if within:
            told = "Not everywhere" if part else "No"
        else:
            told = "No, in part the opposite" if part else "No, the opposite"
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
        """Where items are, and which of those asked there: "digits, arcs (lambda 10) and sparse
        faces".

        A regime is named where its world has another that is not told alike.
        """
        whole, parts = [], []
        for world, group in _grouped(items, lambda item: item["world"]).items():
            counts = {}
            for regime, here in _grouped(group, lambda item: item["regime"]).items():
                there = [one for one in among if (one["world"], one["regime"]) == (world, regime)]
                counts[regime] = _apart(here, there)
            if set(counts) == self.regimes[world] and len(set(counts.values())) == 1:
                whole.append(world + next(iter(counts.values())))
            else:
                parts += [f"{regime} {world}{part}" for regime, part in counts.items()]
        return listed(whole + parts)

    def compared(self, name: str, sides: Sides, cells: Sequence[Found]) -> str:
        """One claim's cells in a sentence that ends in its number and the link.

        Where the claim is that one side is no worse, a cell holds also where it may be worse by
        less than delta; what is better by delta is told apart from that.
        """
        parts = []
        holds, above = (
            [c for c in cells if c["state"] == state] for state in ("holds", "reversed")
        )
        below = [cell for cell in holds if cell["high"] < -cell["delta"]]
        for words, chosen, size in (
            (sides.below.replace("no more", "fewer"), below, by),
            (sides.below, [cell for cell in holds if cell not in below], to_within),
            (sides.above, above, by),
        ):
            where = []
            for kind, among in _grouped(cells, lambda cell: cell["kind"]).items():
                here = [cell for cell in among if cell in chosen]
                # What may be worse is told beside the one delta that it stays below.
                alike = _grouped(here, itemgetter("delta" if size is to_within else "state"))
                where += [f"{kind}on {self.places(c, among)}, {size(c)}" for c in alike.values()]
            if where:
                first = f"{sides.subject} {words}"
                told = words.partition(" than ")[0] if parts else first
                parts.append(f"{told} {listed(where, ', and ')}")
        if rest := [cell for cell in cells if cell["state"] in REST]:
            groups = _grouped(rest, lambda cell: cell["state"])
            sizes = [
                f"{words}, at most {farthest(groups[state])}"
                for state, words in REST.items()
                if state in groups
            ]
            whose = "elsewhere the difference" if parts else f"the difference {sides.between}"
            parts.append(f"{whose} is {listed(sizes, ', or ')}, {would_count(rest)}")
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
    ) -> list[str]:
        """One claim's sentence; none where nothing is judged.

        Args:
            metric: a regular expression, which finds something in what a cell measures.
        """
        cells = [
            c for c in self.cells(name, kind) if re.search(metric, c["factors"].get("metric", ""))
        ]
        return [_capital(lead + self.compared(name, sides, cells))] if cells else []

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
            "no more misses than on rare ones",
            "more misses than on rare ones",
            "in misses between combinations held out of training and rare ones",
        )
        return self.told("F3", sides), self.reservations("F3")

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
        left, whole = (math.exp(-total / len(lead)) for total in (left, whole))
        told = (
            "is gone" if left <= 1 else f"{'shrinks' if left < whole else 'grows'}, as a geometric "
            f"mean, from a factor of {number(whole)} to one of {number(left)}"
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
                f"no more defects than {words}",
                f"more defects than {words}",
                f"in defects between a denoiser with NGMG's classifier and {words}",
            )
            sentences += self.told("N5", sides, lead="lambda by lambda, ", metric=f"{rival}$")
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


def _overall(claims: Sequence[Found]) -> str:
    """Whether claims hold, by their verdicts."""
    verdicts = {claim["verdict"] for claim in claims}
    part = "In part." if verdicts & {"reproduced", "partly"} else "No."
    return "Yes." if verdicts == {"reproduced"} else part


def _all_in_all(claims: Sequence[Found]) -> Finding:
    """How many verdicts of which kind."""
    counts = Counter(claim["verdict"] for claim in claims).most_common()
    told = listed(f"{count} {verdict}" for verdict, count in counts)
    names = len({claim["id"] for claim in claims})
    asked = f"{names} claim{'s' if names > 1 else ''}, asked in one place or several"
    sentence = f"The {len(claims)} verdicts on {asked}: {told}."
    return Finding("Does the paper hold?", _overall(claims), sentence, [])


def findings(claims: Sequence[Found]) -> list[Finding]:
    """What the objects of claims.json say, first all in all; a question that none of them asks is
    left out.
    """
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
        Finding(question, answer(found.asked(name), name in WITHIN), " ".join(sentences), more)
        for question, (name, (sentences, more)) in told.items()
        if sentences or more
    ]
    exact = found.asked(*THEORY)
    theory = [Finding("Does the theory hold?", _overall(exact), found.theory(), [])]
    overall = [_all_in_all(claims)] if claims else []
    return [*overall, *sampled, *(theory if exact else [])]


def legend(claims: Sequence[Found]) -> str:
    """What the words of the findings mean."""
    sampled = [claim for claim in claims if claim["world"]]
    counts = sorted({claim["n_seeds"] for claim in sampled})
    seeds = f", each over {listed(map(str, counts), ' or ')} seeds" if counts else ""
    without = [claim for claim in sampled if claim["verdict"] == "inconclusive"]
    reasons = [f"{why} ({len(ones)})" for why, ones in _grouped(without, _why_inconclusive).items()]
    so_far = f" *So far*: verdicts are inconclusive, as {listed(reasons)}." if reasons else ""
    return (
        "Asked on *arcs*, drawn *faces* and pairs of real *digits*, *dense* (many training samples "
        f"per combination of attributes) or *sparse* (few){seeds}. Differences are in percentage "
        f"points, or factors; *at most* and *to within* is the far end of a {100 * LEVEL:.0f} % "
        "interval, simultaneous over all settings of a claim in a place; a *setting* is a size of "
        f"the data, a scale, a learning rate, a lambda.{so_far} What would count was fixed before "
        "the numbers.\n\n"
        "A condition is a fixed *point* or drawn from a Gaussian *mixture*. A *miss* shows another "
        "combination than was asked for, or is off the manifold of the data; a *defect* shows "
        "attributes that its condition does not admit, or is off the manifold. *NGMG* is a cost: "
        "minus the density of a Gaussian mixture at the difference between target and prediction. "
        "With weight *lambda* it is the loss of a classifier that reads what the denoiser "
        "predicts, and trains both. A step *spikes* where its gradient's norm is far above the "
        "running median; *variation* is that norm's standard deviation over its mean."
    )
