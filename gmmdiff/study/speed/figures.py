"""Figures of the performance notebook."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gmmdiff.figures.style import PALETTE, WIDTH, in_percent, legend_below, plain_log, with_source

CONTESTANT_COLOURS = {
    "engine": PALETTE[0],
    "torch.func": PALETTE[2],
    "loop": "black",
    "loop, tuned": "0.55",
    "products": PALETTE[1],
}
SIDE_LOOKS = {  # where the first two are one method, the first lies inside the second
    "ours": {"label": "ours, same times", "ls": "-", "marker": "o", "markersize": 4},
    "diffusers": {"label": "diffusers", "ls": ":", "marker": "o", "markersize": 9, "mfc": "none"},
    "ours, own times": {"label": "ours, own times", "ls": "--", "marker": "D", "markersize": 5},
}
SAMPLER_COLOURS = {"ancestral": "black", "DDIM": PALETTE[1], "DPM-Solver++(2M)": PALETTE[0]}
SPENT_COLOURS = {"training": PALETTE[0], "sampling": PALETTE[2], "other": PALETTE[4], "rest": "0.8"}


def _quartiles(axis: Axes, at: Any, table: pd.DataFrame, **look: Any) -> None:
    """Medians with their quartiles."""
    axis.errorbar(at, table["median"], _reach(table), capsize=3, **look)


def _reach(table: pd.DataFrame) -> list[pd.Series]:
    """How far the quartiles lie from the median."""
    return [table["median"] - table["low"], table["high"] - table["median"]]


@with_source
def training_rates(rates: pd.DataFrame, ratio: pd.DataFrame, target: float) -> Figure:
    """Operations a second of the products and the engine, and the engine's share; quartiles of the
    turns.
    """
    places = {
        key: place
        for place, key in enumerate(ratio[["device", "shape"]].itertuples(index=False, name=None))
    }
    size = (WIDTH, 0.55 * len(places) + 1.6)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True)
    for contestant, table in rates.groupby("contestant", sort=False):
        at = [places[key] for key in table[["device", "shape"]].itertuples(index=False, name=None)]
        scaled = table[["median", "low", "high"]] / 1e9
        look = {"fmt": "o", "color": CONTESTANT_COLOURS[contestant], "label": contestant}
        left.errorbar(scaled["median"], at, xerr=_reach(scaled), capsize=3, **look)
    engine = {"fmt": "D", "color": CONTESTANT_COLOURS["engine"], "label": "engine / products"}
    right.errorbar(ratio["median"], range(len(places)), xerr=_reach(ratio), capsize=3, **engine)
    right.axvline(target, color="0.4", ls="--", lw=1.2, label=f"target on the CPU, {target:.0%}")
    left.set(title="Rate", xlabel=r"$10^9$ operations a second", xlim=(0, None))
    right.set(title="Engine's share, same turn", xlabel="share of the products' rate")
    right.set(xlim=(0, 1.05))
    in_percent(right, "x")
    names = [f"{shape}, {device}" for device, shape in places]
    left.set_yticks(range(len(places)), names)
    left.set_ylim(len(places) - 0.5, -0.5)
    figure.legend(loc="outside lower center", ncols=4)
    figure.suptitle("How near is training to the rate of its matrix products? Right is better")
    return figure


@with_source
def growth(costs: pd.DataFrame) -> Figure:
    """Milliseconds a run-step against the number of rows, one panel a device and shape; quartiles
    of the turns.
    """
    panels = costs.groupby(["device", "shape"], sort=False)
    figure, axes = plt.subplots(1, panels.ngroups, figsize=(WIDTH, 4.2), sharey=True, squeeze=False)
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
    legend_below(figure, axes[0, 0], 4)
    figure.suptitle("What does training many runs together save? Lower is better")
    return figure


@with_source
def sampling_costs(errors: pd.DataFrame, ratio: pd.DataFrame) -> Figure:
    """Energy distance against evaluations and seconds; our time an evaluation over diffusers'."""
    samplers = [name for name in SAMPLER_COLOURS if name in set(errors["sampler"])]
    figure = plt.figure(figsize=(WIDTH, 8.4))
    above, below = figure.subfigures(2, 1, height_ratios=[2.4, 1])
    axes = above.subplots(2, len(samplers), sharex="row", sharey=True, squeeze=False)
    names = {"evaluations": "network evaluations", "seconds": "seconds for all samples"}
    for line, (x, name) in zip(axes, names.items(), strict=True):
        for axis, sampler in zip(line, samplers, strict=True):
            _error_lines(axis, errors, sampler, x)
            axis.set(xscale="log", xlabel=name)
        line[0].set_ylabel("energy distance,\nmean of seeds")
        plain_log(line[0], "y")
    for axis, sampler in zip(axes[0], samplers, strict=True):
        axis.set_title(sampler)
    handles = [Line2D([], [], color="0.4", **look) for look in SIDE_LOOKS.values()]
    handles.append(Line2D([], [], color="0.5", ls=":", lw=1.2, label="real points"))
    above.legend(handles=handles, loc="outside lower center", ncols=4)
    _evaluation_times(below.subplots(), ratio)
    figure.suptitle("What does a sample cost, and what is it worth? Lower left is better")
    return figure


def _error_lines(axis: Axes, errors: pd.DataFrame, sampler: str, x: str) -> None:
    """One line a side, and the floor of real points."""
    arms = errors[errors["sampler"] == sampler].groupby(["side", "evaluations"], sort=False)
    drawn = arms[["error", "seconds"]].mean().reset_index()
    for side, table in drawn.groupby("side", sort=False):
        ordered = table.sort_values("evaluations")
        axis.plot(ordered[x], ordered["error"], color=SAMPLER_COLOURS[sampler], **SIDE_LOOKS[side])
    floor = errors.loc[errors["sampler"] == "real", "error"].mean()
    axis.axhline(floor, color="0.5", ls=":", lw=1.2)


def _evaluation_times(axis: Axes, ratio: pd.DataFrame) -> None:
    """Our time an evaluation over diffusers', by the number of samples drawn at once."""
    counts = list(ratio["samples"].unique())
    for place, (sampler, table) in enumerate(ratio.groupby("sampler", sort=False)):
        at = [counts.index(samples) + 0.2 * (place - 1) for samples in table["samples"]]
        look = {"fmt": "osD"[place], "color": SAMPLER_COLOURS[sampler], "label": sampler}
        _quartiles(axis, at, table, **look)
    axis.axhline(1, color="0.4", ls="--", lw=1.2)
    axis.set_xticks(range(len(counts)), counts)
    axis.set_xlim(-0.5, max(len(counts), 1) - 0.5)
    title = "Time an evaluation: below 1 ours is faster"
    axis.set_title(title if counts else "diffusers is missing here: not measured")
    axis.set(xlabel="samples at once", ylabel="ours / diffusers")
    if counts:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))


@with_source
def stage_shares(stages: pd.DataFrame) -> Figure:
    """What every stage's seconds went to; grey where it is neither training nor sampling, hatched
    where it is not recorded.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 1.4 + 0.24 * len(stages)))
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
    axis.set(xlabel="seconds")
    axis.grid(axis="y", visible=False)
    axis.legend()
    figure.suptitle("Where does the time of the stages go?")
    return figure
