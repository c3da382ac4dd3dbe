"""Figures of the NGMG stability experiments."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from gmmdiff.experiments.ngmg_stability.arms import JUDGED
from gmmdiff.figures.style import (
    APART,
    LEAST,
    PALETTE,
    WIDTH,
    in_percent,
    iqm_lines,
    legend_below,
    level,
    panels,
    plain_log,
    side_by_side,
    with_source,
)
from gmmdiff.judging.ngmg_stability import REFERENCE, judged_rate
from gmmdiff.judging.tolerance import BAND, loss_ratios

LOOKS = {  # of a cost: colour, marker, and line where costs are told apart by it
    "BCE": ("black", "s", "-"),
    "Brier": (PALETTE[0], "o", (0, (1, 1))),
    "MAE": (PALETTE[9], "v", "--"),
    "NGMG s=0.5": ("#882255", "P", "-."),  # yellow, next in the palette, is too pale for lines
    "NGMG s=1": (PALETTE[1], "D", (0, (6, 1))),
    "NGMG scale mixture": (PALETTE[2], "^", "-"),
    "NGMG with entropy": (PALETTE[4], "X", "-"),
}
MEASURES = {  # metric and group of experiment B -> what it is called
    ("defect", "rare"): "Defects on rare combinations",
    ("defect", "held out"): "Defects on held-out combinations",
    ("law", "rare"): "Distance to the true law, rare\n(1: fresh real samples)",
    ("validation_loss", "all"): "Validation loss",
    ("spike_rate", "all"): "Steps whose gradient spikes",
    ("variation", "all"): "Variation of the gradient norm",
}
WITHOUT = {"color": "0.4", "ls": "--", "lw": 1.2, "label": REFERENCE}
LAMBDA = r"weight of the cost, $\lambda$"


def _look(cost: str, signal: str) -> dict[str, Any]:
    """The look of a cost's line: full and filled for raw signals, dotted and open for matched."""
    (colour, marker, _), raw = LOOKS[cost], signal == "raw"
    look = {"color": colour, "marker": marker, "label": f"{cost}, {signal}"}
    return look | {"ls": "-" if raw else ":", "markerfacecolor": None if raw else "white"}


def _arms(table: pd.DataFrame) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """The arms with a cost, each with its look."""
    groups = table[table["lam"] > 0].groupby(["cost", "signal"], sort=False)
    return [(arm, _look(*name)) for name, arm in groups]


