"""Figures against the steps of training: the story, the metrics that notice, validation losses."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from gmmdiff.experiments.feature_vs_class.common_metrics import GUESSES
from gmmdiff.figures.feature_vs_class import (
    ENOUGH,
    FLOOR,
    TIMES_FRESH,
    above,
    arm_name,
    arms_of,
    compared,
    level,
    look,
)
from gmmdiff.figures.style import WIDTH, in_percent, plain_log, with_source

STORY = {
    ("validation_loss", "all"): "Validation loss",
    ("defect", "seen"): "Defects, seen combinations",
    ("defect", "held out"): "Defects, held-out combinations",
    ("copy", "rare"): "Copies, rare combinations",
    ("law", "rare"): "Distance to the true law,\nrare combinations",
}
BETTER = {"higher": "better \N{RIGHTWARDS ARROW}", "lower": "\N{LEFTWARDS ARROW} better"}


def _curve(axis: Axes, table: pd.DataFrame, x: str, granularity: str, s_c: float) -> pd.Series:
    """One arm's IQM over seeds against x with its band; gives the line back, by x."""
    every = {at: level(values) for at, values in table.groupby(x)["value"]}
    found = {at: interval for at, interval in every.items() if interval is not None}
    if not found:
        return pd.Series(dtype=float)
    middle, low, high = np.array(list(found.values())).T
    own = look(granularity, s_c)
    axis.plot(list(found), middle, color=own["color"], ls=own["ls"], lw=1.8)
    axis.fill_between(list(found), low, high, color=own["color"], alpha=0.15, lw=0)
    return pd.Series(middle, index=list(found))


def _star(axis: Axes, curve: pd.Series, step: float, granularity: str, s_c: float) -> None:
    """The minimum of the validation loss, on whatever curve."""
    own, at = look(granularity, s_c), np.interp(step, curve.index, curve)
    face = own["markerfacecolor"] or own["color"]
    shape = {"marker": "*", "ms": 13, "mec": own["color"], "mew": 1.3, "mfc": face}
    axis.plot(step, at, ls="", zorder=3, **shape)


def _legend(axis: Axes, arms: list[tuple[str, float]], floor: bool) -> None:
    """In an axis of its own: the arms, the star, and fresh real samples."""
    handles = [Line2D([], [], **{**look(*arm), "marker": ""}) for arm in arms]
    star = {"marker": "*", "ms": 13, "mfc": "white", "mec": "0.2"}
    handles.append(Line2D([], [], ls="", label="least validation loss", **star))
    handles += [Line2D([], [], **FLOOR)] if floor else []
    axis.set_axis_off()
    axis.legend(handles=handles, loc="center")


@with_source
def story(table: pd.DataFrame) -> Figure:
    """Validation loss, defects, copies and law against the steps of one training, far beyond the
    minimum, which is marked.
    """
    figure, axes = plt.subplots(3, 2, figsize=(WIDTH, 8.2), sharex=True)
    table, minima = compared(table), {}
    arms = arms_of(table)
    for axis, ((metric, group), name) in zip(axes.flat, STORY.items(), strict=False):
        part = table[(table["metric"] == metric) & (table["group"] == group)]
        for arm in arms:
            mine = part[(part["granularity"] == arm[0]) & (part["s_c"] == arm[1])]
            curve = _curve(axis, mine, "step", *arm)
            if curve.empty:
                continue
            minima.setdefault(arm, curve.idxmin())  # the first panel's is the loss
            _star(axis, curve, minima[arm], *arm)
        axis.set_title(name)
        plain_log(axis, "x")
        _scale(axis, metric)
    for axis in axes.flat[: len(STORY)]:
        axis.tick_params(which="both", labelbottom=True)
    for axis in (axes[1, 1], axes[2, 0]):
        axis.set_xlabel("training steps")
    _legend(axes[2, 1], arms, True)
    figure.suptitle("What changes as the training goes on? Lower is better")
    return figure


def _scale(axis: Axes, metric: str) -> None:
    if metric == "validation_loss":
        plain_log(axis, "y")
        axis.set_ylabel("v-loss on fresh samples")
    elif metric == "law":
        axis.axhline(1, **FLOOR)
        axis.set_ylabel(TIMES_FRESH)
    else:
        axis.set_ylim(bottom=0)
        axis.set_ylabel("share of samples")
        in_percent(axis, "y")


