"""Figures of the feature-versus-class experiment."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmmdiff.study.style import PALETTE, iqm_lines
from gmmdiff.worlds.arcs import Arcs

ARM_COLOURS = {"none": "0.45", "coarse": PALETTE[4], "class": PALETTE[1], "feature": PALETTE[0]}
ARM_MARKERS = {"none": "X", "coarse": "^", "class": "s", "feature": "o"}
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
    kind = "mixture" if s_c else "point"
    return granularity if granularity == "none" else f"{granularity}, {kind} ($s_c$ = {s_c:g})"


def _arm_lines(axis: Axes, table: pd.DataFrame, x: str) -> None:
    """One line an arm: full for mixture conditions, dashed for points."""
    for (arm, s_c), values in table.groupby(["granularity", "s_c"], sort=False):
        iqm_lines(
            axis,
            values,
            x,
            color=ARM_COLOURS[arm],
            marker=ARM_MARKERS[arm],
            ls="-" if s_c else "--",
            markerfacecolor=None if s_c else "white",
            label=_arm_title(arm, s_c),
        )


def arm_pictures(pictures: pd.DataFrame, manifold: Arcs) -> Figure:
    """Samples of every arm over the true arcs: seen combinations above, held-out ones below;
    defects red.
    """
    arms = [arm for arm in ARM_COLOURS if arm in set(pictures["granularity"])]
    widest = pictures.groupby("granularity")["s_c"].transform("max")
    pictures = pictures[pictures["s_c"] == widest]
    figure, axes = plt.subplots(
        2, len(arms), figsize=(3.4 * len(arms), 7.2), sharex=True, sharey=True, squeeze=False
    )
    u = torch.linspace(0, 1, 200, dtype=torch.float64)
    for column, arm in zip(axes.T, arms, strict=True):
        mine = pictures[pictures["granularity"] == arm]
        for axis, (held_out, table) in zip(column, mine.groupby("held_out"), strict=True):
            wanted = set(table["combination"])
            for c in range(16):
                flat = manifold.points(torch.full((200,), c), u) @ manifold.frame[:, :2]
                axis.plot(flat[:, 0], flat[:, 1], color="0.35" if c in wanted else "0.85", lw=1)
            for defect, colour, marker in ((False, ARM_COLOURS[arm], "."), (True, "red", "x")):
                dots = table[table["defect"] == defect]
                axis.plot(dots["x"], dots["y"], marker, color=colour, markersize=4, alpha=0.7, lw=0)
            share = table["defect"].mean()
            which = "held-out" if held_out else "seen"
            axis.set(
                aspect="equal", xticks=[], yticks=[], title=f"{arm}, {which}: {share:.0%} defects"
            )
            axis.grid(False)
    return figure


def reverse_strip(strip: pd.DataFrame, manifold: Arcs) -> Figure:
    """From noise to data: x_t along the sampler, coloured by the half that was asked for."""
    times = sorted(strip["t"].unique(), reverse=True)
    figure, axes = plt.subplots(
        1, len(times), figsize=(2.5 * len(times), 2.9), sharex=True, sharey=True
    )
    colours = np.array([PALETTE[0], PALETTE[1]])
    for axis, t in zip(axes, times, strict=True):
        now = strip[strip["t"] == t]
        half = manifold.combinations[torch.tensor(now["combination"].to_numpy()), 1].numpy()
        axis.scatter(now["x"], now["y"], c=colours[half], s=2)
        axis.set(title=f"t = {t:.3g}", aspect="equal", xticks=[], yticks=[])
        axis.grid(False)
    axes[0].set_xlabel("blue: upper half asked for, orange: lower", loc="left", fontsize="small")
    return figure


def defects_by_size(runs: pd.DataFrame) -> Figure:
    """Defects, misses and energy distances against n_train for every arm."""
    measures = {
        "defect": "share of defects",
        "miss": "share of misses of the arc asked for",
        "energy_distance": "energy distance to its law",
    }
    figure, axes = plt.subplots(
        len(measures), len(GROUPS), figsize=(14, 11), sharex=True, sharey="row"
    )
    runs = _drawn(runs)
    for line, (metric, name) in zip(axes, measures.items(), strict=True):
        for axis, group in zip(line, GROUPS, strict=True):
            part = runs[(runs["group"] == group) & (runs["metric"] == metric)]
            _arm_lines(axis, part[part["granularity"].isin(list(ARM_COLOURS))], "n_train")
            _floor_and_ceiling(axis, runs, group, metric)
            axis.set(xscale="log")
            if metric == "energy_distance":
                axis.set_yscale("log")
            else:
                _share_axis(axis)
            sizes = sorted(part["n_train"].unique())
            axis.set_xticks(sizes, [f"{n:g}" for n in sizes])
            axis.minorticks_off()
        line[0].set_ylabel(name)
    for axis, group in zip(axes[0], GROUPS, strict=True):
        axis.set_title(f"{group} combinations")
    for axis in axes[-1]:
        axis.set_xlabel("n_train")
    figure.legend(
        *axes[1, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        fontsize="small",
    )
    return figure


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
    figure, axis = plt.subplots(figsize=(13, 0.55 * len(grid) + 2))
    sns.heatmap(
        grid,
        annot=True,
        fmt=".0f",
        cmap="cividis_r",
        vmin=0,
        vmax=100,
        linewidths=1,
        ax=axis,
        cbar_kws={"label": "defects, %"},
    )
    labels = [
        f"{p}" + (" rare" if p in rare else "") if p <= seen else "held out" for p in grid.columns
    ]
    axis.set_xticklabels(labels, rotation=45, ha="right")
    axis.set(
        xlabel="combination, from the most frequent in training",
        ylabel="",
        title=f"Where the defects are, n_train = {largest['n_train'].max()}",
    )
    return figure


def training_checks(
    losses: pd.DataFrame, lengths: pd.DataFrame, samplers: pd.DataFrame, runs: pd.DataFrame
) -> Figure:
    """Training curves; defects against training length, and against the sampler's evaluations."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.4))
    _training_curves(left, losses)
    largest = _drawn(lengths)[_drawn(lengths)["n_train"] == lengths["n_train"].max()]
    seen = largest[(largest["metric"] == "defect") & (largest["group"] == "seen")]
    _arm_lines(middle, seen[seen["granularity"].isin(list(ARM_COLOURS))], "steps")
    steps = sorted(seen["steps"].unique())
    middle.set(xscale="log", xlabel="training steps", title="Is the training long enough?")
    middle.set_xticks(steps, steps)
    _sampler_lines(right, samplers)
    counts = sorted(samplers["evaluations"].unique())
    right.set(xscale="log", xlabel="network evaluations", title="Is the sampler good enough?")
    right.set_xticks(counts, counts, rotation=45)
    for axis in (middle, right):
        axis.set_ylabel("share of defects, seen")
        axis.minorticks_off()
        _share_axis(axis)
        _floor_and_ceiling(axis, runs[runs["n_train"] == runs["n_train"].max()], "seen", "defect")
    left.legend(fontsize="small")
    for axis, down in ((middle, -0.18), (right, -0.26)):
        axis.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, down), ncols=2)
    return figure


