"""The rule by which a sampled claim is judged, written down before the numbers.

A claim says that a difference, paired by seed, lies below 0.  It has a smallest difference that
matters, delta, one for each metric everywhere, and *cells*, one setting of the factors each.  A
cell's interval alone decides its state, by a region of practical equivalence (Kruschke 2018, doi
10.1177/2515245918771304); the states decide the verdict; and the share of resamples of the seeds
that give the same verdict says how much of it is luck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from gmmdiff.core.checks import require
from gmmdiff.core.statistics import Interval, iqm, iqm_weights, percentile_ends, weighted_iqm
from gmmdiff.core.streams import numpy_stream

State = Literal["holds", "leans", "negligible", "undecided", "leans against", "reversed"]
Verdict = Literal["reproduced", "partly", "no effect", "reversed", "mixed", "inconclusive"]
DELTA = {  # by metric: a share, or the logarithm of a factor
    **dict.fromkeys(("defect", "wrong", "malformed", "copy", "error"), 0.02),
    "spike_rate": 0.01,
    **dict.fromkeys(("law", "variation"), float(np.log(1.1))),
    "validation_loss": float(np.log(1.02)),
}
RATIOS = {"law", "variation", "validation_loss"}  # metrics whose difference is one of logarithms
ENOUGH_SEEDS = 20  # for a verdict
LEVEL = 0.95  # of a claim's intervals together
RESAMPLES = 10_000  # of an interval
REPLICATES, INNER = 2_000, 2_000  # resamples of the seeds, and of an interval in each
PORTIONS = 100  # of the replicates, each with inner resamples of its own: their errors average out
FRAGILE = 0.9  # a verdict that fewer replicates give is called so


def state(low: float, high: float, delta: float, margin: bool = False) -> State:
    """What an interval says of a difference claimed to lie below 0, or below delta (``margin``)."""
    if high < (delta if margin else -delta):
        return "holds"
    if low > delta:
        return "reversed"
    if margin:
        return "undecided"
    if -delta <= low and high <= delta:
        return "negligible"
    if high < 0:
        return "leans"
    return "leans against" if low > 0 else "undecided"


def verdict(states: Sequence[State | None]) -> Verdict:
    """What the states of a claim's cells say of it; None is a cell with nothing to ask."""
    found = set(states) - {None}
    if found == {"holds"}:
        return "reproduced"
    if found == {"negligible"}:
        return "no effect"
    against = found & {"reversed", "leans against"}
    if against:
        return "reversed" if against == found else "mixed"
    return "partly" if found & {"holds", "leans"} else "inconclusive"


@dataclass(frozen=True)
class Cell:
    """One setting of the factors, and what was measured there.

    Args:
        factors: what tells the cell from the claim's others.
        difference: ``(seeds,)``, paired; the claim says that it lies below 0.
        delta: > 0, smallest difference that matters.
        above: differences ``(seeds,)`` of which one must lie above delta, or there is nothing to
            ask in this cell; none: the cell is always judged.
        margin: whether the claim says no more than that the difference lies below delta.
        arms: by name, the values ``(seeds,)`` of the arms compared, in their own units.

    Raises:
        ValueError: on delta <= 0, fewer than two seeds, or arrays of other sizes.
    """

    factors: Mapping[str, Any]
    difference: np.ndarray
    delta: float
    above: Sequence[np.ndarray] = ()
    margin: bool = False
    arms: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"cell {', '.join(f'{name} {level}' for name, level in self.factors.items())}"
        require(0 < self.delta < np.inf, where, "delta", "> 0", self.delta)
        require(len(self.difference) >= 2, where, "seeds", "at least 2", len(self.difference))
        sizes = {len(values) for values in (self.difference, *self.above, *self.arms.values())}
        require(len(sizes) == 1, where, "seeds", "alike in all differences", sorted(sizes))

    @classmethod
    def between(
        cls,
        factors: Mapping[str, Any],
        arms: Mapping[str, np.ndarray],
        above: Sequence[np.ndarray] = (),
        margin: float | None = None,
    ) -> Cell:
        """The first of two arms minus the second, or the logarithm of their ratio, as the metric
        asks.

        Args:
            factors: "metric" among them, one of ``DELTA``.
            arms: two, the values ``(seeds,)`` of the same seeds by name.
            margin: the claim says that the difference lies below it; None: that it lies below 0,
                with the metric's delta.
        """
        metric = factors["metric"]
        require(metric in DELTA, "cell", "metric", f"one of {', '.join(DELTA)}", metric)
        first, second = map(np.log, arms.values()) if metric in RATIOS else arms.values()
        delta = DELTA[metric] if margin is None else margin
        return cls(factors, first - second, delta, above, margin is not None, arms)


