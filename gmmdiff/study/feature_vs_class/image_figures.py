"""Figures of the comparison on faces and digits, and of all worlds side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmmdiff.study.feature_vs_class.figures import ARM_COLOURS, ARM_MARKERS
from gmmdiff.study.style import PALETTE, iqm_lines, plain_log
from gmmdiff.worlds.world import World

WRONG, BLURRED = {"color": PALETTE[3]}, {"color": "0.25", "ls": (0, (3, 2))}
COLOURS = ARM_COLOURS | {"shared": PALETTE[2], "scrambled": PALETTE[7]}
MARKERS = ARM_MARKERS | {"shared": "D", "scrambled": "v"}
GROUPS = ("seen", "rare", "held out")
FRAMES = "full red frame: wrong attributes (named below); dashed: off the manifold; none: a hit"


def _image(axis: Axes, row: pd.Series, world: World) -> None:
    """One picture; what is wrong with it frames it, and wrong attributes are named below."""
    greys = row.filter(regex=r"^p\d+$").to_numpy(dtype=float).reshape(world.shape)
    axis.imshow(greys, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    wrong = row["shown"] != row["combination"]
    for spine in axis.spines.values():
        spine.set(lw=2.5, **(WRONG if wrong else BLURRED))
        spine.set_visible(bool(wrong or row["off"]))
    if wrong:
        asked, shown = (world.combinations[int(row[name])] for name in ("combination", "shown"))
        named = [
            values[int(is_now)]
            for values, is_now, was in zip(world.values, shown, asked, strict=False)
            if is_now != was
        ]
        told = "\n".join(textwrap.wrap(", ".join(named), 18, max_lines=2, placeholder=" ..."))
        axis.set_xlabel(told, color=PALETTE[3], fontsize="x-small", labelpad=2)


def ask_for_unseen(pictures: pd.DataFrame, world: World, samples: int = 4) -> Figure:
    """Combinations that no training image showed: one real image, then samples of both arms."""
    held_out = pictures[(pictures["group"] == "held out") & (pictures["s_c"] == 0)]
    wanted = list(held_out["combination"].unique())
    columns = [("real", 1), ("class", samples), ("feature", samples)]
    widths = [1] + [w for _, count in columns[1:] for w in (0.25, *[1] * count)]
    figure, axes = plt.subplots(
        len(wanted),
        len(widths),
        figsize=(1.15 * sum(widths) + 1.6, 1.5 * len(wanted) + 0.8),
        gridspec_kw={"width_ratios": widths},
        squeeze=False,
    )
    for line, combination in zip(axes, wanted, strict=True):
        place = 0
        for arm, count in columns:
            if arm != "real":
                line[place].set_visible(False)
                place += 1
            mine = held_out[
                (held_out["granularity"] == arm) & (held_out["combination"] == combination)
            ]
            for (_, row), axis in zip(mine.head(count).iterrows(), line[place:], strict=False):
                _image(axis, row, world)
            place += count
        told = textwrap.fill(world.describe(int(combination)), 22)
        line[0].set_ylabel(told, rotation=0, ha="right", va="center", fontsize="x-small")
    axes[0, 0].set_title("asked for", fontsize="small")
    for arm, start in (("class", 2), ("feature", 3 + samples)):
        axes[0, start].set_title(
            f"what the {arm} denoiser draws", fontsize="small", loc="left", color=ARM_COLOURS[arm]
        )
    figure.suptitle("Ask for a face that no training image showed", fontsize="medium")
    figure.supxlabel(FRAMES, fontsize="small")
    return figure


def sheet(pictures: pd.DataFrame, world: World, title: str) -> Figure:
    """Images of every arm beside real ones: one row an arm, by group of combinations."""
    order = ["real", "class", "shared", "scrambled", "feature"]
    arms = pictures[["granularity", "s_c"]].drop_duplicates()
    arms = arms[arms["granularity"].isin(order)]
    place = arms["granularity"].map(order.index)
    arms = arms.assign(place=place).sort_values(["place", "s_c"])[["granularity", "s_c"]]
    asked = pictures.drop_duplicates(["group", "combination"])[["group", "combination"]]
    columns = [*asked.itertuples(index=False, name=None)]
    wide = world.shape[1] / world.shape[0]
    figure, axes = plt.subplots(
        len(arms), len(columns), figsize=(1.25 * wide**0.7 * len(columns) + 2, 1.3 * len(arms) + 1)
    )
    for line, (arm, s_c) in zip(axes, arms.itertuples(index=False), strict=True):
        mine = pictures[(pictures["granularity"] == arm) & (pictures["s_c"] == s_c)]
        for axis, (_, combination) in zip(line, columns, strict=True):
            _image(axis, mine[mine["combination"] == combination].iloc[0], world)
        kind = "" if arm == "real" else "\nmixture" if s_c else "\npoint"
        line[0].set_ylabel(f"{arm}{kind}", rotation=0, ha="right", va="center", fontsize="small")
    for axis, (group, _) in zip(axes[0], columns, strict=True):
        axis.set_title(group, fontsize="small")
    figure.suptitle(title, fontsize="medium")
    figure.supxlabel(FRAMES, fontsize="small")
    return figure


def reverse_images(strip: pd.DataFrame, world: World) -> Figure:
    """From noise to an image, two combinations, one row each."""
    times = sorted(strip["t"].unique(), reverse=True)
    wanted = list(strip["combination"].unique())
    figure, axes = plt.subplots(len(wanted), len(times), figsize=(1.7 * len(times) + 2, 3.9))
    for line, combination in zip(axes, wanted, strict=True):
        for axis, t in zip(line, times, strict=True):
            row = strip[(strip["t"] == t) & (strip["combination"] == combination)].iloc[0]
            greys = row.filter(regex=r"^p\d+$").to_numpy(dtype=float).reshape(world.shape)
            axis.imshow(greys, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[], title=f"t = {t:.2g}")
            axis.grid(False)
        told = textwrap.fill(world.describe(int(combination)), 22)
        line[0].set_ylabel(told, rotation=0, ha="right", va="center", fontsize="x-small")
    figure.suptitle("From noise to a face: the feature arm, asked for these", fontsize="medium")
    return figure


def comparison_map(runs: pd.DataFrame) -> Figure:
    """Feature minus class over m and n_train, against training images a combination seen."""
    measures = (
        ("miss", "seen", "misses, seen combinations"),
        ("miss", "rare", "misses, rare combinations"),
        ("wrong_attributes", "seen", "wrong attributes, seen"),
        ("energy_distance", "seen", "energy distance, seen"),
    )
    figure, axes = plt.subplots(2, 2, figsize=(12, 9), sharex=True)
    runs = runs[runs["condition"] == "drawn"]
    numbers = sorted(runs["attributes"].unique())
    for axis, (metric, group, title) in zip(axes.flat, measures, strict=True):
        part = runs[(runs["metric"] == metric) & (runs["group"] == group)]
        for m, table in part.groupby("attributes"):
            arms = table.pivot_table(
                index=["n_train", "seed"], columns="granularity", values="value"
            ).dropna()
            if arms.empty:
                continue
            if metric == "energy_distance":
                values, unit = 100 * (arms["feature"] / arms["class"] - 1), "%, relative to class"
            else:
                values, unit = 100 * (arms["feature"] - arms["class"]), "percentage points"
            found = values.rename("value").reset_index()
            found["images"] = found["n_train"] / (2**m * 7 / 8)
            look = {"color": PALETTE[numbers.index(m)], "marker": "o", "label": f"m = {m}"}
            iqm_lines(axis, found, "images", **look)
            axis.set_ylabel(unit)
        axis.axhline(0, color="0.3", lw=1)
        axis.set(xscale="log", title=title)
        axis.set_yscale("symlog", linthresh=20 if metric == "energy_distance" else 1)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.margins(y=0.12)
    for axis in axes[1]:
        axis.set_xlabel("training images a combination")
        axis.xaxis.set_major_formatter("{x:g}")
    axes[0, 0].legend(fontsize="small", title="attributes")
    figure.suptitle(
        "When do features beat classes? Feature minus class: below 0 features are better",
        fontsize="medium",
    )
    return figure


def held_out_by_steps(lengths: Mapping[str, pd.DataFrame]) -> Figure:
    """Misses of the feature arm on held-out and rare combinations against its steps, by world."""
    figure, axes = plt.subplots(1, len(lengths), figsize=(14, 4.8), sharey=True)
    for axis, (world, table) in zip(axes, lengths.items(), strict=True):
        mine = table[(table["granularity"] == "feature") & (table["condition"] == "drawn")]
        mine = mine[mine["metric"] == "miss"]
        for group, colour in (("held out", PALETTE[0]), ("rare", PALETTE[2])):
            for s_c, values in mine[mine["group"] == group].groupby("s_c"):
                look = {"color": colour, "marker": "o", "ls": "-" if s_c else "--"}
                look |= {"markerfacecolor": None if s_c else "white"}
                kind = "mixture" if s_c else "point"
                iqm_lines(axis, values, "steps", label=f"{group}, {kind}", **look)
        steps = sorted(mine["steps"].unique())
        axis.set(xscale="log", xlabel="training steps", title=world, ylim=(0, 1))
        axis.set_xticks(steps, steps, rotation=45)
        axis.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axis.minorticks_off()
    axes[0].set_ylabel("misses of the feature arm")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle("Is composition learned, and lost again?", fontsize="medium")
    return figure


def codes(runs: pd.DataFrame) -> Figure:
    """Feature and class beside their controls shared and scrambled, points, by group."""
    arms = ["class", "shared", "scrambled", "feature"]
    measures = (
        ("miss", "misses"),
        ("wrong_attributes", "wrong attributes"),
        ("energy_distance", "energy distance"),
    )
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6))
    points = runs[(runs["s_c"] == 0) & (runs["condition"] == "drawn")]
    for axis, (metric, name) in zip(axes, measures, strict=True):
        part = points[points["metric"] == metric]
        for shift, arm in zip(np.linspace(-0.21, 0.21, len(arms)), arms, strict=True):
            mine = part[(part["granularity"] == arm) & part["group"].isin(GROUPS)]
            mine = mine.assign(place=mine["group"].map(GROUPS.index) + shift)
            iqm_lines(
                axis, mine, "place", color=COLOURS[arm], marker=MARKERS[arm], label=arm, ls=""
            )
        axis.set_xticks(range(len(GROUPS)), GROUPS)
        axis.set(title=name, xlim=(-0.5, len(GROUPS) - 0.5))
        if metric == "energy_distance":
            plain_log(axis, "y")
            axis.set_ylabel("to the law of what was asked for")
        else:
            axis.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes[0].set_ylabel("share of samples")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(
        "Is it that codes are shared, or what they mean? Lower is better", fontsize="medium"
    )
    return figure
