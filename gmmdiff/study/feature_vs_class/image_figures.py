"""Figures of the comparison on faces and digits, and of all worlds side by side."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from gmmdiff.study import pictures
from gmmdiff.study.feature_vs_class.figures import ARM_COLOURS, ARM_MARKERS, group_lines, kind
from gmmdiff.study.style import (
    PALETTE,
    WIDTH,
    in_percent,
    iqm_lines,
    legend_below,
    plain_log,
    side_by_side,
    with_source,
)
from gmmdiff.worlds.world import World

COLOURS = ARM_COLOURS | {"shared": PALETTE[2], "scrambled": PALETTE[7]}
MARKERS = ARM_MARKERS | {"shared": "D", "scrambled": "v"}
GROUPS = ("seen", "rare", "held out")


@with_source
def ask_for_unseen(images: pd.DataFrame, world: World, samples: int = 4) -> Figure:
    """Combinations that no training image showed: one real image, then samples of both arms."""
    held_out = images[(images["group"] == "held out") & (images["s_c"] == 0)]
    wanted = list(held_out["combination"].unique())
    columns = [("real", 1), ("class", samples), ("feature", samples)]
    widths = [1] + [w for _, count in columns[1:] for w in (0.1, *[1] * count)]
    figure, axes = plt.subplots(
        len(wanted),
        len(widths),
        figsize=(WIDTH, 1.15 * len(wanted) + 0.9),
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
                pictures.of_row(axis, row, world)
            place += count
        pictures.called(line[0], world.describe(int(combination)))
    axes[0, 0].set_title("asked for")
    for arm, start in (("class", 2), ("feature", 3 + samples)):
        place = {"xy": (0, 1), "xytext": (0, 6), "textcoords": "offset points"}
        title = axes[0, start].annotate(
            f"what the {arm} denoiser draws", xycoords="axes fraction", **place
        )
        title.set_in_layout(False)  # it stands above several columns
    figure.suptitle("Ask for a face that no training image showed")
    figure.supxlabel(pictures.FRAMES, fontsize=9)
    return figure


@with_source
def sheet(images: pd.DataFrame, world: World, title: str) -> Figure:
    """Images of every arm beside real ones: one row an arm, by group of combinations."""
    order = ["real", "class", "shared", "scrambled", "feature"]
    images = images[images["granularity"].isin(order)].copy()  # in one block: as read it is in many
    images = images.assign(place=images["granularity"].map(order.index))
    images = images.sort_values(["place", "s_c"], kind="stable")
    arms = zip(images["granularity"], images["s_c"], strict=True)
    named = ["real" if arm == "real" else f"{arm}, {kind(s_c)}" for arm, s_c in arms]
    return pictures.sheet(images.assign(arm=named), world, title)


@with_source
def reverse_images(strip: pd.DataFrame, world: World) -> Figure:
    """From noise to an image, two combinations, one row each."""
    times = sorted(strip["t"].unique(), reverse=True)
    wanted = list(strip["combination"].unique())
    figure, axes = plt.subplots(len(wanted), len(times), figsize=(WIDTH, 2.9), squeeze=False)
    for line, combination in zip(axes, wanted, strict=True):
        for axis, t in zip(line, times, strict=True):
            row = strip[(strip["t"] == t) & (strip["combination"] == combination)].iloc[0]
            pictures.plain(axis, pictures.greys(row, world))
            axis.set_title(f"t = {t:.2g}")
        pictures.called(line[0], world.describe(int(combination)))
    figure.suptitle("From noise (t = 1) to a face (t = 0): the feature arm, asked for these")
    return figure


@with_source
def comparison_map(runs: pd.DataFrame) -> Figure:
    """Feature minus class over m and n_train, against images per combination; points."""
    measures = (
        ("miss", "seen", "misses, seen combinations"),
        ("miss", "rare", "misses, rare combinations"),
        ("wrong_attributes", "seen", "wrong attributes, seen"),
        ("energy_distance", "seen", "energy distance, seen"),
    )
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 6.8), sharex=True)
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
            place = numbers.index(m)
            aside = 1.06 ** (place - (len(numbers) - 1) / 2)  # so that none hides another
            found["images"] = aside * found["n_train"] / (2**m * 7 / 8)
            look = {"color": PALETTE[place], "marker": "osD^vPX"[place], "label": f"m = {m}"}
            iqm_lines(axis, found, "images", **look)
            axis.set_ylabel(unit)
        axis.axhline(0, color="0.3", lw=1)
        axis.set_title(title)
        plain_log(axis, "x")
        smallest = 20 if metric == "energy_distance" else 1
        axis.set_yscale("symlog", linthresh=smallest)
        axis.update_datalim([(0, -smallest), (0, smallest)], updatex=False)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.margins(y=0.12)
    for axis in axes[1]:
        axis.set_xlabel("training images per combination")
    legend_below(figure, axes[0, 0], len(numbers), title="attributes of a face")
    figure.suptitle(
        "When do features beat classes, both with point conditions?\n"
        "Feature minus class: below 0 features are better"
    )
    return figure


@with_source
def held_out_by_steps(lengths: Mapping[str, pd.DataFrame]) -> Figure:
    """Misses of the feature arm on held-out and rare combinations against its steps, by world."""
    figure, axes = plt.subplots(1, len(lengths), figsize=(WIDTH, 4.2), sharey=True)
    for axis, (world, table) in zip(axes, lengths.items(), strict=True):
        mine = table[(table["granularity"] == "feature") & (table["condition"] == "drawn")]
        mine = mine[mine["metric"] == "miss"]
        side_by_side(axis, group_lines(mine), "steps", sorted(mine["steps"].unique()))
        axis.set(xlabel="training steps", title=world, ylim=(0, 1.03))
        axis.tick_params(axis="x", rotation=45)
        in_percent(axis, "y")
    axes[0].set_ylabel("misses of the feature arm")
    legend_below(figure, axes[0], 4)
    figure.suptitle("Is composition learned, and lost again? Lower is better")
    return figure


@with_source
def codes(runs: pd.DataFrame) -> Figure:
    """Feature and class beside their controls shared and scrambled, points, by group."""
    arms = ["class", "shared", "scrambled", "feature"]
    measures = (
        ("miss", "misses"),
        ("wrong_attributes", "wrong attributes"),
        ("energy_distance", "energy distance"),
    )
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 4.4))
    points = runs[(runs["s_c"] == 0) & (runs["condition"] == "drawn")]
    for axis, (metric, name) in zip(axes, measures, strict=True):
        part = points[points["metric"] == metric]
        looks = [{"color": COLOURS[arm], "marker": MARKERS[arm], "label": arm} for arm in arms]
        mine = [part[part["granularity"] == arm] for arm in arms]
        lines = [(table, look | {"ls": ""}) for table, look in zip(mine, looks, strict=True)]
        side_by_side(axis, lines, "group", GROUPS, 0.6)
        axis.set_title(name)
        if metric == "energy_distance":
            plain_log(axis, "y")
            axis.set_title("energy distance\nto the law asked for")
        else:
            in_percent(axis, "y")
    axes[0].set_ylabel("share of samples")
    legend_below(figure, axes[0], 4)
    figure.suptitle("Is it that codes are shared, or what they mean? Lower is better")
    return figure
