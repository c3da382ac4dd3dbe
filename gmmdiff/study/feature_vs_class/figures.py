"""Figures of the feature-versus-class experiment."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmmdiff.study.style import (
    PALETTE,
    WIDTH,
    Arms,
    legend_below,
    plain_log,
    side_by_side,
    with_source,
)
from gmmdiff.worlds.arcs import Arcs

ARM_COLOURS = {"none": "0.45", "coarse": PALETTE[4], "class": PALETTE[1], "feature": PALETTE[0]}
ARM_MARKERS = {"none": "X", "coarse": "^", "class": "s", "feature": "o"}
DEFECT = "red"
GROUPS = ("seen", "rare", "held out")


def _drawn(runs: pd.DataFrame) -> pd.DataFrame:
    """Samples whose conditions were drawn, as in training."""
    return runs[runs["condition"] == "drawn"]


def _floor_and_ceiling(axis: Axes, runs: pd.DataFrame, group: str, metric: str) -> None:
    """What real samples reach, and the unconditional model, which is judged by its misses.

    Its condition admits every arc, so its defects are judged too mildly to compare.
    """
    points = runs[(runs["group"] == group) & (runs["s_c"] == 0)]
    values = points.set_index(["granularity", "metric"])["value"]
    floor = values["real", metric].mean()
    ceiling = values["none", "miss" if metric == "defect" else metric].mean()
    axis.axhline(floor, color="0.5", ls=":", lw=1.2, label="floor: real samples")
    axis.axhline(ceiling, color="0.5", ls="-.", lw=1.2, label="ceiling: unconditional (misses)")


def _share_axis(axis: Axes) -> None:
    """Shares from 0 to 100 %, logarithmic above 0.1 %: floor and ceiling lie decades apart."""
    axis.set_yscale("symlog", linthresh=1e-3, linscale=0.4)
    axis.set_ylim(-1e-4, 1.4)
    axis.set_yticks([0, 1e-3, 1e-2, 1e-1, 1], ["0", "0.1 %", "1 %", "10 %", "100 %"])


def _arm_title(granularity: str, s_c: float) -> str:
    return granularity if granularity == "none" else f"{granularity}, {kind(s_c)} ($s_c$ = {s_c:g})"


def _arms(table: pd.DataFrame) -> Arms:
    """Every arm with its look: a full line for mixture conditions, dashed for points."""
    return [
        (
            values,
            {"color": ARM_COLOURS[arm], "marker": ARM_MARKERS[arm]}
            | point_or_mixture(s_c)
            | {"label": _arm_title(arm, s_c)},
        )
        for (arm, s_c), values in table.groupby(["granularity", "s_c"], sort=False)
        if arm in ARM_COLOURS
    ]


def point_or_mixture(s_c: float) -> dict[str, str | None]:
    """The look of a line: full and filled for mixture conditions, dashed and open for points."""
    return {"ls": "-" if s_c else "--", "markerfacecolor": None if s_c else "white"}


def kind(s_c: float) -> str:
    """The name of a condition of scale ``s_c``."""
    return "mixture" if s_c else "point"


@with_source
def arm_pictures(pictures: pd.DataFrame, manifold: Arcs) -> Figure:
    """Samples of every arm over the true arcs: seen combinations above, held-out ones below;
    defects red.
    """
    arms = [arm for arm in ARM_COLOURS if arm in set(pictures["granularity"])]
    widest = pictures.groupby("granularity")["s_c"].transform("max")
    pictures = pictures[pictures["s_c"] == widest]
    figure, axes = plt.subplots(
        2, len(arms), figsize=(WIDTH, 4.9), sharex=True, sharey=True, squeeze=False
    )
    u = torch.linspace(0, 1, 200, dtype=torch.float64)
    for column, arm in zip(axes.T, arms, strict=True):
        mine = pictures[pictures["granularity"] == arm]
        for axis, (held_out, table) in zip(column, mine.groupby("held_out"), strict=True):
            wanted = set(table["combination"])
            for c in range(16):
                flat = manifold.points(torch.full((200,), c), u) @ manifold.frame[:, :2]
                axis.plot(flat[:, 0], flat[:, 1], color="0.35" if c in wanted else "0.85", lw=1)
            for defect, colour, marker in ((False, ARM_COLOURS[arm], "."), (True, DEFECT, "x")):
                dots = table[table["defect"] == defect]
                axis.plot(dots["x"], dots["y"], marker, color=colour, markersize=3.5, lw=0)
            share = table["defect"].mean()
            which = "held-out" if held_out else "seen"
            title = f"{arm}, {which}:\n{share:.0%} defects"
            axis.set(aspect="equal", xticks=[], yticks=[], title=title)
            axis.spines[:].set_visible(False)
    figure.suptitle("What do the arms draw? Dark arcs were asked for; red crosses are defects")
    return figure


@with_source
def reverse_strip(strip: pd.DataFrame, manifold: Arcs) -> Figure:
    """From noise to data: x_t along the sampler, coloured by the half that was asked for."""
    times = sorted(strip["t"].unique(), reverse=True)
    columns = -(-len(times) // 2)
    figure, axes = plt.subplots(
        2, columns, figsize=(WIDTH, 5.2), sharex=True, sharey=True, squeeze=False
    )
    for axis in axes.flat[len(times) :]:
        axis.set_visible(False)
    halves = manifold.combinations[torch.tensor(strip["combination"].to_numpy()), 1].numpy()
    for axis, t in zip(axes.flat, times, strict=False):
        for half, name, colour in ((0, "upper", PALETTE[0]), (1, "lower", PALETTE[1])):
            now = strip[(strip["t"] == t) & (halves == half)]
            axis.plot(now["x"], now["y"], ".", color=colour, ms=3, label=f"{name} half asked for")
        axis.set(title=f"t = {t:.3g}", aspect="equal", xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    legend_below(figure, axes[0, 0], 2, markerscale=4)
    figure.suptitle("From noise (t = 1) to data (t = 0): the feature arm at work")
    return figure


@with_source
def defects_by_size(runs: pd.DataFrame) -> Figure:
    """Defects, misses and energy distances against n_train for every arm."""
    measures = {
        "defect": "share of defects",
        "miss": "share of misses\nof the arc asked for",
        "energy_distance": "energy distance\nto its law",
    }
    figure, axes = plt.subplots(len(measures), len(GROUPS), figsize=(WIDTH, 8.6), sharex=True)
    runs = _drawn(runs)
    for line, (metric, name) in zip(axes, measures.items(), strict=True):
        for axis, group in zip(line, GROUPS, strict=True):
            part = runs[(runs["group"] == group) & (runs["metric"] == metric)]
            side_by_side(axis, _arms(part), "n_train", sorted(part["n_train"].unique()), 0.5)
            _floor_and_ceiling(axis, runs, group, metric)
            if metric == "energy_distance":
                axis.set_yscale("log")
            else:
                _share_axis(axis)
                axis.tick_params(labelleft=axis is line[0])
        line[0].set_ylabel(name)
    for axis, group in zip(axes[0], GROUPS, strict=True):
        axis.set_title(f"{group} combinations")
    for axis in axes[-1]:
        axis.set_xlabel("training points")
    legend_below(figure, axes[1, 0], 3)
    figure.suptitle("Who makes fewer defects? Lower is better")
    return figure


@with_source
def defect_map(places: pd.DataFrame) -> Figure:
    """Mean share of defects by arm and combination, at the largest n_train."""
    largest = places[places["n_train"] == places["n_train"].max()]
    seen = int(largest.loc[largest["group"] != "held out", "place"].max())
    rare = sorted(largest.loc[largest["group"] == "rare", "place"].unique())
    arm = largest["granularity"] + np.where(
        largest["granularity"] == "none", "", largest["s_c"].map(", $s_c$ = {:g}".format)
    )
    grid = 100 * largest.assign(arm=arm).pivot_table(
        index="arm", columns="place", values="value", sort=False
    )
    figure, axis = plt.subplots(figsize=(WIDTH, 0.36 * len(grid) + 1.8))
    sns.heatmap(
        grid,
        annot=True,
        fmt=".0f",
        cmap="cividis_r",
        vmin=0,
        vmax=100,
        linewidths=1,
        ax=axis,
        cbar=False,
        annot_kws={"size": 9},
    )
    labels = [
        f"{p}" + (" rare" if p in rare else "") if p <= seen else "held out" for p in grid.columns
    ]
    axis.set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=90)
    axis.set(xlabel="combination, from the most frequent in training", ylabel="")
    figure.suptitle(
        f"Where are the defects? Per cent at {largest['n_train'].max()} training points"
    )
    return figure


@with_source
def training_checks(
    losses: pd.DataFrame, lengths: pd.DataFrame, samplers: pd.DataFrame, runs: pd.DataFrame
) -> Figure:
    """Training curves; defects against training length, and against the sampler's evaluations."""
    figure, axes = plt.subplot_mosaic(
        [["losses", "samplers"], ["steps", "steps"]], figsize=(WIDTH, 7.2)
    )
    _training_curves(axes["losses"], losses)
    largest = _drawn(lengths)[_drawn(lengths)["n_train"] == lengths["n_train"].max()]
    seen = largest[(largest["metric"] == "defect") & (largest["group"] == "seen")]
    by_steps, by_calls = axes["steps"], axes["samplers"]
    side_by_side(by_steps, _arms(seen), "steps", sorted(seen["steps"].unique()))
    by_steps.set(xlabel="training steps", title="Is the training long enough?")
    _sampler_lines(by_calls, samplers)
    by_calls.set(xlabel="network evaluations", title="Is the sampler good enough?")
    for axis in (by_steps, by_calls):
        axis.set_ylabel("share of defects, seen")
        _share_axis(axis)
        _floor_and_ceiling(axis, runs[runs["n_train"] == runs["n_train"].max()], "seen", "defect")
    axes["losses"].legend()
    handles = dict(zip(*reversed(by_steps.get_legend_handles_labels()), strict=True))
    handles |= dict(zip(*reversed(by_calls.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    figure.suptitle("Do training and sampling suffice? Lower is better")
    return figure


def _training_curves(axis: Axes, losses: pd.DataFrame) -> None:
    """``losses`` as ``curves.training_curves`` makes them."""
    for arm, curve in losses.groupby("granularity", sort=False):
        look = {"color": ARM_COLOURS[arm], "ls": "--" if arm == "feature" else "-"}
        axis.plot(curve["step"], curve["loss"], label=arm, **look)
    plain_log(axis, "y")
    title = f"Training curves, {losses['n_train'].iloc[0]} points"
    axis.set(xlabel="step", ylabel="v-loss, median of seeds", title=title)


def _sampler_lines(axis: Axes, samplers: pd.DataFrame) -> None:
    ancestral = samplers["sampler"] == "ancestral"
    few = {"color": ARM_COLOURS["feature"], "marker": "o", "label": "DPM-Solver++(2M)"}
    many = {"color": "black", "marker": "s", "ls": "", "label": "ancestral"}
    arms = [(samplers[~ancestral], few), (samplers[ancestral], many)]
    side_by_side(axis, arms, "evaluations", sorted(samplers["evaluations"].unique()), 0)


@with_source
def scale_sweep(sweep: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Defects against the scale s_c of the components, one panel a group of combinations; full with
    conditions drawn, dashed at their mean.
    """
    figure, axes = plt.subplots(1, len(GROUPS), figsize=(WIDTH, 4.6), sharey=True)
    part = sweep[(sweep["metric"] == "defect") & (sweep["granularity"] != "real")]
    alike = runs[runs["n_train"] == sweep["n_train"].iloc[0]]
    for axis, group in zip(axes, GROUPS, strict=True):
        mine = part[part["group"] == group]
        arms = []
        for (arm, condition), table in mine.groupby(["granularity", "condition"], sort=False):
            drawn = condition == "drawn"
            look = {"color": ARM_COLOURS[arm], "marker": ARM_MARKERS[arm]}
            look |= {"ls": "-" if drawn else ":", "markerfacecolor": None if drawn else "white"}
            look["label"] = f"{arm}, {'conditions drawn' if drawn else 'sampled at their mean'}"
            arms.append((table, look))
        side_by_side(axis, arms, "s_c", sorted(part["s_c"].unique()))
        _floor_and_ceiling(axis, alike, group, "defect")
        axis.set(xlabel="scale $s_c$", title=f"{group} combinations")
        _share_axis(axis)
    axes[0].set_ylabel("share of defects")
    legend_below(figure, axes[0], 2)
    figure.suptitle("What does a condition drawn from a wider component cost? Lower is better")
    return figure


@with_source
def learned_and_lost(lengths: pd.DataFrame, tau: float) -> Figure:
    """The feature arm on held-out and on rare combinations against the steps of its training."""
    figure, axes = plt.subplot_mosaic(
        [["miss", "energy_distance"], ["distance_50", "distance_50"]], figsize=(WIDTH, 7)
    )
    largest = _drawn(lengths)[_drawn(lengths)["n_train"] == lengths["n_train"].max()]
    mine = largest[largest["granularity"] == "feature"]
    for metric, axis in axes.items():
        arms = group_lines(mine[mine["metric"] == metric])
        if metric == "distance_50":
            far = mine[(mine["metric"] == "distance_90") & (mine["s_c"] == 0)]
            look = {"marker": "^", "ls": ":"}
            arms += [
                (table, known | look | {"label": f"{known['label']}, 90 % quantile"})
                for table, known in group_lines(far)
            ]
        side_by_side(axis, arms, "steps", sorted(mine["steps"].unique()))
        axis.set(xlabel="training steps")
        if metric != "miss":
            axis.set_yscale("log")
    axes["miss"].set(ylim=(0, 1.03), title="Does it hit the arc asked for?")
    axes["miss"].set_ylabel("share of misses")
    axes["energy_distance"].set(title="How far is the law?", ylabel="energy distance to its law")
    far_away = axes["distance_50"]
    far_away.axhline(tau, color="0.5", lw=1, label=r"$\tau$: farther is a miss")
    far_away.set(title="How far away is it? Median, 90 % quantile")
    far_away.set_ylabel("distance to the arc asked for")
    legend_below(figure, far_away, 3)
    figure.suptitle("Is composition learned, and lost again? The feature arm; lower is better")
    return figure


def group_lines(table: pd.DataFrame) -> Arms:
    """Held-out and rare combinations, points and mixtures, each with its look."""
    return [
        (
            values,
            {"color": colour, "marker": "o", "label": f"{group}, {kind(s_c)}"}
            | point_or_mixture(s_c),
        )
        for group, colour in (("held out", PALETTE[0]), ("rare", PALETTE[2]))
        for s_c, values in table[table["group"] == group].groupby("s_c")
    ]


@with_source
def what_is_predicted(lengths: pd.DataFrame, velocities: pd.DataFrame) -> Figure:
    """Defects against training steps where the network predicts x_0 or v, one panel an arm."""
    granularities = ("class", "feature")
    figure, axes = plt.subplots(1, len(granularities), figsize=(WIDTH, 4.4), sharey=True)
    predictions = (("$x_0$", "o", lengths, PALETTE[0]), ("$v$", "s", velocities, PALETTE[1]))
    largest = velocities["n_train"].max()
    steps = sorted(lengths.loc[lengths["n_train"] == largest, "steps"].unique())
    for axis, granularity in zip(axes, granularities, strict=True):
        arms = []
        for name, marker, table, colour in predictions:
            mine = _drawn(table)[_drawn(table)["granularity"] == granularity]
            mine = mine[(mine["group"] == "seen") & (mine["metric"] == "defect")]
            for s_c, values in mine[mine["n_train"] == largest].groupby("s_c"):
                look = {"color": colour, "marker": marker} | point_or_mixture(s_c)
                arms.append((values, look | {"label": f"predicts {name}, {kind(s_c)}"}))
        side_by_side(axis, arms, "steps", steps)
        axis.set(xlabel="training steps", title=f"{granularity} arm")
        _share_axis(axis)
    axes[0].set_ylabel("share of defects, seen")
    legend_below(figure, axes[0], 4)
    figure.suptitle("Which prediction needs fewer steps, data or velocity? Lower is better")
    return figure
