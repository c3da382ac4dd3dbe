"""Figures of the NGMG stability experiments."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gmmdiff.core.streams import numpy_stream
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

SMALLEST_SHOWN = {
    "spike_rate": 1e-3,
    "variation": 1e-2,
    "energy_distance": 0.1,
}  # differences over decades: linear only up to here


def backward_signals(signals: pd.DataFrame) -> Figure:
    """What every cost sends back to the probability and to the logit, against the discrepancy of a true label."""
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
        ylim=(-5, 0.2),
        title="to the probability: BCE's pull has no bound",
        ylabel="signal sent back",
    )
    axes[1].set(title="to the logit: without BCE, a sure and wrong p is let go")
    for axis in axes:
        axis.axhline(0, color="0.5", lw=0.8)
        axis.set_xlabel("discrepancy e = p - 1 (label 1)")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize="small"
    )
    return figure


def gradient_traces(traces: pd.DataFrame, runs: pd.DataFrame, signal: str) -> Figure:
    """Largest gradient norm of every few steps: median and worst seed of every cost, one row a lambda, at the largest learning rate."""
    rate, steps = traces["learning_rate"].max(), traces["steps"].min()
    shown = traces[(traces["learning_rate"] == rate) & (traces["steps"] == steps)]
    reference = shown[shown["lam"] == 0].groupby("step")["norm"].median()
    shown = shown[(shown["lam"] > 0) & ((shown["signal"] == signal) | (shown["cost"] == "BCE"))]
    costs, levels = (
        [c for c in STABILITY_COLOURS if c in set(shown["cost"])],
        sorted(shown["lam"].unique()),
    )
    rates = runs[(runs["metric"] == "spike_rate") & (runs["learning_rate"] == rate)]
    figure, axes = plt.subplots(
        len(levels),
        len(costs),
        figsize=(3 * len(costs), 2.5 * len(levels)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for line, lam in zip(axes, levels, strict=True):
        for axis, cost in zip(line, costs, strict=True):
            mine = shown[(shown["lam"] == lam) & (shown["cost"] == cost)]
            spikes = rates[
                (rates["lam"] == lam)
                & (rates["cost"] == cost)
                & (rates["signal"] == mine["signal"].iloc[0])
            ]
            worst = spikes.loc[spikes["value"].idxmax()]
            bad = mine[mine["seed"] == worst["seed"]]
            axis.plot(
                bad["step"],
                bad["norm"],
                color=STABILITY_COLOURS[cost],
                lw=0.8,
                alpha=0.6,
                label="worst seed",
            )
            middle = mine.groupby("step")["norm"].median()
            axis.plot(
                middle.index, middle, color=STABILITY_COLOURS[cost], lw=2, label="median seed"
            )
            axis.plot(
                reference.index,
                reference,
                color="0.6",
                lw=1,
                ls="--",
                label=r"without a cost ($\lambda$ = 0)",
            )
            plain_log(axis, "y")
            axis.set_title(f"{cost}: {worst['value']:.1%} spikes at worst", fontsize="small")
        line[0].set_ylabel(rf"$\lambda$ = {lam:g}" + "\ngradient norm")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize="small",
    )
    return figure


def against_learning_rate(classifier: pd.DataFrame) -> Figure:
    """Experiment A: accuracy and stability against the learning rate; shaded: decades within 5 % of the best, BCE and NGMG s = 1."""
    tasks = [
        (noise, signal)
        for noise in sorted(classifier["label_noise"].unique())
        for signal in ("raw", "matched")
    ]
    metrics = ("accuracy", "spike_rate", "variation")
    figure, axes = plt.subplots(
        len(metrics),
        len(tasks),
        figsize=(3.7 * len(tasks), 8.4),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, (noise, signal) in zip(axes.T, tasks, strict=True):
        mine = classifier[
            (classifier["label_noise"] == noise)
            & ((classifier["signal"] == signal) | (classifier["cost"] == "BCE"))
        ]
        for axis, metric in zip(column, metrics, strict=True):
            for cost, table in mine[mine["metric"] == metric].groupby("cost", sort=False):
                iqm_lines(
                    axis,
                    table,
                    "learning_rate",
                    color=STABILITY_COLOURS[cost],
                    marker=STABILITY_MARKERS[cost],
                    label=cost,
                )
            axis.set_xscale("log")
            if classifier["learning_rate"].nunique() == 1:
                axis.set_xlim(
                    classifier["learning_rate"].iloc[0] / 2, classifier["learning_rate"].iloc[0] * 2
                )
            if metric != "accuracy":
                axis.set_yscale("symlog", linthresh=0.01)
        for cost, hatch in (("BCE", "///"), ("NGMG s=1", None)):
            accuracy = (
                mine[(mine["metric"] == "accuracy") & (mine["cost"] == cost)]
                .groupby("learning_rate")["value"]
                .median()
            )
            near = accuracy[accuracy >= 0.95 * accuracy.max()].index
            for axis in column:
                axis.axvspan(
                    near.min(),
                    near.max(),
                    facecolor=STABILITY_COLOURS[cost] if hatch is None else "none",
                    alpha=0.15,
                    hatch=hatch,
                    edgecolor=STABILITY_COLOURS[cost],
                    lw=0,
                )
        column[0].set_title(f"label noise {noise:g}, {signal}")
        column[-1].set_xlabel("learning rate")
    for axis, metric in zip(axes[:, 0], metrics, strict=True):
        axis.set_ylabel(MEASURES[metric])
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=7,
        fontsize="small",
    )
    return figure


def stability_forest(contrasts: pd.DataFrame, cost: str) -> Figure:
    """One cost minus BCE and minus Brier, raw (filled) and matched (open), in every cell and measure of experiment B."""
    mine = contrasts[contrasts["cost"] == cost]
    cells = list(
        mine[["lam", "learning_rate"]]
        .drop_duplicates()
        .sort_values(["lam", "learning_rate"])
        .itertuples(index=False)
    )
    figure, axes = plt.subplots(2, 4, figsize=(14, 2 * (0.5 * len(cells) + 1.2)), sharey=True)
    offsets = {
        ("BCE", "raw"): 0.27,
        ("BCE", "matched"): 0.09,
        ("Brier", "raw"): -0.09,
        ("Brier", "matched"): -0.27,
    }
    for axis, (metric, name) in zip(axes.flat, MEASURES.items(), strict=False):
        for (rival, signal), offset in offsets.items():
            colour = STABILITY_COLOURS[rival]
            table = mine[
                (mine["metric"] == metric) & (mine["rival"] == rival) & (mine["signal"] == signal)
            ].set_index(["lam", "learning_rate"])
            rows = table.reindex(cells)
            at = np.arange(len(cells))[::-1] + offset
            axis.hlines(at, rows["low"], rows["high"], color=colour, lw=1.6)
            axis.plot(
                rows["estimate"],
                at,
                "o",
                color=colour,
                markerfacecolor=colour if signal == "raw" else "white",
                markersize=4.5,
                label=f"minus {rival}, {signal}",
            )
        axis.axvline(0, color="0.4", lw=1)
        axis.set_yticks(
            range(len(cells)),
            [rf"$\lambda$ = {lam:g}, rate {rate:g}" for lam, rate in reversed(cells)],
        )
        axis.set_title(name, fontsize="small")
        if metric in SMALLEST_SHOWN:
            axis.set_xscale("symlog", linthresh=SMALLEST_SHOWN[metric])
            axis.tick_params(axis="x", labelsize="small")
        else:
            axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.grid(axis="y", visible=False)
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", fontsize="small")
    figure.suptitle(
        f"{cost} minus BCE and minus Brier, paired by seed, 95 % intervals (IQM)", fontsize="medium"
    )
    return figure


def quality_beside_stability(joint: pd.DataFrame) -> Figure:
    """Share of defects against spike rate and against variation: one column a lambda, one dot an arm."""
    runs = joint[joint["steps"] == joint["steps"].min()]
    arms = runs.groupby(["lam", "learning_rate", "cost", "signal", "metric"])["value"].agg(
        lambda v: bootstrap([v.to_numpy()], numpy_stream(0, "figure")).estimate
    )
    wide = arms.unstack("metric").reset_index()
    levels, rates = (
        sorted(wide.loc[wide["lam"] > 0, "lam"].unique()),
        sorted(wide["learning_rate"].unique()),
    )
    figure, axes = plt.subplots(
        2, len(levels), figsize=(4.6 * len(levels), 7.6), sharey=True, sharex="row", squeeze=False
    )
    for line, metric in zip(axes, ("spike_rate", "variation"), strict=True):
        for axis, lam in zip(line, levels, strict=True):
            for row in wide[wide["lam"] == lam].itertuples():
                colour = STABILITY_COLOURS[row.cost]
                axis.plot(
                    getattr(row, metric),
                    row.defect,
                    STABILITY_MARKERS[row.cost],
                    color=colour,
                    markersize=6 + 4 * rates.index(row.learning_rate),
                    markerfacecolor=colour if row.signal == "raw" else "white",
                    alpha=0.8,
                    label=row.cost
                    if row.signal == "raw" and row.learning_rate == rates[0]
                    else None,
                )
            for row in wide[wide["lam"] == 0].itertuples():
                axis.plot(
                    getattr(row, metric),
                    row.defect,
                    "*",
                    color="0.5",
                    markersize=9 + 4 * rates.index(row.learning_rate),
                    label="without a cost" if row.learning_rate == rates[0] else None,
                )
            axis.set(title=rf"$\lambda$ = {lam:g}", xlabel=MEASURES[metric])
            axis.yaxis.set_major_formatter(PercentFormatter(1))
            if metric == "spike_rate":
                axis.set_xscale("symlog", linthresh=SMALLEST_SHOWN[metric])
            else:
                plain_log(axis, "x")
        line[0].set_ylabel("share of defects, seen")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=6,
        fontsize="small",
        title=f"filled: raw, open: matched; larger: rate {rates[-1]:g}",
    )
    return figure


def reference_losses(traces: pd.DataFrame) -> Figure:
    """The v-loss of the denoiser without a cost, at the published length and at twice that."""
    reference = traces[traces["lam"] == 0]
    figure, axes = plt.subplots(
        1, reference["learning_rate"].nunique(), figsize=(10, 3.8), sharey=True, squeeze=False
    )
    for axis, (rate, table) in zip(axes[0], reference.groupby("learning_rate"), strict=True):
        for (steps, one), colour in zip(table.groupby("steps"), ("0.3", PALETTE[1]), strict=True):
            middle = one.groupby("step")["loss"].median()
            axis.plot(middle.index, middle, color=colour, label=f"{steps} steps")
        plain_log(axis, "y")
        axis.set(xlabel="step", title=f"learning rate {rate:g}")
    axes[0, 0].set_ylabel("v-loss, median of seeds")
    axes[0, 0].legend()
    return figure