@with_source
def notices(table: pd.DataFrame) -> Figure:
    """Every metric at the minimum of the validation loss and at the end of the training, by arm,
    beside fresh real samples; the word is what the metric says of the longer training.
    """
    arms = arms_of(table)
    lines = -(-len(GUESSES) // 3)
    size = (WIDTH, (0.36 * len(arms) + 1) * lines + 0.9)
    figure, axes = plt.subplots(lines, 3, figsize=size, sharey=True)
    for axis, (metric, guess) in zip(axes.flat, GUESSES.items(), strict=True):
        part = table[table["metric"] == metric]
        for place, (granularity, s_c) in enumerate(arms):
            mine = part[(part["granularity"] == granularity) & (part["s_c"] == s_c)]
            _arrow(axis, mine, place, guess.better == "higher", granularity, s_c)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.axvline(part.loc[part["granularity"] == "real", "value"].mean(), zorder=0, **FLOOR)
        axis.set_title(textwrap.fill(metric[0].upper() + metric[1:], 22))
        axis.set_xlabel(f"{BETTER[guess.better]}  (guess: {guess.movement})", fontsize=9)
        axis.margins(x=0.22)
        axis.locator_params(axis="x", nbins=4)
        axis.set_ylim(len(arms) - 0.6, -0.9)
        axis.set_yticks(range(len(arms)), [arm_name(*arm) for arm in arms])
        axis.grid(axis="y", visible=False)
    start = Line2D(
        [], [], ls="", marker="o", mfc="white", mec="0.3", label="at the least validation loss"
    )
    end = Line2D([], [], ls="", marker=">", color="0.3", label="at the end of the training")
    handles = [start, end, Line2D([], [], **FLOOR)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.suptitle(
        "Which metric notices copying?\nThe word: what the metric says of far longer training"
    )
    return figure


def _arrow(
    axis: Axes, table: pd.DataFrame, place: int, higher: bool, granularity: str, s_c: float
) -> None:
    """From the minimum to the end, in the arm's row."""
    by_seed = table.pivot_table(index="seed", columns="when", values="value")
    ends = [level(by_seed[when]) for when in ("minimum", "end")]
    if None in ends:
        return
    change = level((by_seed["end"] - by_seed["minimum"]) * (1 if higher else -1))
    told = "better" if change.low > 0 else "worse" if change.high < 0 else "unclear"
    start, end = (interval.estimate for interval in ends)
    own = look(granularity, s_c)
    arrow = {"arrowstyle": "-|>", "color": own["color"], "lw": 1.8, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (end, place), (start, place), arrowprops=arrow)
    axis.plot([start, end], [place, place], ls="")  # the arrow alone sets no limits
    axis.plot(start, place, "o", mfc="white", mec=own["color"], mew=1.5, ms=6)
    above(axis, told, (start + end) / 2, place)


@with_source
def validation_curves(validation: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Median validation losses against steps in every setting, a panel a world and regime, its
    title saying where too few runs were trained long enough.

    Args:
        validation: what ``validation_curves`` of the engine gives, with world and regime.
        runs: of the same worlds, with the metric long_enough.
    """
    settings = list(validation.groupby(["world", "regime"], sort=False))
    lines = -(-(len(settings) + 1) // 3)
    figure, axes = plt.subplots(lines, 3, figsize=(WIDTH, 2.4 * lines + 0.7), squeeze=False)
    long_enough = compared(runs[runs["metric"] == "long_enough"])
    share = long_enough.groupby(["world", "regime"])["value"].mean()
    for axis in axes.flat[len(settings) :]:
        axis.set_axis_off()
    for axis, (setting, table) in zip(axes.flat, settings, strict=False):
        arms = arms_of(table)
        for arm in arms:
            mine = table[(table["granularity"] == arm[0]) & (table["s_c"] == arm[1])]
            curve = mine.groupby("step")["loss"].median()
            own = look(*arm)
            axis.plot(curve.index, curve, color=own["color"], ls=own["ls"], lw=1.6)
            _star(axis, curve, curve.idxmin(), *arm)
        enough = share[setting] >= ENOUGH
        axis.set_title(", ".join(setting) + ("" if enough else ":\nundertrained"))
        axis.set(xlabel="training steps", ylabel="validation loss")
        plain_log(axis, "y")
        axis.yaxis.set_minor_locator(LogLocator(subs=(1.5, 2, 3, 5, 7)))
        axis.locator_params(axis="x", nbins=4)
    _legend(axes.flat[-1], arms, False)
    figure.suptitle("Was the training long enough? Median over the seeds; lower is better")
    return figure
