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
    FLOOR,
    above,
    arms_of,
    compared,
    look,
    measure_name,
    of_arm,
    of_measure,
    rows_of_arms,
    value_axis,
)
from gmmdiff.figures.style import WIDTH, level, levels_by, plain_log, with_source

ENOUGH = 0.9  # of the runs must be trained long enough
STORY = (
    *(("validation_loss", "all"), ("defect", "seen"), ("defect", "held out")),
    *(("copy", "rare"), ("law", "rare")),
)
BETTER = {"higher": "better \N{RIGHTWARDS ARROW}", "lower": "\N{LEFTWARDS ARROW} better"}


def _star(axis: Axes, curve: pd.Series, step: float, arm: tuple[str, float]) -> None:
    """The minimum of the validation loss, on whatever curve, given by its steps."""
    own, at = look(*arm), np.interp(step, curve.index, curve)
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
    for axis, at in zip(axes.flat, STORY, strict=False):
        for arm in arms:
            levels = levels_by(of_arm(of_measure(table, *at), *arm), "step")
            if not len(levels):
                continue
            (step, middle, low, high), own = levels.T, look(*arm)
            axis.plot(step, middle, color=own["color"], ls=own["ls"], lw=1.8)
            axis.fill_between(step, low, high, color=own["color"], alpha=0.15, lw=0)
            minima.setdefault(arm, step[middle.argmin()])  # the first panel's is the loss
            _star(axis, pd.Series(middle, step), minima[arm], arm)
        axis.set_title(measure_name(*at, between="\n" if at[0] == "law" else " "))
        plain_log(axis, "x")
        value_axis(axis, at[0])
        axis.tick_params(which="both", labelbottom=True)
    for axis in (axes[1, 1], axes[2, 0]):
        axis.set_xlabel("training steps")
    _legend(axes[2, 1], arms, True)
    figure.suptitle("What changes as the training goes on? Lower is better")
    return figure


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
        for place, arm in enumerate(arms):
            _arrow(axis, of_arm(part, *arm), place, guess.better == "higher", arm)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.axvline(part.loc[part["granularity"] == "real", "value"].mean(), zorder=0, **FLOOR)
        axis.set_title(textwrap.fill(metric[0].upper() + metric[1:], 22))
        axis.set_xlabel(f"{BETTER[guess.better]}  (guess: {guess.movement})", fontsize=9)
        axis.margins(x=0.22)
        rows_of_arms(axis, arms)
    start = {"marker": "o", "mfc": "white", "mec": "0.3", "label": "at the least validation loss"}
    end = {"marker": ">", "color": "0.3", "label": "at the end of the training"}
    handles = [*(Line2D([], [], ls="", **one) for one in (start, end)), Line2D([], [], **FLOOR)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    title = "Which metric notices copying?\nThe word: what the metric says of far longer training"
    figure.suptitle(title)
    return figure


def _arrow(
    axis: Axes, table: pd.DataFrame, place: int, higher: bool, arm: tuple[str, float]
) -> None:
    """From the minimum to the end, in the arm's row."""
    by_seed = table.pivot_table(index="seed", columns="when", values="value")
    ends = [level(by_seed[when]) for when in ("minimum", "end")]
    if None in ends:
        return
    change = level((by_seed["end"] - by_seed["minimum"]) * (1 if higher else -1))
    told = "better" if change.low > 0 else "worse" if change.high < 0 else "unclear"
    (start, end), colour = (interval.estimate for interval in ends), look(*arm)["color"]
    arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (end, place), (start, place), arrowprops=arrow)
    axis.plot([start, end], [place, place], ls="")  # the arrow alone sets no limits
    axis.plot(start, place, "o", mfc="white", mec=colour, mew=1.5, ms=6)
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
            curve, own = of_arm(table, *arm).groupby("step")["loss"].median(), look(*arm)
            axis.plot(curve.index, curve, color=own["color"], ls=own["ls"], lw=1.6)
            _star(axis, curve, curve.idxmin(), arm)
        enough = share[setting] >= ENOUGH
        axis.set_title(", ".join(setting) + ("" if enough else ":\nundertrained"))
        axis.set(xlabel="training steps", ylabel="validation loss")
        plain_log(axis, "y")
        axis.yaxis.set_minor_locator(LogLocator(subs=(1.5, 2, 3, 5, 7)))
        axis.locator_params(axis="x", nbins=4)
    _legend(axes.flat[-1], arms, False)
    figure.suptitle("Was the training long enough? Median over the seeds; lower is better")
    return figure
