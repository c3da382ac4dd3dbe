"""The rule by which a sampled claim is judged, written down before the numbers.

A claim says that in each of its *cells*, one setting of the factors each, a difference paired by
seed lies below 0.  A cell's interval alone decides its state, by a region of practical equivalence
of half width delta (Kruschke 2018, doi 10.1177/2515245918771304), the states decide the verdict,
and the share of resamples of the seeds that give the same verdict says how much of it is luck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from gmmdiff.core.checks import require
from gmmdiff.core.statistics import Interval, iqm, iqm_weights, percentile_ends, weighted_iqm
from gmmdiff.core.streams import numpy_stream

State = Literal[
    "holds", "leans", "negligible", "undecided", "leans against", "reversed", "not judged"
]
Verdict = Literal["reproduced", "partly", "no effect", "reversed", "mixed", "inconclusive"]
DELTA = {  # smallest difference that matters, by metric: a share, or the logarithm of a factor
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


def verdict(states: Iterable[State]) -> Verdict:
    """What the states of a claim's cells say of it."""
    found = set(states) - {"not judged"}
    if found == {"holds"}:
        return "reproduced"
    if found == {"negligible"}:
        return "no effect"
    if against := found & {"reversed", "leans against"}:
        return "reversed" if against == found else "mixed"
    return "partly" if found & {"holds", "leans"} else "inconclusive"


@dataclass(frozen=True)
class Cell:
    """Two arms in one setting of the factors, on the same seeds.

    Args:
        factors: what tells the cell from the claim's others, "metric" of ``DELTA`` among it.
        arms: by name, values ``(seeds,)`` in their own units; the claim is that the first is less.
        reference: values ``(seeds,)``: there is nothing to ask unless an arm is above by delta.
        margin: how much more the first may be; None: it is claimed to be less.

    Raises:
        ValueError: on fewer than two seeds.
    """

    factors: Mapping[str, Any]
    arms: Mapping[str, np.ndarray]
    reference: np.ndarray | None = None
    margin: float | None = None

    def __post_init__(self) -> None:
        where = f"cell {', '.join(f'{name} {level}' for name, level in self.factors.items())}"
        seeds = len(next(iter(self.arms.values())))
        require(seeds >= 2, where, "seeds", "at least 2", seeds)

    @property
    def delta(self) -> float:
        """The smallest difference that matters, or the margin."""
        return DELTA[self.factors["metric"]] if self.margin is None else self.margin

    def minus(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Differences, or logarithms of ratios, as the metric asks."""
        if self.factors["metric"] in RATIOS:
            return np.log(first) - np.log(second)
        return first - second

    @cached_property
    def difference(self) -> np.ndarray:
        """First arm minus second, ``(seeds,)``."""
        return self.minus(*self.arms.values())


class Assessed(NamedTuple):
    """A cell with its interval and what that says, as claims.json holds it."""

    factors: dict[str, Any]
    estimate: float
    low: float
    high: float
    delta: float
    state: State
    margin: bool  # whether delta is one
    levels: list[dict[str, Any]]  # of both arms: arm, estimate, low, high


class Ruling(NamedTuple):
    """What the rule says of one claim."""

    verdict: Verdict
    cells: list[Assessed]
    replication: float  # share of the replicates that give the same verdict
    rival: Verdict | None  # the most frequent other one of a fragile verdict


def _states(
    cells: Sequence[Cell], chosen: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals ``(cells, 2, n)``, simultaneous over the cells (Bonferroni), and states ``(cells,
    n)`` on choices of seeds ``(n, seeds)``.
    """
    level, ends, states = 1 - (1 - LEVEL) / len(cells), [], []

    def interval(values: np.ndarray) -> np.ndarray:
        return percentile_ends(weighted_iqm(values[chosen], weights), level)

    for cell in cells:
        ends.append(interval(cell.difference))
        margin = cell.margin is not None
        found = [state(*pair, cell.delta, margin) for pair in ends[-1].T]
        if cell.reference is not None:
            above = (interval(cell.minus(arm, cell.reference))[0] for arm in cell.arms.values())
            asked = np.any([low > cell.delta for low in above], axis=0)
            found = np.where(asked, found, "not judged")
        states.append(found)
    return np.array(ends), np.array(states)


def assess(claim: str, cells: Sequence[Cell]) -> list[Assessed]:
    """Every cell with its interval, simultaneous over the cells, and its state.

    Args:
        claim: a name, which owns the random streams.
        cells: one or more, all of the same seeds.
    """
    seeds = len(cells[0].difference)
    weights = iqm_weights(seeds, RESAMPLES, numpy_stream(0, f"{claim}: intervals"))
    ends, states = _states(cells, np.arange(seeds)[None], weights)
    found = []
    for cell, interval, state in zip(cells, ends[..., 0].tolist(), states[:, 0], strict=True):
        levels = [{"arm": arm, **level(own)._asdict()} for arm, own in cell.arms.items()]
        own = dict(cell.factors), float(iqm([cell.difference])), *interval, cell.delta
        found.append(Assessed(*own, str(state), cell.margin is not None, levels))
    return found


@cache
def _level_weights(seeds: int, resamples: int) -> np.ndarray:
    return iqm_weights(seeds, resamples, numpy_stream(0, "levels"))


def level(values: np.ndarray) -> Interval:
    """An arm's own level: IQM and 95 % bootstrap interval over seeds ``(n,)``, n >= 2."""
    resampled = weighted_iqm(values, _level_weights(len(values), RESAMPLES))
    return Interval(float(iqm([values])), *percentile_ends(resampled, LEVEL).tolist())


def rule(claim: str, cells: Sequence[Cell]) -> Ruling:
    """The rule on a claim's cells in one world and regime, as for ``assess``.

    A replicate resamples the seeds, the same ones for all cells and arms, and goes through the
    whole rule, with ``INNER`` resamples in place of ``RESAMPLES``.
    """
    assessed, seeds = assess(claim, cells), len(cells[0].difference)
    found = verdict(cell.state for cell in assessed)
    rng, tally = numpy_stream(0, f"{claim}: replication"), Counter[Verdict]()
    for chosen in np.array_split(rng.integers(0, seeds, (REPLICATES, seeds)), PORTIONS):
        others = _states(cells, chosen, iqm_weights(seeds, INNER, rng))[1]
        tally.update(map(verdict, others.T))
    share = tally.pop(found, 0) / REPLICATES
    rival = tally.most_common(1)[0][0] if share < FRAGILE else None
    told = found if seeds >= ENOUGH_SEEDS else "inconclusive"
    return Ruling(told, assessed, share, rival)