def _training_curves(axis: Axes, losses: pd.DataFrame) -> None:
    """``losses`` as ``curves.training_curves`` makes them."""
    for arm, curve in losses.groupby("granularity", sort=False):
        axis.plot(curve["step"], curve["loss"], color=ARM_COLOURS[arm], label=arm)
    title = f"Training curves, n_train = {losses['n_train'].iloc[0]}"
    axis.set(yscale="log", xlabel="step", ylabel="v-loss, median of seeds", title=title)


def _sampler_lines(axis: Axes, samplers: pd.DataFrame) -> None:
    ancestral = samplers["sampler"] == "ancestral"
    few = {"color": ARM_COLOURS["feature"], "marker": "o", "label": "DPM-Solver++(2M)"}
    iqm_lines(axis, samplers[~ancestral], "evaluations", **few)
    look = {"color": "black", "marker": "s", "ls": "", "label": "ancestral"}
    iqm_lines(axis, samplers[ancestral], "evaluations", **look)


def scale_sweep(sweep: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Defects against the scale s_c of the components, one panel a group of combinations; full with
    conditions drawn, dashed at their mean.
    """
    figure, axes = plt.subplots(1, len(GROUPS), figsize=(14, 4.6), sharey=True)
    part = sweep[(sweep["metric"] == "defect") & (sweep["granularity"] != "real")]
    alike = runs[runs["n_train"] == sweep["n_train"].iloc[0]]
    for axis, group in zip(axes, GROUPS, strict=True):
        mine = part[part["group"] == group]
        for (arm, condition), table in mine.groupby(["granularity", "condition"], sort=False):
            drawn = condition == "drawn"
            look = {"color": ARM_COLOURS[arm], "marker": ARM_MARKERS[arm]}
            look |= {"ls": "-" if drawn else ":", "markerfacecolor": None if drawn else "white"}
            label = f"{arm}, {'conditions drawn' if drawn else 'sampled at their mean'}"
            iqm_lines(axis, table, "s_c", label=label, **look)
        _floor_and_ceiling(axis, alike, group, "defect")
        axis.set(xlabel="scale of the components $s_c$", title=f"{group} combinations")
        scales = sorted(part["s_c"].unique())
        axis.set_xticks(scales, [f"{s_c:g}" for s_c in scales])
        _share_axis(axis)
    axes[0].set_ylabel("share of defects")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def learned_and_lost(lengths: pd.DataFrame, tau: float) -> Figure:
    """The feature arm on held-out and on rare combinations against the steps of its training."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6))
    largest = _drawn(lengths)[_drawn(lengths)["n_train"] == lengths["n_train"].max()]
    mine = largest[largest["granularity"] == "feature"]
    measures = (
        ("miss", "share of misses"),
        ("distance_50", "distance to the arc asked for"),
        ("energy_distance", "energy distance to its law"),
    )
    for axis, (metric, name) in zip(axes, measures, strict=True):
        for group, colour in (("held out", PALETTE[0]), ("rare", PALETTE[2])):
            of_group = mine[mine["group"] == group]
            for s_c, table in of_group[of_group["metric"] == metric].groupby("s_c"):
                look = {"color": colour, "marker": "o", "ls": "-" if s_c else "--"}
                look |= {"markerfacecolor": None if s_c else "white"}
                kind = "mixture" if s_c else "point"
                iqm_lines(axis, table, "steps", label=f"{group}, {kind}", **look)
            if metric == "distance_50":
                far = of_group[(of_group["metric"] == "distance_90") & (of_group["s_c"] == 0)]
                look = {"color": colour, "marker": "^", "ls": ":", "markerfacecolor": "white"}
                iqm_lines(axis, far, "steps", label=f"{group}, point, 90 % quantile", **look)
        axis.set(xscale="log", xlabel="training steps", ylabel=name)
        steps = sorted(mine["steps"].unique())
        axis.set_xticks(steps, steps)
        axis.minorticks_off()
        if metric != "miss":
            axis.set_yscale("log")
    axes[0].set(ylim=(0, 1), title="Does it hit the arc asked for?")
    axes[1].axhline(tau, color="0.5", lw=1, label=r"$\tau$: farther is a miss")
    axes[1].set_title("How far away is it? median, 90 % quantile")
    axes[2].set_title("How far is the law?")
    handles = axes[1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize="small")
    return figure


def what_is_predicted(lengths: pd.DataFrame, velocities: pd.DataFrame) -> Figure:
    """Defects against training steps where the network predicts x_0 or v, one panel an arm."""
    arms = ("class", "feature")
    figure, axes = plt.subplots(1, len(arms), figsize=(11, 4.6), sharey=True)
    kinds = (("$x_0$", lengths, PALETTE[0]), ("$v$", velocities, PALETTE[1]))
    for axis, arm in zip(axes, arms, strict=True):
        for name, table, colour in kinds:
            seen = table[(table["group"] == "seen") & (table["metric"] == "defect")]
            seen = _drawn(seen)[_drawn(seen)["n_train"] == velocities["n_train"].max()]
            for s_c, values in seen[seen["granularity"] == arm].groupby("s_c"):
                look = {"color": colour, "marker": "o", "ls": "-" if s_c else "--"}
                look |= {"markerfacecolor": None if s_c else "white"}
                label = f"predicts {name}, {'mixture' if s_c else 'point'}"
                iqm_lines(axis, values, "steps", label=label, **look)
        steps = sorted(
            lengths.loc[lengths["n_train"] == lengths["n_train"].max(), "steps"].unique()
        )
        axis.set(xscale="log", xlabel="training steps", title=arm)
        axis.set_xticks(steps, steps)
        axis.minorticks_off()
        _share_axis(axis)
    axes[0].set_ylabel("share of defects, seen")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize="small")
    return figure
