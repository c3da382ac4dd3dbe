"""What the comparison stands on: floor, best arm, length of training, and the sampler."""

from __future__ import annotations

from typing import Any

import pandas as pd

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.claims import Tables
from gmmdiff.study.feature_vs_class.claims import ENOUGH_CHANGE, tell
from gmmdiff.study.statistics import bootstrap, iqm, paired_by_seed

SEEN_DEFECTS = "group == 'seen' and metric == 'defect'"


def ground_sentence(tables: Tables, evaluations: int) -> str:
    """All of it in words with their numbers; ``evaluations`` are the sampler's, as published."""
    rng = numpy_stream(0, "training sentence")

    def interval(values: pd.Series) -> Any:
        return bootstrap([values.to_numpy()], rng)

    runs = tables["runs"]
    seen = runs[runs["n_train"] == runs["n_train"].max()].query(SEEN_DEFECTS)
    conditional = seen[seen["granularity"].isin(["coarse", "class", "feature"])]
    arms = {arm: table["value"] for arm, table in conditional.groupby(["granularity", "s_c"])}
    best = min(arms, key=lambda arm: iqm([arms[arm].to_numpy()]))
    longer = tables["steps"].query(f"{SEEN_DEFECTS} and granularity == 'feature'")
    published = seen["steps"].iloc[0]
    lengths = [
        {
            "s_c": s_c,
            "levels": {steps: interval(group["value"]) for steps, group in table.groupby("steps")},
            "change": _change(table, published),
        }
        for s_c, table in longer.groupby("s_c")
    ]
    return tell(
        "ground",
        n_train=seen["n_train"].max(),
        floor=seen.loc[seen["granularity"] == "real", "value"].mean(),
        best={"granularity": best[0], "s_c": best[1], "share": interval(arms[best])},
        lengths=lengths,
        at_end=_at_end(tables["steps"].query(SEEN_DEFECTS)),
        evaluations=evaluations,
        samplers=_samplers(tables["samplers"], evaluations),
    )


def _change(table: pd.DataFrame, published: int) -> dict[str, Any]:
    """From the published length to the longest one, and whether that is change enough."""
    longest = table["steps"].max()
    found = paired_by_seed(table, f"steps == {longest}", f"steps == {published}")
    ends = {"published": published, "longest": longest}
    return found | ends | {"enough": found["low"] >= -ENOUGH_CHANGE}


def _at_end(lengths: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The contrasts of F1 and F4 after the longest training."""
    last = lengths[lengths["steps"] == lengths["steps"].max()]
    mixture = last["s_c"].max()
    arm = {name: f"granularity == '{name}' and s_c == {mixture}" for name in ("feature", "class")}
    point = {name: f"granularity == '{name}' and s_c == 0" for name in arm}
    return {
        "feature minus class, mixtures": paired_by_seed(last, arm["feature"], arm["class"]),
        "mixture minus point, feature": paired_by_seed(last, arm["feature"], point["feature"]),
        "mixture minus point, class": paired_by_seed(last, arm["class"], point["class"]),
    }


def _samplers(samplers: pd.DataFrame, evaluations: int) -> dict[str, dict[str, Any]]:
    """DPM-Solver++(2M) as published minus either sampler with the most evaluations."""
    counts = samplers.groupby("sampler")["evaluations"].max()
    few = f"sampler != 'ancestral' and evaluations == {evaluations}"
    return {
        f"{name} with {counts[key]}": paired_by_seed(
            samplers, few, f"sampler == '{key}' and evaluations == {counts[key]}"
        )
        for key, name in (("ancestral", "ancestral"), ("DPM-Solver++(2M)", "the same"))
    }
