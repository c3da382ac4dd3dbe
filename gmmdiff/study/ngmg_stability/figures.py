"""Figures of the NGMG stability experiments."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.ngmg_stability.contrasts import REFERENCE
from gmmdiff.study.statistics import bootstrap
from gmmdiff.study.style import PALETTE, iqm_lines, plain_log

STABILITY_COLOURS = {
    "BCE": "black",
    "Brier": PALETTE[0],
    "MAE": PALETTE[9],
    "NGMG s=0.5": PALETTE[8],
    "NGMG s=1": PALETTE[1],
    "NGMG scale mixture": PALETTE[2],
    "NGMG with entropy": PALETTE[4],
}
STABILITY_MARKERS = {
    "BCE": "s",
    "Brier": "o",
    "MAE": "v",
    "NGMG s=0.5": "P",
    "NGMG s=1": "D",
    "NGMG scale mixture": "^",
    "NGMG with entropy": "X",
}
MEASURES = {
    "spike_rate": "spike rate",
    "variation": "variation of the gradient norm",
    "spread": "spread of the final loss",
    "diverged": "share of diverged runs",
    "accuracy": "accuracy",
    "defect": "share of defects",
    "energy_distance": "energy distance",
}
# Differences over decades: linear only up to here.
SMALLEST_SHOWN = {"spike_rate": 1e-3, "variation": 1e-2}


def backward_signals(signals: pd.DataFrame) -> Figure:
    """What every cost sends back to the probability and to the logit, against the discrepancy of a
    true label.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.6))
    for cost, table in signals.groupby("cost", sort=False):
        for axis, place in zip(axes, ("probability", "logit"), strict=True):
            axis.plot(
                table["e"],
                table[place],
                color=STABILITY_COLOURS[cost],
                lw=2,
                ls="--" if cost == "MAE" else "-",
                zorder=3 if cost == "MAE" else 2,
                label=cost,
            )
    axes[0].set(
        ylim=(-5, 0.2), title="to the probability: is the pull bounded?", ylabel="signal sent back"
    )
    axes[1].set(title="to the logit: where it is 0, a sure and wrong p is let go")
    for axis in axes:
        axis.axhline(0, color="0.5", lw=0.8)
        axis.set_xlabel("discrepancy e = p - 1 (label 1)")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize="small"
    )
    return figure


def gradient_traces(traces: pd.DataFrame, signal: str) -> Figure:
    """Largest gradient norm of every few steps: median and worst seed of every cost.

    One row a lambda; ``traces`` as ``curves.norm_curves`` makes them.
    """
    reference = traces[traces["lam"] == 0]
    shown = traces[(traces["lam"] > 0) & ((traces["signal"] == signal) | (traces["cost"] == "BCE"))]
    costs = [cost for cost in STABILITY_COLOURS if cost in set(shown["cost"])]
    levels = sorted(shown["lam"].unique())
    size = (3 * len(costs), 2.5 * len(levels))
    figure, axes = plt.subplots(
        len(levels), len(costs), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    without = {"color": "0.6", "lw": 1, "ls": "--", "label": r"without a cost ($\lambda$ = 0)"}
    for line, lam in zip(axes, levels, strict=True):
        for axis, cost in zip(line, costs, strict=True):
            mine = shown[(shown["lam"] == lam) & (shown["cost"] == cost)]
            colour, step = STABILITY_COLOURS[cost], mine["step"]
            axis.plot(step, mine["worst"], color=colour, lw=0.8, alpha=0.6, label="worst seed")
            axis.plot(step, mine["median"], color=colour, lw=2, label="median seed")
            axis.plot(reference["step"], reference["median"], **without)
            plain_log(axis, "y")
            worst = mine["worst_spike_rate"].iloc[0]
            axis.set_title(f"{cost}: {worst:.1%} spikes at worst", fontsize="small")
        line[0].set_ylabel(rf"$\lambda$ = {lam:g}" + "\ngradient norm")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def against_learning_rate(classifier: pd.DataFrame) -> Figure:
    """Experiment A: accuracy and stability against the learning rate.

    Shaded: the decades within 5 % of the best accuracy, for BCE and NGMG s = 1.
    """
    noises = sorted(classifier["label_noise"].unique())
    tasks = list(itertools.product(noises, ("raw", "matched")))
    metrics = ("accuracy", "spike_rate", "variation")
    size = (3.7 * len(tasks), 8.4)
    figure, axes = plt.subplots(
        len(metrics), len(tasks), figsize=size, sharex=True, sharey="row", squeeze=False
    )
    for column, (noise, signal) in zip(axes.T, tasks, strict=True):
        alike = (classifier["signal"] == signal) | (classifier["cost"] == "BCE")
        mine = classifier[(classifier["label_noise"] == noise) & alike]
        for axis, metric in zip(column, metrics, strict=True):
            _cost_lines(axis, mine[mine["metric"] == metric])
            if metric != "accuracy":
                axis.set_yscale("symlog", linthresh=0.01)
        _shade_basins(column, mine[mine["metric"] == "accuracy"])
        column[0].set_title(f"label noise {noise:g}, {signal}")
        column[-1].set_xlabel("learning rate")
    for axis, metric in zip(axes[:, 0], metrics, strict=True):
        axis.set_ylabel(MEASURES[metric])
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5, fontsize="small")
    return figure


