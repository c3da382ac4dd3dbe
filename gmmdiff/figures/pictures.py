"""Pictures of samples, framed and named by what a world's judge finds wrong with them."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gmmdiff.figures.feature_vs_class import COLOURS, arm_name, compared
from gmmdiff.figures.style import LEAST, PALETTE, WIDTH, with_source
from gmmdiff.worlds.world import World

FRAMES = {  # by what they say of an image
    "wrong attributes, named below": {"edgecolor": PALETTE[3], "lw": 2.5},
    "malformed": {"edgecolor": "0.25", "lw": 2.5, "ls": (0, (3, 2))},
    "right": {"edgecolor": "none", "lw": 0},
    "a copy, and what it copies": {"edgecolor": PALETTE[4], "lw": 3},
}
WRONG, MALFORMED, RIGHT, COPY = FRAMES
WRONG_WORDS = "#a34700"  # the orange of the frames, dark enough for words
MARGIN = 1.2  # inches, for what a row of images is called
DENOISERS = ("class", "feature")
SAMPLES = 2  # of a combination
NAMED = 3  # wrong attributes below an image, one a line


def draw(axis: Axes, row: pd.Series, world: World, frame: str = RIGHT) -> None:
    """The image in the columns p0, p1, ... of a table's row, in [0, 1], with one of ``FRAMES``."""
    image = row.filter(regex=r"^p\d+$").to_numpy(dtype=float).reshape(world.shape)
    image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image  # colours last
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=True, **FRAMES[frame])


def judged(axis: Axes, row: pd.Series, world: World) -> None:
    """A row's image, framed by what is wrong with it; wrong attributes are named below.

    Args:
        row: with the columns combination, asked for, shown, read by the judge, and malformed.
    """
    wrong = row["shown"] != row["combination"]
    draw(axis, row, world, WRONG if wrong else MALFORMED if row["malformed"] else RIGHT)
    both = (world.combinations[int(row[name])].tolist() for name in ("shown", "combination"))
    values = zip(world.values, *both, strict=False)
    named = [names[is_now] for names, is_now, was in values if is_now != was]
    if wrong and len(set(map(tuple, world.values))) == 1:  # a digit does not say which of two it is
        named = [world.describe(int(row["shown"]))]
    if len(named) > NAMED:
        named[NAMED - 1 :] = [f"{len(named) - NAMED + 1} more"]
    told = ",\n".join(textwrap.fill(name, 10) for name in named)
    axis.set_xlabel(told, color=WRONG_WORDS, fontsize=LEAST, labelpad=2)


def _called(axis: Axes, name: str) -> None:
    """What a row of images is called, to the left of its first."""
    told = textwrap.fill(name, 15)
    axis.set_ylabel(told, rotation=0, ha="right", va="center", fontsize=LEAST)


def _above(axis: Axes, told: str) -> None:
    """A title of several columns, from the first of them on."""
    place = {"xy": (0, 1), "xytext": (0, 5), "textcoords": "offset points"}
    axis.annotate(told, xycoords="axes fraction", **place).set_in_layout(False)


def _legend(figure: Figure, *names: str) -> None:
    """What these frames mean, below a figure."""
    handles = [Patch(facecolor="0.9", label=name, **FRAMES[name]) for name in names]
    size = {"handlelength": 1.6, "handleheight": 1.5, "borderpad": 1}
    figure.legend(handles=handles, loc="outside lower center", ncols=3, **size)


def _samples(images: pd.DataFrame, group: str) -> pd.DataFrame:
    """What real data, class and feature show of one group, points."""
    mine = (images["group"] == group) & (images["s_c"] == 0)
    return images[mine & images["granularity"].isin(("real", *DENOISERS))]


def sheet(images: pd.DataFrame, world: World, title: str) -> Figure:
    """One image of every arm for each combination: rows by the column arm, columns by group and
    combination, in the table's order; of wide images two combinations a group.
    """
    high, wide = world.shape[-2:]
    arms = images["arm"].unique()
    asked = images.drop_duplicates(["group", "combination"])[["group", "combination"]]
    asked = asked.groupby("group", sort=False).head(len(asked) if high >= wide else 2)
    size = (WIDTH, ((WIDTH - MARGIN) / len(asked) * high / wide + 0.25) * len(arms) + 1.2)
    figure, axes = plt.subplots(len(arms), len(asked), figsize=size, squeeze=False)
    for line, arm in zip(axes, arms, strict=True):
        mine = images[images["arm"] == arm]
        for axis, combination in zip(line, asked["combination"], strict=True):
            judged(axis, mine[mine["combination"] == combination].iloc[0], world)
        _called(line[0], arm)
    plt.setp(axes[0], title=" ")  # keeps the room
    for group, places in asked.reset_index().groupby("group").groups.items():
        _above(axes[0, places[0]], group)
    figure.suptitle(title)
    _legend(figure, WRONG, MALFORMED, RIGHT)
    return figure


@with_source
def every_arm(images: pd.DataFrame, world: World, title: str) -> Figure:
    """Images of every arm beside real ones: one row an arm, by group of combinations."""
    order = ["real", *COLOURS]
    images = images[images["granularity"].isin(order) & (images["role"] == "sample")]
    images = images.copy()  # in one block: as read it is in many
    kept = images.index.isin(compared(images).index) | ~images["granularity"].isin(DENOISERS)
    images = images[kept].assign(place=images["granularity"].map(order.index))
    images = images.sort_values(["place", "s_c"], kind="stable")
    arms = zip(images["granularity"], images["s_c"], strict=True)
    named = ["real" if arm == "real" else arm_name(arm, s_c) for arm, s_c in arms]
    return sheet(images.assign(arm=named), world, title)


