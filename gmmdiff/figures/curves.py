"""Figures against the steps of training: the story, the metrics that notice, validation losses."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
from gmmdiff.figures.style import WIDTH, level, levels_by, panels, plain_log, with_source
from gmmdiff.judging.contrasts import LONG_ENOUGH

STORY = (
    *(("validation_loss", "all"), ("defect", "seen"), ("defect", "held out")),
    *(("copy", "rare"), ("law", "rare")),
)
BETTER = {"higher": "better \N{RIGHTWARDS ARROW}", "lower": "\N{LEFTWARDS ARROW} better"}
STAR = {"marker": "*", "ms": 13, "ls": "", "mew": 1.3}


def _curve(
    axis: Axes, step: np.ndarray, value: np.ndarray, least: float, own: dict[str, Any]
) -> None:
    """A curve, and a star at the step of the least validation loss, on whatever curve."""
    axis.plot(step, value, color=own["color"], ls=own["ls"], lw=1.8)
    face = own["markerfacecolor"] or own["color"]
    star = STAR | {"mec": own["color"], "mfc": face, "zorder": 3, "clip_on": False}
    axis.plot(least, np.interp(least, step, value), **star)


def _legend(axis: Axes, arms: list[tuple[str, float]], floor: bool) -> None:
    """In an axis of its own: the arms, the star, and fresh real samples."""
    handles = [Line2D([], [], **{**look(*arm), "marker": ""}) for arm in arms]
    handles.append(Line2D([], [], **STAR, mfc="white", mec="0.2", label="least validation loss"))
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
            axis.fill_between(step, low, high, color=own["color"], alpha=0.15, lw=0)
            minima.setdefault(arm, step[middle.argmin()])  # the first panel's is the loss
            _curve(axis, step, middle, minima[arm], own)
        axis.set_title(measure_name(*at, between="\n" if at[0] == "law" else " "))
        plain_log(axis, "x")
        value_axis(axis, at[0])
        axis.tick_params(which="both", labelbottom=True)
    plt.setp([axes[1, 1], axes[2, 0]], xlabel="training steps")
    _legend(axes[2, 1], arms, True)
    figure.suptitle("What changes as the training goes on? Lower is better")
    return figure


@with_source
def notices(table: pd.DataFrame) -> Figure:
    """Every metric at the minimum of the validation loss and at the end of the training, by arm,
    beside fresh real samples; the word is what the metric says of the longer training.
    """
    arms = arms_of(table)
    figure, axes = panels(len(GUESSES), 3, 0.36 * len(arms) + 1, 0.9, sharey=True)
    for axis, (metric, guess) in zip(axes, GUESSES.items(), strict=True):
        part, name = table[table["metric"] == metric], metric[0].upper() + metric[1:]
        if metric == "KID":  # as it is most often told
            part, name = part.assign(value=1000 * part["value"]), "1,000 KID"
        for place, arm in enumerate(arms):
            _arrow(axis, of_arm(part, *arm), place, guess.better == "higher", look(*arm)["color"])
        axis.xaxis.set_major_formatter("{x:g}")
        axis.axvline(part.loc[part["granularity"] == "real", "value"].mean(), zorder=0, **FLOOR)
        axis.set_title(textwrap.fill(name, 22))
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


def _arrow(axis: Axes, table: pd.DataFrame, place: int, higher: bool, colour: str) -> None:
    """From the minimum to the end, in an arm's row."""
    by_seed = table.pivot_table(index="seed", columns="when", values="value")
    ends = [level(by_seed[when]) for when in ("minimum", "end")]
    if None in ends:
        return
    change = level((by_seed["end"] - by_seed["minimum"]) * (1 if higher else -1))
    told = "better" if change.low > 0 else "worse" if change.high < 0 else "unclear"
    start, end = (interval.estimate for interval in ends)
    arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (end, place), (start, place), arrowprops=arrow)
    axis.plot([start, end], [place, place], ls="")  # the arrow alone sets no limits
    axis.plot(start, place, "o", mfc="white", mec=colour, mew=1.5, ms=6)
    above(axis, told, (start + end) / 2, place)


@with_source
def validation_curves(validation: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Median validation losses, up to twice the least, against steps in every setting, a panel a
    world and regime, its title saying where too few runs were trained long enough.

    Args:
        validation: what ``validation_curves`` of the engine gives, with world and regime.
        runs: of the same worlds, with the metric long_enough.
    """
    settings = validation.groupby(["world", "regime"], sort=False)
    figure, (*axes, last) = panels(len(settings) + 1, 3, 2.4, 0.7)
    long_enough = compared(runs[runs["metric"] == "long_enough"])
    share = long_enough.groupby(["world", "regime"])["value"].mean()
    for axis, (setting, table) in zip(axes, settings, strict=True):
        arms, least = arms_of(table), []
        for arm in arms:
            curve = of_arm(table, *arm).groupby("step")["loss"].median()
            _curve(axis, curve.index, curve, curve.idxmin(), look(*arm))
            least.append(curve.min())
        enough = share[setting] >= LONG_ENOUGH
        axis.set_title(", ".join(setting) + ("" if enough else ":\nundertrained"))
        axis.set(xlabel="training steps", ylabel="validation loss")
        plain_log(axis, "y", (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))
        axis.set_ylim(0.95 * min(least), 2 * min(least))
        axis.locator_params(axis="x", nbins=4)
    _legend(last, arms, False)
    figure.suptitle("Was the training long enough? Median over the seeds; lower is better")
    return figure
