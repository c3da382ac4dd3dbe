"""What claims compare: two arms of one run table, paired by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.evaluation import FLAT
from gmmdiff.judging.rule import RATIOS, Cell

LONG_ENOUGH = 0.9  # least share of the runs compared that is trained so
VARIED = ["attributes", "n_train"]  # factors that make cells where a table has several levels
RUN = ("granularity", "s_c", "cost", "signal", "lam", *VARIED, "learning_rate", "seed")


class Contrast(NamedTuple):
    """The first of two arms against the second.

    Attributes:
        factors: what all of its cells have in common, "metric" among it.
        arms: two queries of the runs, by name.
        by: columns in which the arms agree, every level of both a cell.  Without any the arms may
            differ in s_c, and every level of the first is a cell.
        margin: how much worse the first may be; None: it is claimed to be better.
        above: a query of runs, or none: there is nothing to ask unless an arm is above them.
    """

    factors: Mapping[str, Any]
    arms: Mapping[str, str]
    by: Sequence[str] = ("s_c",)
    margin: float | None = None
    above: str = ""

    @property
    def metric(self) -> str:
        return self.factors["metric"]

    def rows(self, runs: pd.DataFrame, query: str) -> pd.DataFrame:
        """The measurements of an arm."""
        return runs[runs["metric"] == self.metric].query(query)

    def values(self, runs: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        """Every cell's factors and its values (seeds, arms), on the seeds that both arms have; one
        that is not finite counts as missing, as one without a logarithm does in a ratio.
        """
        one, other = (self.rows(runs, query) for query in self.arms.values())
        varied = [name for name in VARIED if name in one and one[name].nunique() > 1]
        on = [*self.by, *varied, "seed"]
        both = one.merge(other[[*on, "value"]], on=on, suffixes=("", "_2"), validate="m:1")
        values = both[["value", "value_2"]]
        least = 0 if self.metric in RATIOS else -np.inf
        both = both[((values > least) & np.isfinite(values)).all(axis=1)]
        own = self.by or (("s_c",) if both["s_c"].nunique() > 1 else ())
        for (_, *levels), table in both.groupby(["metric", *own, *varied]):
            named = table.set_index("seed")[["value", "value_2"]].set_axis([*self.arms], axis=1)
            yield {**self.factors, **dict(zip([*own, *varied], levels, strict=True))}, named

    def cell(self, runs: pd.DataFrame, factors: Mapping[str, Any], values: pd.DataFrame) -> Cell:
        """One cell of the rule."""
        reference = None
        if self.above:
            without = self.rows(runs, self.above).set_index("seed")["value"]
            reference = without.loc[values.index].to_numpy()
        arms = {name: values[name].to_numpy() for name in values}
        return Cell(factors, arms, reference, self.margin)


def cells(owner: str, contrasts: Sequence[Contrast], runs: pd.DataFrame) -> list[Cell]:
    """What decides a claim: its cells, on the seeds that all of them have.

    Raises:
        ValueError: that names the claim, its ``owner``, where the runs lack an arm.
    """
    found = []
    for contrast in contrasts:
        for name, query in contrast.arms.items():
            some, allowed = len(contrast.rows(runs, query)), f"with {contrast.metric} where {query}"
            require(some > 0, f"{owner}, {name}", "runs", allowed, "none")
        found += [(contrast, *of_cell) for of_cell in contrast.values(runs)]
    require(len(found) > 0, owner, "arms", "with seeds and scales in common", "none")
    seeds = sorted(set.intersection(*(set(values.index) for *_, values in found)))
    return [contrast.cell(runs, factors, values.loc[seeds]) for contrast, factors, values in found]


def undertrained(
    contrasts: Sequence[Contrast], runs: pd.DataFrame, longer: pd.DataFrame | None = None
) -> bool:
    """Whether the runs compared were trained too short; no, where the runs do not say.

    They were, where fewer than nine in ten were trained long enough, and where on the seeds of
    ``longer``, the same arms trained much longer, an arm's least validation loss lies more than
    ``FLAT`` below theirs: at the end of a decaying learning rate every loss is flat.
    """
    run, arm = [name for name in RUN if name in runs], ["granularity", "s_c"]
    both = (one.rows(runs, query)[run] for one in contrasts for query in one.arms.values())
    compared = pd.concat(both).drop_duplicates()
    long = compared.merge(runs[runs["metric"] == "long_enough"], on=run)["value"]
    if long.mean() < LONG_ENOUGH:
        return True
    if longer is None:
        return False
    further = longer[longer["metric"] == "validation_loss"]
    least = further.groupby([*arm, "seed"])["value"].min().rename("least")
    losses = compared.merge(runs[runs["metric"] == "validation_loss"], on=run)
    losses = losses.merge(least, left_on=[*arm, "seed"], right_index=True)
    ratio = losses.assign(ratio=losses["least"] / losses["value"]).groupby(arm)["ratio"].median()
    return bool((ratio < 1 - FLAT).any())