@with_source
def backward_signals(signals: pd.DataFrame) -> Figure:
    """What every cost sends back to the probability of a true label and to its logit, against how
    far that probability is from 1.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 7.6))
    for cost, table in signals.groupby("cost", sort=False):
        colour, _, line = LOOKS[cost]
        look = {"color": colour, "ls": line, "lw": 2}
        look["zorder"] = 3 if cost == "MAE" else 2  # it lies on the scale mixture's
        for axis, place in zip(axes, ("probability", "logit"), strict=True):
            axis.plot(table["e"], table[place], label=cost, **look)
    axes[0].set(ylim=(-5, 0.2), title="To the probability: is the pull bounded?")
    axes[1].set_title("To the logit: where it is 0, a sure and wrong p is let go")
    for axis in axes:
        axis.axhline(0, color="0.5", lw=0.8)
        axis.set(xlabel="probability of a true label, minus 1", ylabel="signal sent back")
    legend_below(figure, axes[0], 4)
    figure.suptitle("What does a cost send back? The farther left, the more wrong the prediction")
    return figure


@with_source
def gradient_traces(norms: pd.DataFrame, signal: str, costs: Iterable[str] = JUDGED) -> Figure:
    """Largest gradient norm of every few steps: median and worst seed, a row a cost, of those that
    there are, and a column a lambda.

    Args:
        norms: as ``measuring.norm_curves`` makes them, the judged learning rate first.
    """
    norms = norms[norms["learning_rate"] == norms["learning_rate"].iloc[0]]
    reference = norms[norms["lam"] == 0]
    shown = norms[(norms["lam"] > 0) & ((norms["signal"] == signal) | (norms["cost"] == "BCE"))]
    costs = [cost for cost in costs if (shown["cost"] == cost).any()]
    levels = sorted(shown["lam"].unique())
    count, shared = len(costs) * len(levels), {"sharex": True, "sharey": True}
    figure, axes = panels(count, len(levels), 1.45, 1.4, **shared)
    for axis, (cost, lam) in zip(axes, product(costs, levels), strict=True):
        arm = shown[(shown["lam"] == lam) & (shown["cost"] == cost)]
        step, look = arm["step"], {"color": LOOKS[cost][0]}
        axis.plot(step, arm["worst"], lw=0.8, alpha=0.6, label="worst seed", **look)
        axis.plot(step, arm["median"], lw=2, label="median seed", **look)
        axis.plot(reference["step"], reference["median"], **WITHOUT)
        plain_log(axis, "y")
        top = rf"$\lambda$ = {lam:g}" + "\n" if cost == costs[0] else ""
        worst = arm["worst_spike_rate"].iloc[0]
        axis.set_title(f"{top}{cost}: at worst {100 * worst:.1f} % spikes")
        axis.set(xlabel="step", ylabel="gradient norm")
        axis.label_outer()
    legend_below(figure, axes[0], 3)
    equal = "" if signal == "raw" else ", where all push equally hard at the start"
    figure.suptitle(f"Which cost makes the gradient spike{equal}?")
    return figure


@with_source
def against_learning_rate(classifier: pd.DataFrame) -> Figure:
    """Experiment A: the error of every cost's classifier against the learning rate, a panel a label
    noise.
    """
    noises = sorted(classifier["label_noise"].unique())
    shown = classifier[(classifier["metric"] == "accuracy") & (classifier["signal"] == "raw")]
    errors = shown.assign(value=1 - shown["value"])
    rates = sorted(errors["learning_rate"].unique())
    figure, axes = panels(len(noises), len(noises), 4, 0, sharey=True)
    for axis, noise in zip(axes, noises, strict=True):
        panel = errors[errors["label_noise"] == noise]
        arms = [
            (panel[panel["cost"] == cost], _look(cost, "raw") | {"label": cost})
            for cost in LOOKS
            if (panel["cost"] == cost).any()
        ]
        side_by_side(axis, arms, "learning_rate", rates, 0.4)
        plain_log(axis, "y", (1, 1.5, 2, 3, 5))
        in_percent(axis, "y")
        axis.set_xlabel(f"learning rate {APART}")
        axis.set_title("True labels" if not noise else f"{100 * noise:g} % of the labels flipped")
    axes[0].set_ylabel("error on true labels")
    legend_below(figure, axes[0], 4)
    figure.suptitle("At which learning rate does each cost's classifier err least?")
    return figure


@with_source
def against_lambda(joint: pd.DataFrame) -> Figure:
    """Experiment B: quality and steadiness against lambda, every judged cost beside the run without
    one.
    """
    runs = judged_rate(joint)
    figure, axes = plt.subplots(3, 2, figsize=(WIDTH, 8.6), sharex=True)
    for axis, ((metric, group), title) in zip(axes.flat, MEASURES.items(), strict=True):
        table = runs[(runs["metric"] == metric) & (runs["group"] == group)]
        levels = sorted(table.loc[table["lam"] > 0, "lam"].unique())
        side_by_side(axis, _arms(table), "lam", levels)
        if without := level(table.loc[table["lam"] == 0, "value"]):
            axis.axhline(without.estimate, **WITHOUT)
            axis.axhspan(without.low, without.high, color="0.88", zorder=0)
        axis.set(title=title)
        if metric in ("defect", "spike_rate"):
            in_percent(axis, "y")
            axis.set_ylim(0, max(0.01, axis.get_ylim()[1]))  # none may spike
        else:
            plain_log(axis, "y")
    plt.setp(axes[-1], xlabel=f"{LAMBDA}\n{APART}")
    legend_below(figure, axes[0, 0], 3)
    title = "How good and how steady is a denoiser, the more of a cost there is?"
    figure.suptitle(f"{title}\nLower is better")
    return figure


@with_source
def tolerated(joint: pd.DataFrame, tolerances: pd.DataFrame) -> Figure:
    """Validation loss against lambda, relative to that without a cost, and how much of each cost
    keeps it within the band.

    Args:
        tolerances: of ``tolerance.tolerance_table``.
    """
    edge, grid = float(np.expm1(BAND)), {"height_ratios": (2.2, 1)}
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 6.2), sharex=True, gridspec_kw=grid)
    _changes(above, loss_ratios(joint), edge)
    _bars(below, tolerances)
    plain_log(below, "x")
    below.set_xlabel(f"{LAMBDA} {APART}")
    legend_below(figure, above, 4)
    figure.suptitle(f"How much of a cost can I add before the loss rises by {100 * edge:.0f} %?")
    return figure


def _changes(axis: Axes, ratios: pd.DataFrame, edge: float) -> None:
    """Validation losses beside those without a cost, with the band up to ``edge``, a share."""
    arms = _arms(ratios.assign(value=np.expm1(ratios["value"])))
    for number, (arm, look) in enumerate(arms):
        apart = 1.05 ** (number - (len(arms) - 1) / 2)  # none hides another
        iqm_lines(axis, arm.assign(lam=arm["lam"] * apart), "lam", **look)
    axis.axhspan(-edge, edge, color="0.88", zorder=0)
    axis.axhline(0, **WITHOUT)
    axis.set_yscale("symlog", linthresh=2 * edge)
    axis.margins(y=0.08)
    ticks = [-0.05, -edge, 0, edge, 0.05, 0.2, 0.5, 1, 2, 5]
    low, high = axis.get_ylim()
    axis.set_yticks([tick for tick in ticks if low <= tick <= high])
    axis.yaxis.set_minor_locator(NullLocator())
    in_percent(axis, "y")
    axis.set_ylabel("validation loss,\nchange by the cost")
    axis.set_title(f"Grey: within {100 * edge:.0f} %")


def _bars(axis: Axes, tolerances: pd.DataFrame) -> None:
    """A cost's tolerance with its interval, a row each, an arrow where the grid ends first."""
    for place, row in enumerate(tolerances.itertuples()):
        look = _look(row.cost, row.signal) | {"label": None}
        axis.hlines(place, row.low, row.high, color=look["color"], lw=2)
        axis.plot(row.lam, place, **look)
        times = {"at least": "≥ ", "at most": "≤ "}.get(row.beyond, "") + f"{row.times:.2g} x BCE"
        if row.cost != "BCE":
            at = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": LEAST}
            axis.text(1.01, place, times, **at)
        if row.beyond:
            side = 1 if row.beyond == "at least" else -1
            arrow = {"arrowstyle": "->", "color": look["color"]}
            axis.annotate("", (row.lam * 1.5**side, place), (row.lam, place), arrowprops=arrow)
    axis.set_yticks(range(len(tolerances)), tolerances["cost"] + ", " + tolerances["signal"])
    axis.set(ylim=(len(tolerances) - 0.5, -0.5), title="The most that stays within")
    axis.grid(axis="y", visible=False)