def _cost_lines(axis: Axes, table: pd.DataFrame) -> None:
    """One line a cost, against the learning rate."""
    for cost, values in table.groupby("cost", sort=False):
        look = {"color": STABILITY_COLOURS[cost], "marker": STABILITY_MARKERS[cost]}
        iqm_lines(axis, values, "learning_rate", label=cost, **look)
    axis.set_xscale("log")
    if table["learning_rate"].nunique() == 1:
        rate = table["learning_rate"].iloc[0]
        axis.set_xlim(rate / 2, rate * 2)


def _shade_basins(axes: Sequence[Axes], accuracy: pd.DataFrame) -> None:
    """Hatched for BCE, plain for NGMG s = 1."""
    for cost, hatch in (("BCE", "///"), ("NGMG s=1", None)):
        middle = accuracy[accuracy["cost"] == cost].groupby("learning_rate")["value"].median()
        near, colour = middle[middle >= 0.95 * middle.max()].index, STABILITY_COLOURS[cost]
        face = colour if hatch is None else "none"
        look = {"facecolor": face, "alpha": 0.15, "hatch": hatch, "edgecolor": colour, "lw": 0}
        for axis in axes:
            axis.axvspan(near.min(), near.max(), label=f"within 5 % of {cost}'s best", **look)


def stability_forest(contrasts: pd.DataFrame, cost: str) -> Figure:
    """One cost minus its rivals in every cell and measure of experiment B."""
    mine = contrasts[contrasts["cost"] == cost]
    cells = sorted(set(mine[["lam", "learning_rate"]].itertuples(index=False, name=None)))
    figure, axes = plt.subplots(2, 4, figsize=(14, 2 * (0.5 * len(cells) + 1.2)), sharey=True)
    names = [rf"$\lambda$ = {lam:g}, rate {rate:g}" for lam, rate in reversed(cells)]
    for axis, (metric, name) in zip(axes.flat, MEASURES.items(), strict=False):
        _intervals(axis, mine[mine["metric"] == metric], cells)
        axis.axvline(0, color="0.4", lw=1)
        axis.set_yticks(range(len(cells)), names)
        axis.set_title(name, fontsize="small")
        if metric in SMALLEST_SHOWN:
            axis.set_xscale("symlog", linthresh=SMALLEST_SHOWN[metric])
            axis.tick_params(axis="x", labelsize="small")
        else:
            axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.grid(axis="y", visible=False)
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", fontsize="small")
    title = f"{cost} minus its rivals, paired by seed, 95 % intervals (IQM)"
    figure.suptitle(title, fontsize="medium")
    return figure


def _intervals(axis: Axes, contrasts: pd.DataFrame, cells: Sequence[tuple]) -> None:
    """Five intervals a cell: against either rival, raw (filled) and matched (open), and against the
    run without a cost.
    """
    arms = [*itertools.product(("BCE", "Brier"), ("raw", "matched")), (REFERENCE, "raw")]
    for (rival, signal), offset in zip(arms, (0.3, 0.15, 0, -0.15, -0.3), strict=True):
        colour = STABILITY_COLOURS.get(rival, "0.55")
        mine = contrasts[(contrasts["rival"] == rival) & (contrasts["signal"] == signal)]
        rows = mine.set_index(["lam", "learning_rate"]).reindex(cells)
        at = np.arange(len(cells))[::-1] + offset
        axis.hlines(at, rows["low"], rows["high"], color=colour, lw=1.6)
        look = {"color": colour, "markerfacecolor": colour if signal == "raw" else "white"}
        label = f"minus {rival}, {signal}"
        axis.plot(rows["estimate"], at, "o", markersize=4.5, label=label, **look)


