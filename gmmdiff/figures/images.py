"""Pictures of faces and digits: what was asked for, what is drawn, and what it is a copy of."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gmmdiff.figures import pictures
from gmmdiff.figures.feature_vs_class import COLOURS, arm_name, compared
from gmmdiff.figures.style import PALETTE, WIDTH, with_source
from gmmdiff.worlds.world import World

COPY = {"color": PALETTE[4], "lw": 3}
DENOISERS = ("class", "feature")


def _samples(images: pd.DataFrame, group: str) -> pd.DataFrame:
    """What real data, class and feature show of one group, points."""
    mine = images[(images["group"] == group) & (images["s_c"] == 0)]
    return mine[mine["granularity"].isin(("real", *DENOISERS))]


@with_source
def ask_for_unseen(images: pd.DataFrame, world: World, samples: int = 4) -> Figure:
    """Combinations that no training image showed: one real image, then samples of both arms."""
    held_out = _samples(images, "held out").query("role == 'sample'")
    wanted = list(held_out["combination"].unique())
    places = {"real": [0], "class": range(2, 2 + samples)}
    places["feature"] = range(3 + samples, 3 + 2 * samples)
    widths = np.full(3 + 2 * samples, 1.0)
    widths[[1, 2 + samples]] = 0.12
    figure, axes = plt.subplots(
        len(wanted),
        len(widths),
        figsize=(WIDTH, 1.05 * len(wanted) + 1.2),
        gridspec_kw={"width_ratios": widths},
        squeeze=False,
    )
    for axis in axes[:, [1, 2 + samples]].flat:
        axis.set_visible(False)
    for line, combination in zip(axes, wanted, strict=True):
        for arm, columns in places.items():
            asked = held_out["combination"] == combination
            mine = held_out[asked & (held_out["granularity"] == arm)]
            for (_, row), column in zip(mine.iterrows(), columns, strict=False):
                pictures.of_row(line[column], row, world)
        pictures.called(line[0], world.describe(int(combination)))
    axes[0, 0].set_title("asked for")
    for arm in DENOISERS:
        shown = held_out[held_out["granularity"] == arm].groupby("combination").head(samples)
        right = int(((shown["shown"] == shown["combination"]) & ~shown["malformed"]).sum())
        _above(axes[0, places[arm][0]], f"{arm} denoiser: {right} of {len(shown)} right")
    figure.suptitle("What do you get when you ask for a face that no training image showed?")
    pictures.legend_of_frames(figure)
    return figure


@with_source
def sheet(images: pd.DataFrame, world: World, title: str) -> Figure:
    """Images of every arm beside real ones: one row an arm, by group of combinations."""
    order = ["real", *COLOURS]
    images = images[images["granularity"].isin(order) & (images["role"] == "sample")]
    images = images.copy()  # in one block: as read it is in many
    controls = images["granularity"].isin(("class", "feature"))
    kept = images.index.isin(compared(images).index) | ~controls
    images = images[kept].assign(place=images["granularity"].map(order.index))
    images = images.sort_values(["place", "s_c"], kind="stable")
    arms = zip(images["granularity"], images["s_c"], strict=True)
    named = ["real" if arm == "real" else arm_name(arm, s_c) for arm, s_c in arms]
    return pictures.sheet(images.assign(arm=named), world, title)


@with_source
def nearest_training_image(images: pd.DataFrame, world: World, samples: int = 2) -> Figure:
    """Samples of up to four rare combinations, and below each the training image nearest to it;
    what is a copy has a frame, and so has what it copies.
    """
    rare = _samples(images, "rare")
    asked = rare[rare["role"] == "sample"].drop_duplicates(["combination", "sample"])
    first = asked.groupby("combination", sort=False).head(samples)["sample"].unique()
    wanted = list(first[: 4 * samples])
    rare = rare[rare["sample"].isin(wanted)]
    beside = set(rare.loc[rare["role"] == "nearest", "granularity"])
    arms = [arm for arm in ("real", *DENOISERS) if arm in beside]
    shape = 2 * len(arms), len(wanted)
    high = (WIDTH - pictures.MARGIN) / shape[1] * world.shape[0] / world.shape[1]
    size = (WIDTH, (high + 0.08) * shape[0] + 0.3 * len(arms) + 1)
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for lines, arm in zip(axes.reshape(len(arms), 2, -1), arms, strict=True):
        mine = rare[rare["granularity"] == arm]
        _pairs(lines, mine, world, wanted)
        lines[0, -1].set_title(" ")  # keeps the room
        copied = mine.loc[mine["role"] == "sample", "copy"]
        who = "fresh real images" if arm == "real" else f"{arm} denoiser"
        _above(lines[0, 0], f"{who}: {int(copied.sum())} of {len(copied)} are copies")
    figure.suptitle("Is it new? Samples of rare combinations, and the nearest training image")
    handle = Patch(facecolor="0.9", edgecolor=COPY["color"], lw=COPY["lw"])
    told = "a copy: as near to a training image as one fresh real image in a hundred"
    figure.legend(
        [handle],
        [told],
        loc="outside lower center",
        handlelength=1.6,
        handleheight=1.5,
        borderpad=1,
    )
    return figure


def _above(axis: Axes, told: str) -> None:
    """A title of several columns, from the first of them on."""
    place = {"xy": (0, 1), "xytext": (0, 5), "textcoords": "offset points"}
    axis.annotate(told, xycoords="axes fraction", **place).set_in_layout(False)


def _pairs(axes: np.ndarray, table: pd.DataFrame, world: World, wanted: list[int]) -> None:
    """One arm's samples, above, and their nearest training images, below: ``(2, columns)`` axes."""
    rows = table.set_index(["role", "sample"]).sort_index()
    names = {"sample": "sample", "nearest": "nearest training image"}
    for line, (role, name) in zip(axes, names.items(), strict=True):
        for axis, number in zip(line, wanted, strict=True):
            if (role, number) not in rows.index:
                continue
            axis.set_axis_on()
            pictures.plain(axis, pictures.greys(rows.loc[(role, number)], world))
            for spine in axis.spines.values():
                spine.set(visible=bool(rows.loc[("sample", number), "copy"]), **COPY)
        pictures.called(line[0], name)


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
            if line is axes[0]:
                axis.set_title(f"t = {t:.2g}")
        pictures.called(line[0], world.describe(int(combination)))
    figure.suptitle("How does a face come about? From noise (t = 1) to a face (t = 0), feature arm")
    return figure
