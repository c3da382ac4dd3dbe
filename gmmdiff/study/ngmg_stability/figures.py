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
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.ngmg_stability.contrasts import REFERENCE
from gmmdiff.study.statistics import bootstrap
from gmmdiff.study.style import (
    PALETTE,
    WIDTH,
    Arms,
    in_percent,
    legend_below,
    plain_log,
    side_by_side,
    with_source,
)

STABILITY_COLOURS = {
    "BCE": "black",
    "Brier": PALETTE[0],
    "MAE": PALETTE[9],
    "NGMG s=0.5": "#882255",  # yellow, the next of the palette, is too pale for lines
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
STABILITY_LINES = {"NGMG s=0.5": "-.", "NGMG s=1": (0, (6, 1)), "MAE": "--", "Brier": (0, (1, 1))}
MEASURES = {
    "spike_rate": "spike rate",
    "variation": "variation of the gradient norm",
    "spread": "spread of the final loss",
    "diverged": "share of diverged runs",
    "defect": "share of defects",
    "energy_distance": "energy distance",
    "accuracy": "accuracy",
}
# Differences over decades: linear only up to here.
SMALLEST_SHOWN = {"spike_rate": 1e-3, "variation": 1e-2}


@with_source
def backward_signals(signals: pd.DataFrame) -> Figure:
    """What every cost sends back to the probability and to the logit, against the discrepancy of a
    true label.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 7.6))
    for cost, table in signals.groupby("cost", sort=False):
        look = {"color": STABILITY_COLOURS[cost], "ls": STABILITY_LINES.get(cost, "-"), "lw": 2}
        look["zorder"] = 3 if cost == "MAE" else 2  # it lies on the scale mixture's
        for axis, place in zip(axes, ("probability", "logit"), strict=True):
            axis.plot(table["e"], table[place], label=cost, **look)
    axes[0].set(ylim=(-5, 0.2), title="To the probability: is the pull bounded?")
    axes[1].set_title("To the logit: where it is 0, a sure and wrong p is let go")
    for axis in axes:
        axis.axhline(0, color="0.5", lw=0.8)
        axis.set(xlabel="discrepancy e = p - 1 of a true label", ylabel="signal sent back")
    legend_below(figure, axes[0], 4)
    figure.suptitle("What does a cost send back, the more wrong the farther left?")
    return figure


@with_source
def gradient_traces(traces: pd.DataFrame, signal: str) -> Figure:
    """Largest gradient norm of every few steps: median and worst seed of every cost.

    One row a lambda; ``traces`` as ``curves.norm_curves`` makes them.
    """
    reference = traces[traces["lam"] == 0]
    shown = traces[(traces["lam"] > 0) & ((traces["signal"] == signal) | (traces["cost"] == "BCE"))]
    costs = [cost for cost in STABILITY_COLOURS if cost in set(shown["cost"])]
    levels = sorted(shown["lam"].unique())
    size = (WIDTH, 1.55 * len(costs) + 1.4)
    figure, axes = plt.subplots(
        len(costs), len(levels), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    without = {"color": "0.5", "lw": 1, "ls": "--", "label": r"without a cost ($\lambda$ = 0)"}
    for line, cost in zip(axes, costs, strict=True):
        for axis, lam in zip(line, levels, strict=True):
            mine = shown[(shown["lam"] == lam) & (shown["cost"] == cost)]
            colour, step = STABILITY_COLOURS[cost], mine["step"]
            axis.plot(step, mine["worst"], color=colour, lw=0.8, alpha=0.6, label="worst seed")
            axis.plot(step, mine["median"], color=colour, lw=2, label="median seed")
            axis.plot(reference["step"], reference["median"], **without)
            plain_log(axis, "y")
            worst = mine["worst_spike_rate"].iloc[0]
            axis.set_title(f"{cost}: at worst {worst:.1%} spikes")
        line[0].set_ylabel("gradient norm")
    for axis, lam in zip(axes[0], levels, strict=True):
        axis.set_title(rf"$\lambda$ = {lam:g}" + f"\n{axis.get_title()}")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    legend_below(figure, axes[0, 0], 3)
    figure.suptitle(f"Which cost makes the gradient spike? {signal.capitalize()} signals")
    return figure


@with_source
def against_learning_rate(classifier: pd.DataFrame) -> Figure:
    """Experiment A: accuracy and stability of every cost beside BCE, against the learning rate.

    One column a cost; bars below its accuracy: the learning rates within 5 % of an arm's best.
    """
    noises = sorted(classifier["label_noise"].unique())
    costs = [cost for cost in STABILITY_COLOURS if cost in set(classifier["cost"]) - {"BCE"}]
    rates = sorted(classifier["learning_rate"].unique())
    lines = list(itertools.product(("accuracy", "spike_rate", "variation"), noises))
    size = (WIDTH, 1.35 * len(lines) + 1.8)
    figure, axes = plt.subplots(
        len(lines), len(costs), figsize=size, sharex=True, sharey="row", squeeze=False
    )
    for line, (metric, noise) in zip(axes, lines, strict=True):
        alike = classifier[classifier["label_noise"] == noise]
        for axis, cost in zip(line, costs, strict=True):
            shown = alike[alike["metric"] == metric]
            arms = _beside_bce(shown, cost)
            side_by_side(axis, arms, "learning_rate", rates, 0.4)
            if metric == "accuracy":
                _basins(axis, arms, rates)
            else:
                axis.set_yscale("symlog", linthresh=0.01)
        line[0].set_ylabel(f"{metric.replace('_', ' ')},\nlabel noise {noise:g}")
    for axis, cost in zip(axes[0], costs, strict=True):
        axis.set_title(cost.replace(" ", "\n"), color=STABILITY_COLOURS[cost], weight="bold")
    names = [f"$10^{{{np.log10(rate):.2g}}}$" for rate in rates]
    for axis in axes[-1]:
        axis.set(xlabel="learning rate")
        axis.set_xticks(range(len(rates))[::2], names[::2])
    handles = [
        Line2D([], [], color="black", marker="s", label="BCE"),
        Line2D([], [], color="0.4", marker="o", label="the cost above, raw"),
        Line2D([], [], color="0.4", marker="o", ls=":", mfc="white", label="matched"),
        Line2D([], [], color="0.4", lw=4, label="within 5 % of an arm's best"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle(
        "At which learning rates does a cost work?\nAccuracy: higher is better; spikes and "
        "variation: lower"
    )
    return figure


def _beside_bce(table: pd.DataFrame, cost: str) -> Arms:
    """BCE, and a cost raw and matched, each with its look."""
    arms = [(table[table["cost"] == "BCE"], _look("BCE", "raw"))]
    for signal in ("raw", "matched"):
        mine = table[(table["cost"] == cost) & (table["signal"] == signal)]
        arms.append((mine, _look(cost, signal)))
    return [(values, look | {"markersize": 4}) for values, look in arms]


def _look(cost: str, signal: str) -> dict[str, Any]:
    """The look of a cost's line: full and filled for raw signals, dotted and open for matched."""
    raw = signal == "raw"
    look = {"color": STABILITY_COLOURS[cost], "marker": STABILITY_MARKERS[cost]}
    return look | {"ls": "-" if raw else ":", "markerfacecolor": None if raw else "white"}


def _basins(axis: Axes, arms: Arms, rates: Sequence[float]) -> None:
    """A bar an arm over the learning rates within 5 % of its best accuracy, below the lines."""
    for height, (table, look) in zip((0.22, 0.13, 0.05), arms, strict=True):
        middle = table.groupby("learning_rate")["value"].median()
        near = middle[middle >= 0.95 * middle.max()].index
        ends = (rates.index(near.min()) - 0.4, rates.index(near.max()) + 0.4)
        axis.hlines(height, *ends, color=look["color"], lw=4 if look["ls"] == "-" else 2)
    axis.set_ylim(0, 1)


@with_source
def stability_forest(contrasts: pd.DataFrame, cost: str) -> Figure:
    """One cost minus its rivals in every cell and measure of experiment B."""
    mine = contrasts[contrasts["cost"] == cost]
    cells = sorted(set(mine[["lam", "learning_rate"]].itertuples(index=False, name=None)))
    size = (WIDTH, 4 * (0.42 * len(cells) + 0.7) + 0.8)
    figure, axes = plt.subplots(4, 2, figsize=size, sharey=True)
    names = [rf"$\lambda$ = {lam:g}, rate {rate:g}" for lam, rate in reversed(cells)]
    for axis, (metric, name) in zip(axes.flat, MEASURES.items(), strict=False):
        if metric in SMALLEST_SHOWN:
            axis.set_xscale("symlog", linthresh=SMALLEST_SHOWN[metric])
        else:
            axis.xaxis.set_major_locator(MaxNLocator(4))
        _intervals(axis, mine[mine["metric"] == metric], cells)
        axis.vlines(0, -0.6, len(cells) - 0.4, color="0.4", lw=1)
        axis.margins(x=0.1, y=0)  # no interval ends at an edge
        axis.set_yticks(range(len(cells)), names)
        axis.set_title(name)
        axis.grid(axis="y", visible=False)
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center")
    figure.suptitle(
        f"Is {cost} steadier than its rivals, and as good? Paired differences (IQM), 95 %"
        " intervals:\nleft of 0 it is better, in accuracy right of 0",
        fontsize=11,
    )
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
        look["markersize"] = 5
        label = f"minus {rival}" + ("" if rival == REFERENCE else f", {signal}")
        axis.plot(rows["estimate"], at, STABILITY_MARKERS.get(rival, "*"), label=label, **look)


@with_source
def quality_beside_stability(joint: pd.DataFrame) -> Figure:
    """Share of defects beside spike rate and variation: one block a lambda, one row an arm."""
    runs = joint[joint["steps"] == joint["steps"].min()]
    levels = sorted(runs.loc[runs["lam"] > 0, "lam"].unique())
    rates = sorted(runs["learning_rate"].unique())
    arms = [(REFERENCE, "")] + [
        arm
        for arm in itertools.product(STABILITY_COLOURS, ("raw", "matched"))
        if ((runs[["cost", "signal"]] == arm).all(axis=1) & (runs["lam"] > 0)).any()
    ]
    metrics = ("defect", "spike_rate", "variation")
    size = (WIDTH, (0.27 * len(arms) + 0.8) * len(levels) + 1.2)
    figure, axes = plt.subplots(
        len(levels), len(metrics), figsize=size, sharex="col", sharey=True, squeeze=False
    )
    for line, lam in zip(axes, levels, strict=True):
        for axis, metric in zip(line, metrics, strict=True):
            if metric == "variation":
                plain_log(axis, "x")
            else:
                scale = {"base": 10, "linthresh": SMALLEST_SHOWN.get(metric, 0.01)}
                axis.set_xscale("symlog", **scale)
                subs = (1, 3) if metric == "defect" else (1,)
                axis.xaxis.set_major_locator(SymmetricalLogLocator(**scale, subs=subs))
                in_percent(axis, "x")
            if metric == "spike_rate":  # which may be 0 everywhere
                axis.update_datalim([(0, 0), (SMALLEST_SHOWN[metric], 0)], updatey=False)
            mine = runs[(runs["metric"] == metric) & runs["lam"].isin([lam, 0])]
            _arm_rows(axis, mine, arms, rates)
            axis.set_title(rf"$\lambda$ = {lam:g}")
            axis.tick_params(which="both", labelbottom=True)
            axis.grid(axis="y", visible=False)
        line[0].set_yticks(range(len(arms)), [", ".join(filter(None, arm)) for arm in arms])
        line[0].set_ylim(len(arms) - 0.4, -0.6)
    for axis, metric in zip(axes[0], metrics, strict=True):
        axis.set_title(MEASURES[metric].replace(" of the", "\nof the") + f"\n{axis.get_title()}")
    handles = [
        Line2D([], [], color="0.4", marker="o", ls="", ms=4 + 3 * place, label=f"rate {rate:g}")
        for place, rate in enumerate(rates)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(rates))
    figure.suptitle("Is a steady cost also a good one? In every column left is better")
    return figure


def _arm_rows(
    axis: Axes, table: pd.DataFrame, arms: Sequence[tuple[str, str]], rates: Sequence[float]
) -> None:
    """An arm's IQM with its interval in its row, larger for higher learning rates."""
    for place, (cost, signal) in enumerate(arms):
        without = cost == REFERENCE
        alike = (table["cost"] == cost) & (table["signal"] == signal) & (table["lam"] > 0)
        mine = table[table["lam"] == 0] if without else table[alike]
        colour = "0.5" if without else STABILITY_COLOURS[cost]
        look = {"color": colour, "markerfacecolor": "white" if signal == "matched" else colour}
        look["marker"] = "*" if without else STABILITY_MARKERS[cost]
        for number, rate in enumerate(rates):
            values = mine.loc[mine["learning_rate"] == rate, "value"].dropna().to_numpy()
            if len(values) < 2:
                continue
            found = bootstrap([values], numpy_stream(0, "figure"))
            at = place + 0.36 * ((number + 0.5) / len(rates) - 0.5)
            axis.hlines(at, found.low, found.high, color=colour, lw=1.6)
            axis.plot(found.estimate, at, ms=4 + 3 * number, **look)


@with_source
def reference_losses(losses: pd.DataFrame) -> Figure:
    """The v-loss of the denoiser without a cost, at the published length and at twice that.

    ``losses`` as ``curves.reference_curves`` makes them.
    """
    rates = losses.groupby("learning_rate")
    figure, axes = plt.subplots(1, rates.ngroups, figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    for axis, (rate, table) in zip(axes[0], rates, strict=True):
        for (steps, one), colour in zip(table.groupby("steps"), ("0.3", PALETTE[1]), strict=True):
            axis.plot(one["step"], one["loss"], color=colour, label=f"{steps} steps")
        plain_log(axis, "y")
        axis.set(xlabel="step", title=f"learning rate {rate:g}")
    axes[0, 0].set_ylabel("v-loss, median of seeds")
    axes[0, 0].legend()
    figure.suptitle("Was the reference trained long enough? Lower is better")
    return figure


@with_source
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
    figure, axes = plt.subplots(3, 2, figsize=(WIDTH, 8.8), sharex=True)
    for axis, (metric, title) in zip(axes.flat, measures, strict=True):
        mine = runs[runs["metric"] == metric]
        with_cost = mine[mine["lam"] > 0]
        arms = [
            (table, _look(cost, signal) | {"label": f"{cost}, {signal}"})
            for (cost, signal), table in with_cost.groupby(["cost", "signal"], sort=False)
        ]
        side_by_side(axis, arms, "lam", sorted(with_cost["lam"].unique()))
        if metric != "accuracy":  # without a cost the classifier learns nothing
            beside = [mine[mine["lam"] == 0]["value"].dropna().to_numpy()]
            without = bootstrap(beside, numpy_stream(0, "figure"))
            axis.axhline(without.estimate, color="0.4", ls="--", label=REFERENCE)
            axis.axhspan(without.low, without.high, color="0.85", zorder=0)
        axis.set(title=title)
        if metric not in ("variation", "energy_distance"):
            in_percent(axis, "y")
        if metric == "spike_rate":  # which may be 0 everywhere
            axis.update_datalim([(0, 0), (0, SMALLEST_SHOWN[metric])], updatex=False)
    for axis in axes[-1]:
        axis.set_xlabel(r"weight of the cost, $\lambda$")
    legend_below(figure, axes[0, 0], 3)
    figure.suptitle("Does a classifier help on faces? Lower is better, but for accuracy")
    return figure
