"""The rule by which a sampled claim is judged, written down before the numbers.

A claim says that a difference, paired by seed, lies below 0.  It has a smallest effect that
matters, delta, and *cells*, one setting of the factors each.  A cell's interval alone decides its
state, by a region of practical equivalence (Kruschke 2018, doi 10.1177/2515245918771304); the
states decide the verdict; and the share of resamples of the seeds that give the same verdict says
how much of it is luck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from gmmdiff.core.checks import require
from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.statistics import Interval, resample_counts, weighted_iqm

State = Literal["holds", "negligible", "reversed", "undecided"]
Verdict = Literal["reproduced", "partly", "no effect", "reversed", "mixed", "inconclusive"]
ENOUGH_SEEDS = 20  # for a verdict
LEVEL = 0.95  # of a claim's intervals together
RESAMPLES = 10_000  # of an interval
REPLICATES, INNER = 2_000, 2_000  # resamples of the seeds, and of an interval in each
PORTIONS = 100  # of the replicates, each with inner resamples of its own: their errors average out
FRAGILE = 0.9  # a verdict that fewer replicates give is called so


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

    Raises:
        ValueError: on delta <= 0, fewer than two seeds, or arrays of other sizes.
    """

    factors: Mapping[str, Any]
    difference: np.ndarray
    delta: float
    above: Sequence[np.ndarray] = ()
    margin: bool = False

    def __post_init__(self) -> None:
        where = f"cell {', '.join(f'{name} {level}' for name, level in self.factors.items())}"
        require(0 < self.delta < np.inf, where, "delta", "> 0", self.delta)
        require(len(self.difference) >= 2, where, "seeds", "at least 2", len(self.difference))
        sizes = {len(values) for values in (self.difference, *self.above)}
        require(len(sizes) == 1, where, "seeds", "alike in all differences", sorted(sizes))


def smallest_effect(share: float) -> float:
    """delta of a share: the larger of 0.2 percentage points and a quarter of the rival's share.

    Args:
        share: in [0, 1], from a pilot on other seeds.
    """
    return max(0.002, share / 4)


def state(low: float, high: float, delta: float, margin: bool = False) -> State:
    """What an interval says of a difference claimed to lie below 0, or below delta (``margin``)."""
    if high < (delta if margin else -delta):
        return "holds"
    if low > delta:
        return "reversed"
    if not margin and -delta <= low and high <= delta:
        return "negligible"
    return "undecided"


def verdict(states: Sequence[State]) -> Verdict:
    """What the states of a claim's cells say of it; without a judged cell, inconclusive."""
    found = set(states)
    if found == {"holds"}:
        return "reproduced"
    if found == {"negligible"}:
        return "no effect"
    if found == {"reversed"}:
        return "reversed"
    if "reversed" in found:
        return "mixed"
    return "partly" if "holds" in found else "inconclusive"


class Ruling(NamedTuple):
    """What the rule says of one claim."""

    verdict: Verdict
    intervals: list[Interval]  # one a cell
    states: list[State | None]  # None: nothing to ask in this cell
    replication: float  # share of the replicates that give the same verdict
    rival: Verdict | None  # the most frequent other one of a fragile verdict


def _intervals(differences: np.ndarray, counts: np.ndarray, tail: float) -> np.ndarray:
    """Ends of the bootstrap intervals of the IQM: ``(..., seeds)`` -> ``(2, ...)``."""
    return np.quantile(weighted_iqm(differences, counts), [tail, 1 - tail], axis=-1)


def _states(
    cells: Sequence[Cell], chosen: np.ndarray, counts: np.ndarray, tail: float
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals ``(cells, 2, n)`` and states ``(cells, n)`` on choices of seeds ``(n, seeds)``."""
    ends, states = [], []
    for cell in cells:
        low, high = _intervals(cell.difference[chosen], counts, tail)
        found = np.array(
            [state(*pair, cell.delta, cell.margin) for pair in zip(low, high, strict=True)], object
        )
        if cell.above:
            lowest = [_intervals(values[chosen], counts, tail)[0] for values in cell.above]
            found[(np.array(lowest) <= cell.delta).all(0)] = None
        ends.append((low, high))
        states.append(found)
    return np.array(ends), np.array(states)


def assess(claim: str, cells: Sequence[Cell]) -> tuple[list[Interval], list[State | None]]:
    """Every cell's interval, simultaneous over the cells (Bonferroni), and its state.

    Raises:
        ValueError: without a cell, or on cells of unequal seeds.
    """
    require(len(cells) > 0, claim, "cells", "at least one", "none")
    sizes = sorted({len(cell.difference) for cell in cells})
    require(len(sizes) == 1, claim, "seeds of its cells", "as many in each", sizes)
    counts = resample_counts(sizes[0], RESAMPLES, numpy_stream(0, f"{claim}: intervals"))
    ends, states = _states(cells, np.arange(sizes[0])[None], counts, _tail(cells))
    once = np.ones((1, sizes[0]))
    intervals = [
        Interval(float(weighted_iqm(cell.difference, once)[0]), float(low[0]), float(high[0]))
        for cell, (low, high) in zip(cells, ends, strict=True)
    ]
    return intervals, states[:, 0].tolist()


def _tail(cells: Sequence[Cell]) -> float:
    return (1 - LEVEL) / len(cells) / 2


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
    found = verdict([one for one in states if one is not None])
    seeds, rng = len(cells[0].difference), numpy_stream(0, f"{claim}: replication")
    chosen = rng.integers(0, seeds, (REPLICATES, seeds))
    tally: Counter[Verdict] = Counter()
    for part in np.array_split(chosen, PORTIONS):
        others = _states(cells, part, resample_counts(seeds, INNER, rng), _tail(cells))[1]
        tally.update(verdict([one for one in column if one is not None]) for column in others.T)
    share = tally.pop(found, 0) / REPLICATES
    rival = tally.most_common(1)[0][0] if share < FRAGILE else None
    enough = seeds >= ENOUGH_SEEDS
    return Ruling(found if enough else "inconclusive", intervals, states, share, rival)
