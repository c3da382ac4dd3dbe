"""Curves over training as their figures draw them: medians of seeds, and the worst seed."""

from __future__ import annotations

import pandas as pd

ARM = ["lam", "cost", "signal"]


def norm_curves(traces: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Largest gradient norms at the largest learning rate: one row an arm and step.

    Columns: lam, cost, signal, step, median (of the seeds), worst (the seed of most spikes, whose
    rate is worst_spike_rate).
    """
    rate, steps = traces["learning_rate"].max(), traces["steps"].min()
    shown = traces[(traces["learning_rate"] == rate) & (traces["steps"] == steps)]
    rates = runs[(runs["metric"] == "spike_rate") & (runs["learning_rate"] == rate)]
    rates = rates[rates["steps"] == steps]
    tables = []
    for arm, table in shown.groupby(ARM, sort=False):
        spikes = rates[(rates[ARM] == arm).all(axis=1)]
        worst = spikes.loc[spikes["value"].idxmax()]
        curve = table.groupby("step")["norm"].median().rename("median").to_frame()
        curve["worst"] = table[table["seed"] == worst["seed"]].set_index("step")["norm"]
        arm = dict(zip(ARM, arm, strict=True))
        tables.append(curve.reset_index().assign(**arm, worst_spike_rate=worst["value"]))
    found = pd.concat(tables, ignore_index=True)
    return found[[*ARM, "step", "median", "worst", "worst_spike_rate"]]


def reference_curves(traces: pd.DataFrame) -> pd.DataFrame:
    """Median loss of the denoiser without a cost: one row a learning rate, length and step."""
    reference = traces[traces["lam"] == 0]
    return reference.groupby(["learning_rate", "steps", "step"], as_index=False)["loss"].median()
