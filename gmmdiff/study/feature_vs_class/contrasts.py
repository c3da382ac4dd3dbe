"""What is compared: differences between arms, paired by seed, and what longer training changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.claims import Tables, levels
from gmmdiff.study.statistics import bootstrap
from gmmdiff.study.verdicts import Cell, assess

Factors = tuple[str, ...]
POINT = " and s_c == 0"


class Contrast(NamedTuple):
    """first minus second, two queries of the runs, in every cell of the factors ``by``."""

    name: str
    first: str
    second: str
    by: Factors

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
        for level, values in self.differences(runs).groupby(level=list(self.by)):
            factors = dict(zip(self.by, level, strict=True))
            yield {"contrast": self.name} | factors, values.to_numpy()


def _arms(by: Factors, first: str, second: str, group: str, only: str = "") -> Contrast:
    """Misses of two granularities, on one group of combinations."""
    alike = f"group == '{group}' and metric == 'miss' and condition == 'drawn'{only}"
    queries = (f"granularity == '{arm}' and {alike}" for arm in (first, second))
    return Contrast(f"{first} minus {second}, {group}", *queries, by)


def _mixture(by: Factors, granularity: str, condition: str = "drawn") -> Contrast:
    """The mixture minus the point, at one granularity and on seen combinations."""
    alike = f"granularity == '{granularity}' and group == 'seen' and metric == 'defect'"
    ends = (f"s_c > 0 and condition == '{condition}'", "s_c == 0 and condition == 'drawn'")
    queries = (f"{alike} and {end}" for end in ends)
    at = "" if condition == "drawn" else " at its mean"
    others = tuple(factor for factor in by if factor != "s_c")
    return Contrast(f"{granularity}: mixture{at} minus point", *queries, others)


def _composed(by: Factors, granularity: str, name: str, only: str = "") -> Contrast:
    """Misses of one arm, held-out minus rare combinations."""
    alike = f"granularity == '{granularity}' and metric == 'miss' and condition == 'drawn'{only}"
    return Contrast(name, *(f"{alike} and group == '{end}'" for end in ("held out", "rare")), by)


def _judged(by: Factors, mixtures: Sequence[str]) -> dict[str, list[Contrast]]:
    """What decides each claim."""
    return {
        "F1": [_arms(by, "feature", "class", "seen")],
        "F2": [_arms(by, "feature", "class", "rare")],
        "F3": [_composed(by, "feature", "held out minus rare")],
        "F4": [_mixture(by, granularity) for granularity in mixtures],
        "F5": [_arms(by, "feature", "scrambled", "rare", POINT)],
    }


def _beside(by: Factors, mixtures: Sequence[str]) -> dict[str, list[Contrast]]:
    """The controls of each claim."""
    return {
        "F1": [_arms(by, "feature", "shared", "seen", POINT)],
        "F2": [_arms(by, "feature", "shared", "rare", POINT)],
        "F3": [
            _composed(by, arm, f"{arm}: held out minus rare", POINT)
            for arm in ("shared", "scrambled", "class")
        ],
        "F4": [_mixture(by, granularity, "mean") for granularity in mixtures],
        "F5": [_arms(by, "feature", "scrambled", "seen", POINT)],
    }


class Setting:
    """One world and regime: where its runs are, and which claims are asked there.

    Attributes:
        judged, beside: claim -> what decides it, and its controls.

    Args:
        runs, lengths: names of the tables of the published runs and of other lengths.
        by: the factors that make a cell.
        claims: without rare combinations there is no F2, F3, F5, without mixtures no F4.
        mixtures: the granularities that F4 compares.
    """

    def __init__(
        self,
        world: str,
        regime: str,
        runs: str,
        lengths: str,
        by: Factors,
        claims: Sequence[str],
        mixtures: Sequence[str] = ("class", "feature"),
    ) -> None:
        self.world, self.regime, self._runs, self._lengths = world, regime, runs, lengths
        judged, beside = _judged(by, mixtures), _beside(by, mixtures)
        self.judged = {claim: judged[claim] for claim in claims}
        self.beside = {claim: beside[claim] for claim in claims}

    def _of(self, tables: Tables, name: str) -> pd.DataFrame:
        table = tables[name]
        return table[table["regime"] == self.regime] if "regime" in table else table

    def runs(self, tables: Tables) -> pd.DataFrame:
        """The published runs of this setting."""
        return self._of(tables, self._runs)

    def lengths(self, tables: Tables) -> pd.DataFrame:
        """The same arms at every length of training, on fewer seeds."""
        return self._of(tables, self._lengths)


ARCS = Setting(
    "arcs",
    "dense",
    "runs",
    "steps",
    ("s_c", "n_train"),
    ("F1", "F2", "F3", "F4", "F5"),
    ("coarse", "class", "feature"),
)
FACES, DIGITS = ("attributes", "s_c", "n_train"), ("s_c", "n_train")
SETTINGS = (
    ARCS,
    Setting("faces", "dense", "faces", "faces_steps", FACES, ("F1",)),
    Setting("faces", "sparse", "faces", "faces_steps", FACES, ("F1", "F2", "F3", "F4", "F5")),
    Setting("digits", "dense", "digits", "digits_steps", DIGITS, ("F1", "F4")),
    Setting("digits", "sparse", "digits", "digits_steps", DIGITS, ("F1", "F2", "F3", "F4")),
)


def control_contrasts(tables: Tables, setting: Setting) -> pd.DataFrame:
    """What stands beside the cells of every claim, with 95 % intervals: one row each."""
    runs = setting.runs(tables)
    rows = [
        {"claim": claim, "name": _name(factors), **_interval(claim, factors, values)}
        | {"contrast": contrast.name}
        for claim, contrasts in setting.beside.items()
        for contrast in contrasts
        for factors, values in contrast.cells(runs)
        if len(values) > 1
    ]
    return pd.DataFrame(rows)


def _name(factors: Mapping[str, Any]) -> str:
    return f"{factors['contrast']}, {levels(factors)}"


def _interval(claim: str, factors: dict[str, Any], values: np.ndarray) -> dict[str, Any]:
    rng = numpy_stream(0, f"{claim} {factors}")
    return bootstrap([values], rng)._asdict() | {"n_seeds": len(values)}


def movements(
    tables: Tables, setting: Setting, claim: str, delta: Mapping[str, float]
) -> list[dict[str, Any]]:
    """What twice the training changes in every cell of a claim, over the seeds of that check.

    Each with factors, estimate, low, high, delta, and whether the interval leaves 0 out.
    """
    runs, cells = setting.runs(tables), []
    for contrast in setting.judged[claim]:
        where = [factor for factor in contrast.by if factor != "s_c"]
        published = runs.groupby(where)["steps"].max()
        differences = contrast.differences(setting.lengths(tables), "steps").unstack("steps")
        for level, table in differences.groupby(level=list(contrast.by)):
            factors = {"contrast": contrast.name, **dict(zip(contrast.by, level, strict=True))}
            at = tuple(factors[factor] for factor in where)
            steps = published[at if len(at) > 1 else at[0]]
            moved = (table[2 * steps] - table[steps]).dropna().to_numpy()
            cells.append(Cell(factors | {"twice": 2 * steps}, moved, delta[contrast.name]))
    intervals, _ = assess(f"{claim}, twice the training", cells)
    return [
        {"factors": cell.factors, "delta": cell.delta}
        | found._asdict()
        | {"sure": found.low * found.high > 0}
        for cell, found in zip(cells, intervals, strict=True)
    ]