class Ruling(NamedTuple):
    """What the rule says of one claim."""

    verdict: Verdict
    intervals: list[Interval]  # one a cell
    states: list[State | None]  # None: nothing to ask in this cell
    replication: float  # share of the replicates that give the same verdict
    rival: Verdict | None  # the most frequent other one of a fragile verdict


def _states(
    cells: Sequence[Cell], chosen: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals ``(cells, 2, n)`` and states ``(cells, n)`` on choices of seeds ``(n, seeds)``.

    The intervals are simultaneous over the cells (Bonferroni).
    """
    level, ends, states = 1 - (1 - LEVEL) / len(cells), [], []
    for cell in cells:
        low, high = percentile_ends(weighted_iqm(cell.difference[chosen], weights), level)
        found = np.array(
            [state(*pair, cell.delta, cell.margin) for pair in zip(low, high, strict=True)], object
        )
        if cell.above:
            resampled = [weighted_iqm(values[chosen], weights) for values in cell.above]
            lowest = [percentile_ends(values, level)[0] for values in resampled]
            found[(np.array(lowest) <= cell.delta).all(0)] = None
        ends.append((low, high))
        states.append(found)
    return np.array(ends), np.array(states)


def assess(claim: str, cells: Sequence[Cell]) -> tuple[list[Interval], list[State | None]]:
    """Every cell's interval, simultaneous over the cells, and its state.

    Raises:
        ValueError: without a cell, or on cells of unequal seeds.
    """
    require(len(cells) > 0, claim, "cells", "at least one", "none")
    sizes = sorted({len(cell.difference) for cell in cells})
    require(len(sizes) == 1, claim, "seeds of its cells", "as many in each", sizes)
    weights = iqm_weights(sizes[0], RESAMPLES, numpy_stream(0, f"{claim}: intervals"))
    ends, states = _states(cells, np.arange(sizes[0])[None], weights)
    intervals = [
        Interval(_iqm(cell.difference), float(low[0]), float(high[0]))
        for cell, (low, high) in zip(cells, ends, strict=True)
    ]
    return intervals, states[:, 0].tolist()


def _iqm(values: np.ndarray) -> float:
    return float(iqm([values]))


@cache
def _level_weights(seeds: int, resamples: int) -> np.ndarray:
    return iqm_weights(seeds, resamples, numpy_stream(0, "levels"))


def level(values: np.ndarray) -> Interval:
    """An arm's own level: IQM and 95 % bootstrap interval over seeds ``(n,)``, n >= 2."""
    weights = _level_weights(len(values), RESAMPLES)
    low, high = percentile_ends(weighted_iqm(values, weights), LEVEL)
    return Interval(_iqm(values), float(low), float(high))


def rule(claim: str, cells: Sequence[Cell]) -> Ruling:
    """The rule on a claim's cells in one world and regime, all of the same seeds.

    A replicate resamples the seeds, the same ones for all cells and arms, and goes through the
    whole rule, with ``INNER`` resamples in place of ``RESAMPLES``.

    Args:
        claim: its name, which owns the random streams.

    Raises:
        ValueError: as ``assess``.
    """
    intervals, states = assess(claim, cells)
    found = verdict(states)
    seeds, rng = len(cells[0].difference), numpy_stream(0, f"{claim}: replication")
    tally: Counter[Verdict] = Counter()
    for chosen in np.array_split(rng.integers(0, seeds, (REPLICATES, seeds)), PORTIONS):
        others = _states(cells, chosen, iqm_weights(seeds, INNER, rng))[1]
        tally.update(map(verdict, others.T))
    share = tally.pop(found, 0) / REPLICATES
    rival = tally.most_common(1)[0][0] if share < FRAGILE else None
    enough = seeds >= ENOUGH_SEEDS
    return Ruling(found if enough else "inconclusive", intervals, states, share, rival)
