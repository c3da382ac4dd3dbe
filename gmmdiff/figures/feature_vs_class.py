"""Figures of the feature-versus-class experiment: arms, their levels, and the map."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gmmdiff.figures.style import (
    APART,
    PALETTE,
    WIDTH,
    arc,
    bare,
    in_percent,
    iqm_lines,
    legend_below,
    level,
    panels,
    plain_log,
    side_by_side,
    with_source,
)
from gmmdiff.judging.feature_vs_class import JUDGED
from gmmdiff.worlds.arcs import Arcs

COLOURS = {"class": PALETTE[1], "shared": PALETTE[2], "scrambled": "0.45", "feature": PALETTE[0]}
MARKERS = {"class": "s", "shared": "D", "scrambled": "v", "feature": "o"}
FLOOR = {"color": "0.3", "ls": ":", "lw": 1.4, "label": "fresh real samples"}
Measures = Mapping[tuple[str, str], Sequence[str]]  # metric and group -> claims that ask it
LEVELS: Measures = {
    ("defect", "seen"): ["F1", "F4"],
    ("defect", "rare"): ["F2"],
    ("defect", "held out"): ["F3"],
    ("wrong", "held out"): ["F3"],
    ("copy", "rare"): ["F6"],
    ("law", "rare"): ["F7"],
}
CONTROLS: Measures = {
    ("defect", "rare"): ["F5"],
    ("law", "rare"): ["F5"],
    ("wrong", "held out"): ["F3"],
    ("copy", "rare"): [],
}
MAP = (("defect", "seen"), ("defect", "held out"), ("copy", "rare"), ("law", "rare"))
METRICS = {
    "defect": "Defects on",
    "wrong": "Wrong attributes on",
    "copy": "Copies on",
    "law": "Distance to the true law,",
    "validation_loss": "Validation loss",
}
UNITS = {"law": "times that of fresh real samples", "validation_loss": "v-loss on fresh samples"}
SAMPLERS = {
    "DPM-Solver++(2M)": {"ls": "-"},
    "Adams-Bashforth-Moulton": {"ls": "--"},
    "ancestral": {"ls": "", "markersize": 8, "markerfacecolor": "white"},
}
LEAST_AXIS = 0.01  # of a share: less is no difference to be seen


def measure_name(metric: str, group: str, claims: Sequence[str] = (), between: str = "\n") -> str:
    """A measure as a panel's title: "Defects on / held-out combinations (F3)"."""
    if group == "all":
        return METRICS[metric]
    asked = f" ({', '.join(claims)})" if claims else ""
    return f"{METRICS[metric]}{between}{group.replace(' ', '-')} combinations{asked}"


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of class and feature at the scales of the feature arm, conditions as in training.

    A class arm at another scale is a control.
    """
    scales = table.loc[table["granularity"] == "feature", "s_c"].unique()
    drawn = table["condition"] == "drawn" if "condition" in table else True
    both = table["granularity"].isin(("class", "feature"))
    return table[both & table["s_c"].isin(scales) & drawn]


def arms_of(table: pd.DataFrame) -> list[tuple[str, float]]:
    """Granularity and scale of the arms that are ``compared``."""
    rows = compared(table)[["granularity", "s_c"]].drop_duplicates()
    return sorted(rows.itertuples(index=False, name=None))


def of_arm(table: pd.DataFrame, granularity: str, s_c: float) -> pd.DataFrame:
    """The rows of one arm."""
    return table[(table["granularity"] == granularity) & (table["s_c"] == s_c)]


def of_measure(runs: pd.DataFrame, metric: str, group: str) -> pd.DataFrame:
    """The rows of one metric and group of combinations."""
    return runs[(runs["metric"] == metric) & (runs["group"] == group)]


def arm_name(granularity: str, s_c: float) -> str:
    """An arm in words, e.g. "class, points"."""
    return f"{granularity}, {'mixtures' if s_c else 'points'}"


def look(granularity: str, s_c: float) -> dict[str, Any]:
    """An arm's line: full and filled for mixture conditions, dashed and open for points."""
    return {
        "color": COLOURS[granularity],
        "marker": MARKERS[granularity],
        "ls": "-" if s_c else "--",
        "markerfacecolor": None if s_c else "white",
        "label": arm_name(granularity, s_c),
    }


def value_axis(axis: Axes, metric: str) -> None:
    """The y axis of a metric: its unit, from 0, where it is a share in per cent."""
    axis.set_ylabel(UNITS.get(metric, "share of samples"))
    if metric == "validation_loss":
        plain_log(axis, "y")
    elif metric == "law":
        axis.axhline(1, **FLOOR)
    else:
        axis.set_ylim(0, max(LEAST_AXIS, axis.get_ylim()[1]))
        in_percent(axis, "y")


