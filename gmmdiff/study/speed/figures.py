"""Figures of the performance notebook."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from gmmdiff.study.style import PALETTE, plain_log

CONTESTANT_COLOURS = {
    "engine": PALETTE[0],
    "torch.func": PALETTE[2],
    "loop": "black",
    "loop, tuned": "0.55",
    "products": PALETTE[1],
}
SIDE_LOOKS = {"ours": ("-", "o"), "diffusers": (":", "x"), "ours, own times": ("--", "D")}
SAMPLER_COLOURS = {"ancestral": "black", "DDIM": PALETTE[1], "DPM-Solver++(2M)": PALETTE[0]}
SPENT_COLOURS = {"training": PALETTE[0], "sampling": PALETTE[2], "other": PALETTE[4], "rest": "0.8"}


def _quartiles(axis: Axes, at: Any, table: pd.DataFrame, **look: Any) -> None:
    """Medians with their quartiles."""
    axis.errorbar(
        at,
        table["median"],
        [table["median"] - table["low"], table["high"] - table["median"]],
        capsize=3,
        **look,
    )


def training_rates(rates: pd.DataFrame, ratio: pd.DataFrame, target: float) -> Figure:
    """Operations a second of the products and the engine, and the engine's share; quartiles of the
    turns.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2))
    places = {
        key: place
        for place, key in enumerate(ratio[["device", "shape"]].itertuples(index=False, name=None))
    }
    for contestant, table in rates.groupby("contestant", sort=False):
        at = [places[key] for key in table[["device", "shape"]].itertuples(index=False, name=None)]
        scaled = table[["median", "low", "high"]] / 1e9
        _quartiles(
            left, at, scaled, fmt="o", color=CONTESTANT_COLOURS[contestant], label=contestant
        )
    _quartiles(
        right,
        range(len(places)),
        ratio,
        fmt="o",
        color=CONTESTANT_COLOURS["engine"],
        label="engine / products, same turn",
    )
    right.axhline(target, color="0.4", ls="--", lw=1.2, label=f"target on the CPU, {target:.0%}")
    left.set(
        title="Rate of the matrix products alone, and of training",
        ylabel=r"$10^9$ operations a second",
        ylim=(0, None),
    )
    right.set(title="Share of the products' rate", ylim=(0, 1.05))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axis in (left, right):
        axis.set_xticks(
            range(len(places)), [f"{shape}\n{device}" for device, shape in places], fontsize="small"
        )
        axis.set_xlim(-0.5, len(places) - 0.5)
        axis.legend(fontsize="small", loc="lower left")
    return figure


def growth(costs: pd.DataFrame) -> Figure:
    """Milliseconds a run-step against the number of rows, one panel a device and shape; quartiles
    of the turns.
    """
    panels = costs.groupby(["device", "shape"], sort=False)
    figure, axes = plt.subplots(
        1, panels.ngroups, figsize=(6 * panels.ngroups, 4.4), sharey=True, squeeze=False
    )
    for axis, ((device, shape), panel) in zip(axes[0], panels, strict=True):
        for contestant, table in panel.groupby("contestant", sort=False):
            _quartiles(
                axis,
                table["rows"],
                table,
                fmt="o-",
                color=CONTESTANT_COLOURS[contestant],
                label=contestant,
            )
        rows = sorted(panel["rows"].unique())
        axis.set(xscale="log", xlabel="rows trained together", title=f"{shape} shape, {device}")
        axis.set_xticks(rows, rows)
        axis.minorticks_off()
        plain_log(axis, "y")
    axes[0, 0].set_ylabel("milliseconds a step of one run")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize="small",
    )
    return figure


def sampling_costs(errors: pd.DataFrame, ratio: pd.DataFrame) -> Figure:
    """Energy distance against evaluations and seconds; our time an evaluation over diffusers'."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6))
    for axis, x in zip(axes, ("evaluations", "seconds"), strict=False):
        _error_lines(axis, errors, x)
    axes[0].set(xlabel="network evaluations", title="Error against evaluations")
    axes[1].set(xlabel="seconds for all samples of one network", title="Error against seconds")
    counts = list(ratio["samples"].unique())
    for place, (sampler, table) in enumerate(ratio.groupby("sampler", sort=False)):
        at = [counts.index(samples) + 0.2 * (place - 1) for samples in table["samples"]]
        _quartiles(axes[2], at, table, fmt="o", color=SAMPLER_COLOURS[sampler])
    axes[2].axhline(1, color="0.4", ls="--", lw=1.2)
    axes[2].set_xticks(range(len(counts)), counts)
    axes[2].set_xlim(-0.5, max(len(counts), 1) - 0.5)
    axes[2].set(
        xlabel="samples at once",
        ylabel="ours / diffusers",
        title="Time an evaluation" if counts else "diffusers is missing here: not measured",
    )
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small"
    )
    return figure


def _error_lines(axis: Axes, errors: pd.DataFrame, x: str) -> None:
    """One line a sampler and side, and the floor of real points."""
    real = errors["sampler"] == "real"
    arms = errors[~real].groupby(["sampler", "side", "evaluations"], sort=False)
    drawn = arms[["error", "seconds"]].mean().reset_index()
    for (sampler, side), table in drawn.groupby(["sampler", "side"], sort=False):
        line, marker = SIDE_LOOKS[side]
        ordered = table.sort_values("evaluations")
        look = {"marker": marker, "color": SAMPLER_COLOURS[sampler], "markersize": 5}
        axis.plot(ordered[x], ordered["error"], line, label=f"{sampler}, {side}", **look)
    floor = errors.loc[real, "error"].mean()
    axis.axhline(floor, color="0.5", ls=":", lw=1.2, label="real points")
    axis.set(xscale="log", ylabel="energy distance, mean of seeds")
    plain_log(axis, "y")


def stage_shares(stages: pd.DataFrame) -> Figure:
    """What every stage's seconds went to; grey where it is neither training nor sampling, hatched
    where it is not recorded.
    """
    figure, axis = plt.subplots(figsize=(10, 1.2 + 0.32 * len(stages)))
    left = np.zeros(len(stages))
    known = stages["outside"].notna()
    parts = stages[["training", "sampling", "other"]].fillna(0)
    parts["rest"] = (stages["seconds"] - parts.sum(axis=1)).clip(lower=0).where(known, 0)
    for name in parts:
        axis.barh(stages["stage"], parts[name], left=left, color=SPENT_COLOURS[name], label=name)
        left += parts[name].to_numpy()
    axis.barh(
        stages["stage"],
        stages["seconds"].where(~known, 0),
        color="white",
        edgecolor="0.6",
        hatch="///",
        label="not recorded",
    )
    axis.invert_yaxis()
    axis.set(xlabel="seconds", title="Where the stages' time goes")
    axis.grid(axis="y", visible=False)
    axis.legend(fontsize="small")
    return figure
