"""What is compared: paired differences between arms, and what longer training changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from gmmdiff.study.claims import Tables
from gmmdiff.study.statistics import holm, paired_by_seed

FEATURE_CLAIMS = {  # claim -> (first arm, second arm, group); first minus second, paired by seed
    "F1": ("feature", "class", "seen"),
    "F2": ("feature", "class", "rare"),
    "F3": ("feature", "class", "held out"),
}
PARTS = ("off_manifold", "wrong_attributes")  # of a defect


def feature_contrasts(tables: Tables) -> pd.DataFrame:
    """The contrasts of F1 to F4, one row each, with Holm's correction within each claim.

    ``judged`` marks those that decide; the others are controls: the same contrast for point
    conditions (s_c = 0), and for the two parts of a defect.
    """
    runs = tables["runs"]
    mixture = runs.loc[runs["granularity"] != "real", "s_c"].max()
    found = pd.DataFrame(
        [*_feature_minus_class(runs, mixture), *_mixture_minus_point(runs, mixture)]
    )
    families = found[found["judged"]].groupby("claim")["p_value"]
    return found.assign(corrected=families.transform(lambda p: holm(p.to_numpy())))


def _feature_minus_class(runs: pd.DataFrame, mixture: float) -> Iterator[dict[str, Any]]:
    """F1 to F3: one row a claim, kind of condition or part of a defect, and n_train."""
    kinds = [(mixture, "defect"), (0.0, "defect"), *((mixture, part) for part in PARTS)]
    for claim, (first, second, group) in FEATURE_CLAIMS.items():
        arms = f"granularity == '{first}'", f"granularity == '{second}'"
        mine = runs[runs["group"] == group]
        for s_c, metric in kinds:
            labels = {"claim": claim, "arm": f"{first} - {second}", "metric": metric, "s_c": s_c}
            part = mine[(mine["metric"] == metric) & (mine["s_c"] == s_c)]
            for n_train, table in part.groupby("n_train"):
                contrast = paired_by_seed(table, *arms, **labels, n_train=n_train)
                yield contrast | {"judged": s_c == mixture and metric == "defect"}


def _mixture_minus_point(runs: pd.DataFrame, mixture: float) -> Iterator[dict[str, Any]]:
    """F4: one row a granularity and n_train."""
    part = runs[(runs["group"] == "seen") & (runs["metric"] == "defect")]
    for granularity in ("feature", "class", "coarse"):
        arm = f"{granularity}: mixture - point"
        labels = {"claim": "F4", "arm": arm, "metric": "defect", "s_c": mixture}
        for n_train, table in part[part["granularity"] == granularity].groupby("n_train"):
            arms = f"s_c == {mixture}", "s_c == 0"
            yield paired_by_seed(table, *arms, **labels, n_train=n_train) | {"judged": True}


def length_contrasts(tables: Tables) -> pd.DataFrame:
    """What the longest training changes: one row an arm, seen combinations, paired by seed."""
    seen = tables["steps"].query("group == 'seen' and metric == 'defect' and granularity != 'real'")
    published, longest = tables["runs"]["steps"].iloc[0], seen["steps"].max()
    ends = f"steps == {longest}", f"steps == {published}"
    rows = [
        paired_by_seed(table, *ends, granularity=granularity, s_c=s_c, steps=longest)
        for (granularity, s_c), table in seen.groupby(["granularity", "s_c"])
    ]
    return pd.DataFrame(rows)
