"""What is compared: differences between arms, paired by seed, and what longer training changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.claims import Tables
from gmmdiff.study.statistics import bootstrap
from gmmdiff.study.verdicts import Cell, assess


class Contrast(NamedTuple):
    """first minus second, two queries of the runs, in every cell of the factors ``by``."""

    name: str
    first: str
    second: str
    by: tuple[str, ...] = ("s_c", "n_train")

    def differences(self, runs: pd.DataFrame, *beside: str) -> pd.Series:
        """Paired by seed, with the levels ``by``, those of ``beside`` and seed; unpaired ones left
        out.
        """
        index = [*self.by, *beside, "seed"]
        one, other = (
            runs.query(query).set_index(index)["value"] for query in (self.first, self.second)
        )
        return (one - other).dropna()

    def cells(self, runs: pd.DataFrame) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Every cell's factors, the contrast among them, and its differences ``(seeds,)``."""
        for levels, values in self.differences(runs).groupby(level=list(self.by)):
            factors = dict(zip(self.by, levels, strict=True))
            yield {"contrast": self.name} | factors, values.to_numpy()


def _arms(first: str, second: str, group: str, metric: str = "miss", only: str = "") -> Contrast:
    """Two granularities, on one group of combinations."""
    alike = f"group == '{group}' and metric == '{metric}' and condition == 'drawn'{only}"
    queries = (f"granularity == '{arm}' and {alike}" for arm in (first, second))
    return Contrast(f"{first} minus {second}, {group}", *queries)


def _mixture(granularity: str, condition: str = "drawn") -> Contrast:
    """The mixture minus the point, at one granularity and on seen combinations."""
    alike = f"granularity == '{granularity}' and group == 'seen' and metric == 'defect'"
    ends = (f"s_c > 0 and condition == '{condition}'", "s_c == 0 and condition == 'drawn'")
    queries = (f"{alike} and {end}" for end in ends)
    at = "" if condition == "drawn" else " at its mean"
    return Contrast(f"{granularity}: mixture{at} minus point", *queries, ("n_train",))


FEATURE = "granularity == 'feature' and metric == 'miss' and condition == 'drawn'"
JUDGED = {  # claim -> what decides it
    "F1": [_arms("feature", "class", "seen")],
    "F2": [_arms("feature", "class", "rare")],
    "F3": [
        Contrast(
            "held out minus rare",
            f"{FEATURE} and group == 'held out'",
            f"{FEATURE} and group == 'rare'",
        )
    ],
    "F4": [_mixture(granularity) for granularity in ("coarse", "class", "feature")],
    "F5": [_arms("feature", "scrambled", "rare", only=" and s_c == 0")],
}
BESIDE = {  # claim -> controls
    "F1": [_arms("feature", "shared", "seen", only=" and s_c == 0")],
    "F2": [_arms("feature", "shared", "rare", only=" and s_c == 0")],
    "F3": [
        Contrast(
            f"{arm}: held out minus rare",
            *(
                f"granularity == '{arm}' and metric == 'miss' and s_c == 0 and group == '{group}'"
                for group in ("held out", "rare")
            ),
        )
        for arm in ("shared", "scrambled", "class")
    ],
    "F4": [_mixture(granularity, "mean") for granularity in ("coarse", "class", "feature")],
    "F5": [_arms("feature", "scrambled", "seen", only=" and s_c == 0")],
}


def control_contrasts(tables: Tables) -> pd.DataFrame:
    """What stands beside the cells of every claim, with 95 % intervals: one row each."""
    rows = [
        {"claim": claim, **factors, **_interval(claim, factors, values)}
        for claim, contrasts in BESIDE.items()
        for contrast in contrasts
        for factors, values in contrast.cells(tables["runs"])
    ]
    return pd.DataFrame(rows)


def _interval(claim: str, factors: dict[str, Any], values: np.ndarray) -> dict[str, Any]:
    rng = numpy_stream(0, f"{claim} {factors}")
    return bootstrap([values], rng)._asdict() | {"n_seeds": len(values)}


def movements(tables: Tables, claim: str, delta: Mapping[str, float]) -> list[dict[str, Any]]:
    """What twice the training changes in every cell of a claim, over the seeds of that check.

    Each with factors, estimate, low, high, delta, and whether the interval leaves 0 out.
    """
    published = tables["runs"].groupby("n_train")["steps"].max()
    cells = []
    for contrast in JUDGED[claim]:
        lengths = contrast.differences(tables["steps"], "steps").unstack("steps")
        for levels, table in lengths.groupby(level=list(contrast.by)):
            factors = {"contrast": contrast.name, **dict(zip(contrast.by, levels, strict=True))}
            steps = published[factors["n_train"]]
            moved = (table[2 * steps] - table[steps]).dropna().to_numpy()
            told = factors | {"twice": 2 * steps}
            cells.append(Cell(told, moved, delta[contrast.name]))
    intervals, _ = assess(f"{claim}, twice the training", cells)
    return [
        {"factors": cell.factors, "delta": cell.delta}
        | found._asdict()
        | {"sure": found.low * found.high > 0}
        for cell, found in zip(cells, intervals, strict=True)
    ]
