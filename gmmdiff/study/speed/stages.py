"""Where the stages' time goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

# Seconds between two stages of one `dvc repro`; more, and they did not run in one go.
LONGEST_GAP = 120


def stage_times(records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The stages' records of their runs, but for this stage's: one row a stage.

    Columns: stage, device, started, seconds, training, sampling, other (bars), outside (the share
    of the seconds that is neither training nor sampling), memory (MiB, the largest process).  What
    a record does not hold is NaN.
    """
    rows = []
    for stage, record in records.items():
        if stage == "performance":
            continue
        spent = record.get("spent")
        bars = {"training": math.nan, "sampling": math.nan, "other": math.nan, "outside": math.nan}
        if spent is not None:
            bars = {name: spent.get(name, 0.0) for name in ("training", "sampling")}
            bars["other"] = sum(spent.values()) - sum(bars.values())
            bars["outside"] = 1 - (bars["training"] + bars["sampling"]) / record["seconds"]
        known = {name: record.get(name, math.nan) for name in ("started", "seconds", "memory")}
        rows.append({"stage": stage, "device": record["device"], **known, **bars})
    numbers = ["seconds", "training", "sampling", "other", "outside", "memory"]
    found = pd.DataFrame(rows, columns=["stage", "device", "started", *numbers])
    started = pd.to_datetime(found["started"], utc=True, format="ISO8601")
    found = found.astype(dict.fromkeys(numbers, float)).assign(started=started)
    return found.sort_values(["started", "stage"], ignore_index=True)


def pipeline_share(stages: pd.DataFrame) -> float:
    """Share of `dvc repro` outside the notebooks, from the first stage's start to the last one's
    end; NaN where it is not known.

    Not known: a start is not recorded, or the stages did not run in one go.
    """
    if stages.empty or stages["started"].isna().any():
        return math.nan
    ordered = stages.sort_values("started")
    start = (ordered["started"] - ordered["started"].iloc[0]).dt.total_seconds()
    end = (start + ordered["seconds"]).cummax()
    gaps = (start.iloc[1:].to_numpy() - end.iloc[:-1].to_numpy()).clip(0)
    return math.nan if (gaps > LONGEST_GAP).any() else float(gaps.sum() / end.iloc[-1])