@with_source
def arm_pictures(pictures: pd.DataFrame, arcs: Arcs) -> Figure:
    """Samples of class and feature, points, over the true arcs: seen combinations above, held-out
    ones below; defects red.
    """
    pictures = compared(pictures[pictures["s_c"] == 0])
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 6.2), sharex=True, sharey=True)
    for column, (arm, mine) in zip(axes.T, pictures.groupby("granularity"), strict=True):
        for axis, (held_out, table) in zip(column, mine.groupby("held_out"), strict=True):
            wanted = set(table["combination"])
            for c in range(len(arcs.combinations)):
                axis.plot(*arc(arcs, c), color="0.35" if c in wanted else "0.85", lw=1)
            for defect, colour, marker in ((False, COLOURS[arm], "."), (True, "red", "x")):
                dots = table[table["defect"] == defect]
                axis.plot(dots["x"], dots["y"], marker, color=colour, markersize=4, lw=0)
            which = "held-out" if held_out else "seen"
            bare(axis, f"{arm}, {which} combinations: {percent(table['defect'].mean())} defects")
    figure.suptitle("What do the arms draw? Dark arcs were asked for; red crosses are defects")
    return figure


@with_source
def reverse_strip(strip: pd.DataFrame, arcs: Arcs) -> Figure:
    """From noise to data: x_t along the sampler, coloured by the half that was asked for."""
    strip = strip.sort_values("x")  # or one half would hide the other
    times = sorted(strip["t"].unique(), reverse=True)
    figure, axes = panels(len(times), -(-len(times) // 2), 2.6, 0, sharex=True, sharey=True)
    halves = arcs.combinations[strip["combination"].tolist(), 1]
    looks = [("upper half asked for", PALETTE[4]), ("lower half asked for", PALETTE[2])]
    strip = strip.assign(colour=[looks[half][1] for half in halves])
    for axis, t in zip(axes, times, strict=True):
        now = strip[strip["t"] == t]
        axis.scatter(now["x"], now["y"], s=5, lw=0, c=now["colour"])
        bare(axis, f"t = {t:.3g}")
    for label, colour in looks:
        axes[0].plot([], [], ".", ms=3, color=colour, label=label)
    legend_below(figure, axes[0], 2, markerscale=4)
    figure.suptitle("How do samples come about? From noise (t = 1) to data (t = 0), feature arm")
    return figure


@with_source
def sampler_check(samplers: pd.DataFrame) -> Figure:
    """Defects, copies and law against the evaluations of each sampler: a column a world, a row a
    metric for points and one for mixtures.

    The experiment uses half of the most evaluations of DPM-Solver++(2M).  With fewer than half of
    these a sampler of high order is so wrong that nothing else would be seen: left out.
    """
    worlds = samplers["world"].unique()
    asked = {"defect": "defects", "copy": "copies", "law": "distance, fresh = 1"}
    used = samplers.loc[samplers["sampler"] != "ancestral", "evaluations"].max() // 2
    samplers = samplers[samplers["evaluations"] >= used / 2]
    counts, rows = sorted(samplers["evaluations"].unique()), [*product(asked, (False, True))]
    figure, axes = panels(len(rows) * len(worlds), len(worlds), 1.8, 1.2, sharex=True)
    for axis, ((metric, mixture), world) in zip(axes, product(rows, worlds), strict=True):
        part, arms = samplers.query("metric == @metric and world == @world"), []
        part = part[(part["s_c"] > 0) == mixture]
        for (granularity, sampler), table in part.groupby(["granularity", "sampler"], sort=False):
            own = look(granularity, 0.0) | {"label": f"{granularity}, {sampler}"}
            arms.append((table, own | SAMPLERS[sampler]))
        side_by_side(axis, arms, "evaluations", counts)
        place = counts.index(used)
        axis.axvspan(place - 0.4, place + 0.4, color="0.9", zorder=0, label="used here")
        value_axis(axis, metric)
        axis.set_title(world if (metric, mixture) == rows[0] else None)
        named = f"{asked[metric]},\n{'mixtures' if mixture else 'points'}"
        axis.set_ylabel(named if world == worlds[0] else None)
    axes[-2].set_xlabel(f"network evaluations a sample {APART}")
    legend_below(figure, axes[-1], 2)
    where = f"Seen combinations, {samplers['seed'].nunique()} seeds"
    figure.suptitle(f"How much does the sampler matter? {where}; lower is better")
    return figure


def _rows(axis: Axes, runs: pd.DataFrame, arms: Sequence[tuple[str, float]], metric: str) -> None:
    """One metric of one group: a row an arm, from the top, its level written above its dot."""
    share = metric != "law"
    ends = [LEAST_AXIS if share else 1]
    for place, arm in enumerate(arms):
        if (found := level(of_arm(runs, *arm)["value"])) is None:
            continue
        own = look(*arm)
        axis.plot([found.low, found.high], [place, place], color=own["color"], lw=2.5)
        axis.plot(found.estimate, place, **own, markersize=7, markeredgewidth=1.5)
        told = percent(found.estimate) if share else f"{found.estimate:.2f}"
        above(axis, told, found.estimate, place)
        ends.append(found.high)
    real = runs.loc[runs["granularity"] == "real", "value"]
    if len(real):
        axis.axvline(real.mean(), zorder=0, **FLOOR)
        ends.append(real.mean())
    axis.set_xlim(-0.16 * max(ends), 1.16 * max(ends))
    axis.set_xlabel(UNITS.get(metric, "share of samples"), fontsize=9)
    rows_of_arms(axis, arms)
    if share:
        in_percent(axis, "x")


def rows_of_arms(axis: Axes, arms: Sequence[tuple[str, float]]) -> None:
    """The y axis of a panel with a row an arm, from the top."""
    axis.set_ylim(len(arms) - 0.6, -0.9)
    axis.set_yticks(range(len(arms)), [arm_name(*arm) for arm in arms])
    axis.grid(axis="y", visible=False)
    axis.locator_params(axis="x", nbins=4)


def above(axis: Axes, told: str, x: float, y: float) -> None:
    """A few words above a point, legible over the line of fresh real samples."""
    near = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.2}
    axis.annotate(told, (x, y), fontsize=9, bbox=paper, **near)


def percent(share: float) -> str:
    """A share in per cent, with a digit after the point where it is below 10 %."""
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"


def _dots(
    runs: pd.DataFrame, arms: Sequence[tuple[str, float]], measures: Measures, columns: int
) -> Figure:
    """A panel a measure, of those whose group there is in the runs; its title tells where some
    seeds lack the group.
    """
    runs = runs[runs["condition"] == "drawn"]
    there = {at: of_measure(runs, *at) for at in measures if len(of_measure(runs, *at))}
    figure, axes = panels(len(there), columns, 0.36 * len(arms) + 1, 0.8, sharey=True)
    for axis, (at, table) in zip(axes, there.items(), strict=True):
        _rows(axis, table, arms, at[0])
        own, every = table["seed"].nunique(), runs["seed"].nunique()
        few = f"\nonly {own} of {every} seeds have any" if own < every else ""
        axis.set_title(measure_name(*at, measures[at]) + few, fontsize=9.5)
    bar = {"color": "0.3", "lw": 2.5, "marker": "o", "markersize": 7}
    told = "mean over the seeds (interquartile), 95 % interval"
    handles = [Line2D([], [], label=told, **bar), Line2D([], [], **FLOOR)]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@with_source
def levels(runs: pd.DataFrame, where: str, asked: Collection[str] = JUDGED) -> Figure:
    """What class and feature reach, with points and mixtures, beside fresh real samples.

    Args:
        runs: of one world and regime. where: what these are called. asked: the claims named.
    """
    named = {at: [claim for claim in claims if claim in asked] for at, claims in LEVELS.items()}
    figure = _dots(runs, arms_of(runs), named, 3)
    figure.suptitle(f"{where}: who draws better, classes or features?\nFurther left is better")
    return figure


@with_source
def controls(runs: pd.DataFrame, where: str) -> Figure:
    """Class and feature beside the controls shared and scrambled, all with point conditions."""
    figure = _dots(runs, [(granularity, 0.0) for granularity in COLOURS], CONTROLS, 2)
    title = f"{where}: is it what the codes mean, or that they are shared?"
    figure.suptitle(f"{title}\nFurther left is better")
    return figure


@with_source
def comparison_map(runs: pd.DataFrame) -> Figure:
    """Levels of class and feature, points, against training images a combination, by m."""
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 6.6), sharex=True)
    numbers = sorted(runs["attributes"].unique())
    runs = compared(runs[runs["s_c"] == 0])
    for axis, at in zip(axes.flat, MAP, strict=True):
        for (m, granularity), table in of_measure(runs, *at).groupby(["attributes", "granularity"]):
            place = numbers.index(m)
            aside = 1.05 ** (2 * place - len(numbers) + (granularity == "feature"))
            images = aside * table["n_train"] / (2**m * 7 / 8)  # an eighth is held out
            own = look(granularity, 0.0) | {"marker": "osD^vPX"[place], "alpha": 0.9}
            own |= {"label": f"{granularity}, m = {m}", "ls": (":", "--", "-", "-.")[place % 4]}
            iqm_lines(axis, table.assign(images=images), "images", **own)
        axis.set_title(measure_name(*at, between="\n" if at[0] == "law" else " "))
        value_axis(axis, at[0])
        plain_log(axis, "x")
    axes[1, 1].set_ylim(bottom=0.8)
    plt.setp(axes[1], xlabel="training images per combination")
    handles, _ = axes[0, 0].get_legend_handles_labels()
    title, handles = "m: number of attributes of a face", [*handles, Line2D([], [], **FLOOR)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, title=title)
    figure.suptitle("When do features beat classes? Both with point conditions; lower is better")
    return figure
