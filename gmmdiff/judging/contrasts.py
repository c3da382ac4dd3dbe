"""What is compared: two arms of one run table, paired by seed, for every claim and its controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.evaluation import FLAT
from gmmdiff.judging.claims import Tables
from gmmdiff.judging.rule import RATIOS, Cell

OWN_UNIT = "class, own unit"  # the class arm at a scale that counts its own smallest distance
COMPOSED = 0.05  # margin of F3
VARIED = ["attributes", "n_train"]  # factors that make cells where a table has several levels
Measured = tuple[dict[str, Any], pd.DataFrame]  # a cell's factors and its values (seeds, arms)


class Contrast(NamedTuple):
    """The first of two arms against the second.

    Attributes:
        factors: what all of its cells have in common, "metric" among it.
        arms: two queries of the runs, by name.
        across: whether the arms differ in s_c; else every s_c that both have is a cell.
        margin: how much worse the first may be; None: it is claimed to be better.
    """

    factors: Mapping[str, str]
    arms: Mapping[str, str]
    across: bool = False
    margin: float | None = None

    @property
    def metric(self) -> str:
        return self.factors["metric"]

    def rows(self, runs: pd.DataFrame) -> list[pd.DataFrame]:
        """The measurements of either arm."""
        measured = runs[runs["metric"] == self.metric]
        return [measured.query(query) for query in self.arms.values()]

    def measured(self, runs: pd.DataFrame) -> Iterator[Measured]:
        """Every cell, on the seeds that both arms have; a value that is not finite counts as
        missing, as one that has no logarithm does where ratios are compared.
        """
        one, other = self.rows(runs)
        varied = [name for name in VARIED if name in one and one[name].nunique() > 1]
        on = [*varied, "seed"] if self.across else ["s_c", *varied, "seed"]
        both = one.merge(other[[*on, "value"]], on=on, suffixes=("", "_2"), validate="m:1")
        values = both[["value", "value_2"]]
        least = 0 if self.metric in RATIOS else -np.inf
        both = both[((values > least) & np.isfinite(values)).all(axis=1)]
        scales = ["s_c"] if not self.across or both["s_c"].nunique() > 1 else []
        for (_, *levels), table in both.groupby(["metric", *scales, *varied]):
            found = table.set_index("seed")[["value", "value_2"]].set_axis([*self.arms], axis=1)
            yield {**self.factors, **dict(zip([*scales, *varied], levels, strict=True))}, found

    def cell(self, factors: Mapping[str, Any], values: pd.DataFrame) -> Cell:
        """One cell of the rule."""
        arms = {name: values[name].to_numpy() for name in values}
        return Cell.between(factors, arms, margin=self.margin)


def _arms(metric: str, group: str, second: str = "class", only: str = "") -> Contrast:
    """Features against another granularity, at every scale that both have."""
    alike = f"group == '{group}' and condition != 'mean'{only}"
    arms = {arm: f"granularity == '{arm}' and {alike}" for arm in ("feature", second)}
    name = {"metric": metric, "contrast": f"feature against {second}", "group": group}
    return Contrast(name, arms)


def _mixture(metric: str, group: str, granularity: str, condition: str = "drawn") -> Contrast:
    """Mixtures against points of one granularity."""
    alike = f"granularity == '{granularity}' and group == '{group}' and condition != "
    other = {"drawn": "mean", "mean": "drawn"}[condition]
    arms = {"mixture": f"{alike}'{other}' and s_c > 0", "point": f"{alike}'mean' and s_c == 0"}
    at = "" if condition == "drawn" else " at its mean"
    name = {"metric": metric, "granularity": granularity, "contrast": f"mixture{at} against point"}
    return Contrast(name | ({} if group == "all" else {"group": group}), arms, across=True)


def _composed(metric: str, granularity: str, only: str = "") -> Contrast:
    """Held-out against rare combinations in one arm."""
    alike = f"granularity == '{granularity}' and condition != 'mean'{only}"
    arms = {group: f"{alike} and group == '{group}'" for group in ("held out", "rare")}
    name = {"metric": metric, "granularity": granularity, "contrast": "held out against rare"}
    return Contrast(name, arms, margin=COMPOSED)


def _controls(metric: str, group: str) -> list[Contrast]:
    """Classes at the scale of their own unit, and classes that could compose."""
    own = _arms(metric, group, OWN_UNIT)
    arms = {"feature": f"{own.arms['feature']} and s_c > 0", OWN_UNIT: own.arms[OWN_UNIT]}
    return [own._replace(arms=arms, across=True), _arms(metric, group, "shared")]


POINTS, ENDS, CONDITIONAL = " and s_c == 0", ("defect", "wrong"), ("class", "feature")
JUDGED: dict[str, list[Contrast]] = {  # what decides each claim
    "F1": [_arms("defect", "seen")],
    "F2": [_arms("defect", "rare")],
    "F3": [_composed(metric, "feature") for metric in ENDS],
    "F4": [_mixture("defect", "seen", arm) for arm in CONDITIONAL],
    "F5": [_arms(metric, "rare", "scrambled", POINTS) for metric in ("defect", "law")],
    "F6": [_arms("copy", "rare")],
    "F7": [_arms("law", "rare")],
    "F8": [_mixture("validation_loss", "all", arm) for arm in CONDITIONAL],
}
BESIDE: dict[str, list[Contrast]] = {  # the controls of each claim, where the runs have them
    "F1": _controls("defect", "seen"),
    "F2": _controls("defect", "rare"),
    "F3": [_composed(end, arm) for end in ENDS for arm in ("shared", "scrambled", "class")],
    "F4": [_mixture("defect", "seen", arm, "mean") for arm in CONDITIONAL],
    "F5": [_arms(metric, "seen", "scrambled", POINTS) for metric in ("defect", "law")],
    "F6": _controls("copy", "rare"),
    "F7": _controls("law", "rare"),
    "F8": [],
}


class Setting(NamedTuple):
    """One world and regime, and which claims are asked there.

    Its runs are the table of the world's name, of that regime where the table has a column for it.

    Attributes:
        longer: the table of the same arms trained much longer, where there is one.
    """

    world: str
    regime: str
    claims: Sequence[str]
    longer: str = ""

    def runs(self, tables: Tables) -> pd.DataFrame:
        """Tidy run table; class runs at a scale that no feature run has are ``OWN_UNIT``."""
        owner = f"{self.world}, {self.regime}"
        require(self.world in tables, owner, "tables", f"with one of {self.world}", list(tables))
        table = tables[self.world]
        table = table[table["regime"] == self.regime] if "regime" in table else table
        scales = table.loc[table["granularity"] == "feature", "s_c"]
        own = (table["granularity"] == "class") & ~table["s_c"].isin(scales)
        return table.assign(granularity=table["granularity"].mask(own, OWN_UNIT))

    def cells(self, claim: str, runs: pd.DataFrame) -> list[Cell]:
        """What decides a claim: its cells, on the seeds that all of them have.

        Raises:
            ValueError: where the runs lack an arm.
        """
        owner, found = f"{claim} ({self.world}, {self.regime})", []
        for contrast in JUDGED[claim]:
            for (name, query), rows in zip(contrast.arms.items(), contrast.rows(runs), strict=True):
                allowed = f"with {contrast.metric} where {query}"
                require(len(rows) > 0, f"{owner}, {name}", "runs", allowed, "none")
            found += [(contrast, *measured) for measured in contrast.measured(runs)]
        require(len(found) > 0, owner, "arms", "with seeds and scales in common", "none")
        seeds = sorted(set.intersection(*(set(values.index) for *_, values in found)))
        return [contrast.cell(factors, values.loc[seeds]) for contrast, factors, values in found]

    def controls(self, claim: str, runs: pd.DataFrame) -> list[Cell]:
        """What stands beside a claim and decides nothing, on two seeds or more."""
        return [
            contrast.cell(factors, values)
            for contrast in BESIDE[claim]
            for factors, values in contrast.measured(runs)
            if len(values) > 1
        ]

    def undertrained(self, claim: str, tables: Tables) -> bool:
        """Whether the runs that a claim compares were trained too short; no, where the runs do not
        say.

        They were, where fewer than nine in ten were trained long enough, and where on the seeds of
        ``longer`` an arm's least validation loss there lies more than ``FLAT`` below theirs: at the
        end of a decaying learning rate every loss is flat.
        """
        runs = self.runs(tables)
        run = ["granularity", "s_c", "seed", *(name for name in VARIED if name in runs)]
        compared = pd.concat(rows[run] for one in JUDGED[claim] for rows in one.rows(runs))
        compared = compared.drop_duplicates()
        long = compared.merge(runs[runs["metric"] == "long_enough"], on=run)["value"]
        if 10 * long.sum() < 9 * len(long):
            return True
        if self.longer not in tables:
            return False
        arm = ["granularity", "s_c"]
        further = tables[self.longer].query("metric == 'validation_loss'")
        least = further.groupby([*arm, "seed"])["value"].min().rename("least").reset_index()
        losses = compared.merge(runs[runs["metric"] == "validation_loss"], on=run)
        both = losses.merge(least, on=[*arm, "seed"])
        ratio = (both["least"] / both["value"]).groupby([both[name] for name in arm]).median()
        return bool((ratio < 1 - FLAT).any())


EVERY = ("F1", "F2", "F3", "F4", "F6", "F7", "F8")
SETTINGS = (
    Setting("arcs", "dense", EVERY),
    Setting("faces", "sparse", tuple(JUDGED), "story"),
    Setting("faces", "dense", ("F1", "F4", "F8")),
    Setting("digits", "sparse", EVERY),
    Setting("digits", "dense", ("F1", "F4", "F8")),
)