@with_source
def ask_for_unseen(images: pd.DataFrame, world: World) -> Figure:
    """Combinations that no training image showed: one real image, then samples of both arms; so
    narrow that a phone shows it.
    """
    held_out = _samples(images, "held out").query("role == 'sample'")
    wanted = held_out["combination"].unique()
    columns = {"real": [0], "class": [2, 3], "feature": [5, 6]}  # the others are gaps
    shape = {"ncols": 7, "width_ratios": [1, 0.12, 1, 1, 0.12, 1, 1]}
    size = (4.3, 1.05 * len(wanted) + 1.4)
    figure, axes = plt.subplots(len(wanted), figsize=size, squeeze=False, **shape)
    plt.setp(axes[:, [1, 4]], visible=False)
    for line, combination in zip(axes, wanted, strict=True):
        asked = held_out[held_out["combination"] == combination]
        for arm, places in columns.items():
            mine = asked[asked["granularity"] == arm]
            for (_, row), axis in zip(mine.iterrows(), line[places], strict=False):
                judged(axis, row, world)
        _called(line[0], world.describe(int(combination)))
    axes[0, 0].set_title("asked\nfor")
    for arm in DENOISERS:
        shown = held_out[held_out["granularity"] == arm].groupby("combination").head(SAMPLES)
        right = int(((shown["shown"] == shown["combination"]) & ~shown["malformed"]).sum())
        _above(axes[0, columns[arm][0]], f"{arm} denoiser:\n{right} of {len(shown)} right")
    figure.suptitle("What do you get when you ask\nfor a face that no training image showed?")
    _legend(figure, WRONG, MALFORMED, RIGHT)
    return figure


@with_source
def nearest_training_image(images: pd.DataFrame, world: World) -> Figure:
    """Samples of up to four rare combinations, and below each the training image nearest to it;
    what is a copy has a frame, and so has what it copies; malformed samples have theirs.
    """
    rare = _samples(images, "rare")
    asked = rare[rare["role"] == "sample"].drop_duplicates(["combination", "sample"])
    first = asked.groupby("combination", sort=False).head(SAMPLES)["sample"].unique()
    wanted = first[: 4 * SAMPLES]
    rare = rare[rare["sample"].isin(wanted)]
    rare = rare.set_index(["granularity", "role", "sample"]).sort_index()
    arms = [arm for arm in ("real", *DENOISERS) if (arm, "nearest") in rare.index]
    shape = 2 * len(arms), len(wanted)
    high = (WIDTH - MARGIN) / shape[1] * world.shape[0] / world.shape[1]
    size = (WIDTH, (high + 0.08) * shape[0] + 0.3 * len(arms) + 1)
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False)
    for lines, arm in zip(axes.reshape(len(arms), 2, -1), arms, strict=True):
        _pairs(lines, rare.loc[arm], world, wanted)
        lines[0, -1].set_title(" ")  # keeps the room
        copied = rare.loc[(arm, "sample"), "copy"]
        who = "fresh real images" if arm == "real" else f"{arm} denoiser"
        _above(lines[0, 0], f"{who}: {int(copied.sum())} of {len(copied)} are copies")
    title = "Is it new? Samples of rare combinations, and the nearest training image"
    figure.suptitle(f"{title}\nA copy is as near to it as one fresh real image in a hundred")
    _legend(figure, COPY, MALFORMED)
    return figure


def _pairs(axes: np.ndarray, rows: pd.DataFrame, world: World, wanted: np.ndarray) -> None:
    """One arm's samples, above, and their nearest training images, below: ``(2, columns)`` axes."""
    names = {"sample": "sample", "nearest": "nearest training image"}
    for line, (role, name) in zip(axes, names.items(), strict=True):
        for axis, number in zip(line, wanted, strict=True):
            if (role, number) not in rows.index:
                axis.set_axis_off()
                continue
            sample = rows.loc[("sample", number)]
            bad = role == "sample" and sample["malformed"]
            frame = COPY if sample["copy"] else MALFORMED if bad else RIGHT
            draw(axis, rows.loc[(role, number)], world, frame)
        _called(line[0], name)


@with_source
def reverse_images(strip: pd.DataFrame, world: World) -> Figure:
    """From noise to an image, two combinations, one row each."""
    times = sorted(strip["t"].unique(), reverse=True)
    wanted = list(strip["combination"].unique())
    figure, axes = plt.subplots(len(wanted), len(times), figsize=(WIDTH, 2.9), squeeze=False)
    for line, combination in zip(axes, wanted, strict=True):
        for axis, t in zip(line, times, strict=True):
            now = (strip["t"] == t) & (strip["combination"] == combination)
            draw(axis, strip[now].iloc[0], world)
        _called(line[0], world.describe(int(combination)))
    for axis, t in zip(axes[0], times, strict=True):
        axis.set_title(f"t = {t:.2g}")
    figure.suptitle("How does a face come about? From noise (t = 1) to a face (t = 0), feature arm")
    return figure
