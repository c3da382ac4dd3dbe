"""What the comparison stands on: floor, best arm, length of training, mixtures and the sampler."""

from __future__ import annotations

from typing import Any

import pandas as pd

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.claims import Tables
from gmmdiff.study.feature_vs_class.claims import DELTA, LONG_ENOUGH, tell
from gmmdiff.study.feature_vs_class.contrasts import ARCS, SETTINGS, Setting, movements
from gmmdiff.study.statistics import Interval, bootstrap, iqm, paired_by_seed

SEEN_DEFECTS = "group == 'seen' and metric == 'defect' and condition == 'drawn'"


def ground_sentence(tables: Tables, evaluations: int) -> str:
    """All of it in words with their numbers; ``evaluations`` are the sampler's, as published."""
    runs = tables["runs"]
    seen = runs[runs["n_train"] == runs["n_train"].max()].query(SEEN_DEFECTS)
    conditional = seen[~seen["granularity"].isin(["none", "real"])]
    arms = {arm: table["value"] for arm, table in conditional.groupby(["granularity", "s_c"])}
    best = min(arms, key=lambda arm: iqm([arms[arm].to_numpy()]))
    longer = tables["steps"]["steps"] == tables["steps"]["steps"].max()
    return tell(
        "ground",
        n_train=seen["n_train"].max(),
        floor=seen.loc[seen["granularity"] == "real", "value"].mean(),
        best={"granularity": best[0], "s_c": best[1], "share": _interval(arms[best])},
        seeds=tables["steps"].loc[longer, "seed"].nunique(),
        lengths={
            f"{claim} ({setting.world}, {setting.regime})": _moved_most(tables, setting, claim)
            for setting in SETTINGS
            for claim in LONG_ENOUGH
            if claim in setting.judged
        },
        mixtures=_mixtures(runs),
        evaluations=evaluations,
        samplers=_samplers(tables["samplers"], evaluations),
    )


def _interval(values: pd.Series) -> Interval:
    return bootstrap([values.to_numpy()], numpy_stream(0, "ground"))


def _moved_most(tables: Tables, setting: Setting, claim: str) -> dict[str, Any]:
    """The cell of a claim that twice the training moves farthest, in units of its delta."""
    found = movements(tables, setting, claim, DELTA[setting.world, setting.regime][claim])
    return max(found, key=lambda cell: abs(cell["estimate"]) / cell["delta"])


def _mixtures(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What mixtures cost, drawn and at the mean, by granularity and n_train."""
    rows = []
    for drawn, at_mean in zip(ARCS.judged["F4"], ARCS.beside["F4"], strict=True):
        name = drawn.name.partition(":")[0]
        pairs = zip(drawn.cells(runs), at_mean.cells(runs), strict=True)
        for (factors, one), (_, other) in pairs:
            both = {"drawn": _interval(pd.Series(one)), "mean": _interval(pd.Series(other))}
            rows.append({"granularity": name, "n_train": factors["n_train"]} | both)
    return rows


def _samplers(samplers: pd.DataFrame, evaluations: int) -> dict[str, Interval]:
    """DPM-Solver++(2M) as published minus either sampler with the most evaluations."""
    counts = samplers.groupby("sampler")["evaluations"].max()
    few = f"sampler != 'ancestral' and evaluations == {evaluations}"
    return {
        f"{name} with {counts[key]}": paired_by_seed(
            samplers, few, f"sampler == '{key}' and evaluations == {counts[key]}"
        )
        for key, name in (("ancestral", "ancestral"), ("DPM-Solver++(2M)", "the same"))
    }