def quality_beside_stability(joint: pd.DataFrame) -> Figure:
    """Share of defects against spike rate and variation: one column a lambda, one dot an arm."""
    runs = joint[joint["steps"] == joint["steps"].min()]
    arms = runs.groupby(["lam", "learning_rate", "cost", "signal", "metric"])["value"].agg(
        lambda values: bootstrap([values.to_numpy()], numpy_stream(0, "figure")).estimate
    )
    wide = arms.unstack("metric").reset_index()
    levels = sorted(wide.loc[wide["lam"] > 0, "lam"].unique())
    rates = sorted(wide["learning_rate"].unique())
    size = (4.6 * len(levels), 7.6)
    figure, axes = plt.subplots(
        2, len(levels), figsize=size, sharey=True, sharex="row", squeeze=False
    )
    for line, metric in zip(axes, ("spike_rate", "variation"), strict=True):
        for axis, lam in zip(line, levels, strict=True):
            shown = wide[wide["lam"].isin([lam, 0])]
            for row in shown.sort_values("lam", ascending=False, kind="stable").itertuples():
                _dot(axis, row, metric, rates.index(row.learning_rate))
            axis.set(title=rf"$\lambda$ = {lam:g}", xlabel=MEASURES[metric])
            axis.yaxis.set_major_formatter(PercentFormatter(1))
            if metric == "spike_rate":
                axis.set_xscale("symlog", linthresh=SMALLEST_SHOWN[metric])
            else:
                plain_log(axis, "x")
        line[0].set_ylabel("share of defects, seen")
    handles = axes[0, 0].get_legend_handles_labels()
    title = f"filled: raw, open: matched; larger: rate {rates[-1]:g}"
    figure.legend(*handles, loc="outside lower center", ncols=6, fontsize="small", title=title)
    return figure


def _dot(axis: Axes, arm: Any, metric: str, rate: int) -> None:
    """One arm, the larger the higher the number of its learning rate; a star without a cost."""
    at, colour = (getattr(arm, metric), arm.defect), STABILITY_COLOURS[arm.cost]
    if arm.lam == 0:
        label = "without a cost" if rate == 0 else None
        axis.plot(*at, "*", color="0.5", markersize=9 + 4 * rate, label=label)
        return
    raw = arm.signal == "raw"
    label = arm.cost if raw and rate == 0 else None
    look = {"color": colour, "markerfacecolor": colour if raw else "white", "label": label}
    axis.plot(*at, STABILITY_MARKERS[arm.cost], markersize=6 + 4 * rate, alpha=0.8, **look)


def reference_losses(losses: pd.DataFrame) -> Figure:
    """The v-loss of the denoiser without a cost, at the published length and at twice that.

    ``losses`` as ``curves.reference_curves`` makes them.
    """
    rates = losses.groupby("learning_rate")
    figure, axes = plt.subplots(1, rates.ngroups, figsize=(10, 3.8), sharey=True, squeeze=False)
    for axis, (rate, table) in zip(axes[0], rates, strict=True):
        for (steps, one), colour in zip(table.groupby("steps"), ("0.3", PALETTE[1]), strict=True):
            axis.plot(one["step"], one["loss"], color=colour, label=f"{steps} steps")
        plain_log(axis, "y")
        axis.set(xlabel="step", title=f"learning rate {rate:g}")
    axes[0, 0].set_ylabel("v-loss, median of seeds")
    axes[0, 0].legend()
    return figure


def against_lambda(joint: pd.DataFrame) -> Figure:
    """Experiment B on faces: quality and stability against lambda, every cost, beside the run
    without one.
    """
    measures = (
        ("miss", "misses, seen combinations"),
        ("held-out miss", "misses, held-out combinations"),
        ("energy_distance", "energy distance, seen"),
        ("spike_rate", "spike rate"),
        ("variation", "variation of the gradient norm"),
        ("accuracy", "the classifier's accuracy"),
    )
    runs = joint[joint["steps"] == joint["steps"].min()]
    figure, axes = plt.subplots(2, 3, figsize=(14, 8.4), sharex=True)
    for axis, (metric, title) in zip(axes.flat, measures, strict=True):
        mine = runs[runs["metric"] == metric]
        for (cost, signal), table in mine[mine["lam"] > 0].groupby(["cost", "signal"], sort=False):
            look = {"color": STABILITY_COLOURS[cost], "marker": STABILITY_MARKERS[cost]}
            look |= {"ls": "-" if signal == "raw" else ":"}
            look |= {"markerfacecolor": None if signal == "raw" else "white"}
            iqm_lines(axis, table, "lam", label=f"{cost}, {signal}", **look)
        if metric != "accuracy":  # without a cost the classifier learns nothing
            beside = [mine[mine["lam"] == 0]["value"].dropna().to_numpy()]
            without = bootstrap(beside, numpy_stream(0, "figure"))
            axis.axhline(without.estimate, color="0.4", ls="--", label=REFERENCE)
            axis.axhspan(without.low, without.high, color="0.85", zorder=0)
        axis.set(title=title)
        plain_log(axis, "x")
        if metric not in ("variation", "energy_distance"):
            axis.yaxis.set_major_formatter(PercentFormatter(1))
    for axis in axes[-1]:
        axis.set_xlabel(r"weight of the cost, $\lambda$")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5, fontsize="small")
    figure.suptitle(
        "Does a classifier help on faces? Lower is better, but for accuracy", fontsize="medium"
    )
    return figure
