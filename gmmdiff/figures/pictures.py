"""Pictures of samples, framed and named by what a world's judge finds wrong with them."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gmmdiff.figures.style import LEAST, PALETTE, WIDTH
from gmmdiff.worlds.world import World

WRONG, MALFORMED = {"color": PALETTE[3]}, {"color": "0.25", "ls": (0, (3, 2))}
WRONG_WORDS = "#a34700"  # the red of the frames, dark enough for words
FRAMES = "full orange frame: wrong attributes, named below; dashed: malformed; no frame: right"
MARGIN = 1.2  # inches, for what a row of images is called


def greys(row: pd.Series, world: World) -> np.ndarray:
    """The image in the columns p0, p1, ... of a table's row, in the world's shape."""
    image = row.filter(regex=r"^p\d+$").to_numpy(dtype=float).reshape(world.shape)
    return np.moveaxis(image, 0, -1) if image.ndim == 3 else image  # colours last


def plain(axis: Axes, image: np.ndarray) -> None:
    """One image ``(height, width)``, or ``(height, width, 3)``, in [0, 1]."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def framed(
    axis: Axes, image: np.ndarray, world: World, combination: int, shown: int, malformed: bool
) -> None:
    """One image as ``plain``; what is wrong with it frames it, and wrong attributes are named.

    Args:
        combination, shown: asked for, and read by the judge.
    """
    plain(axis, image)
    wrong = shown != combination
    for spine in axis.spines.values():
        spine.set(lw=2.5, **(WRONG if wrong else MALFORMED))
        spine.set_visible(wrong or malformed)
    both = (world.combinations[c].tolist() for c in (shown, combination))
    values = zip(world.values, *both, strict=False)
    named = ", ".join(names[is_now] for names, is_now, was in values if is_now != was)
    told = "\n".join(textwrap.wrap(named, 9, max_lines=3, placeholder=" ..."))
    axis.set_xlabel(told, color=WRONG_WORDS, fontsize=LEAST, labelpad=2)


def of_row(axis: Axes, row: pd.Series, world: World) -> None:
    """A row of a table, ``framed``: its columns combination, shown, malformed, and those of
    ``greys``.
    """
    judged = int(row["combination"]), int(row["shown"]), bool(row["malformed"])
    framed(axis, greys(row, world), world, *judged)


def called(axis: Axes, name: str) -> None:
    """What a row of images is called, to the left of its first."""
    told = textwrap.fill(name, 15)
    axis.set_ylabel(told, rotation=0, ha="right", va="center", fontsize=LEAST)


def legend_of_frames(figure: Figure) -> None:
    """What the frames mean, below a figure."""
    frame = {"facecolor": "0.9", "lw": 2.5}
    handles = [
        Patch(edgecolor=WRONG["color"], label="wrong attributes, named below", **frame),
        Patch(edgecolor="0.25", ls=MALFORMED["ls"], label="malformed", **frame),
        Patch(facecolor="0.9", label="right"),
    ]
    size = {"handlelength": 1.6, "handleheight": 1.5, "borderpad": 1}
    figure.legend(handles=handles, loc="outside lower center", ncols=3, **size)


def sheet(pictures: pd.DataFrame, world: World, title: str) -> Figure:
    """One image of every arm for each combination: rows by the column arm, columns by group and
    combination, in the table's order.
    """
    arms = pictures["arm"].unique()
    asked = pictures.drop_duplicates(["group", "combination"])[["group", "combination"]]
    high = (WIDTH - MARGIN) / len(asked) * world.shape[-2] / world.shape[-1]
    size = (WIDTH, (high + 0.25) * len(arms) + 1.2)
    figure, axes = plt.subplots(len(arms), len(asked), figsize=size, squeeze=False)
    for line, arm in zip(axes, arms, strict=True):
        mine = pictures[pictures["arm"] == arm]
        for axis, combination in zip(line, asked["combination"], strict=True):
            of_row(axis, mine[mine["combination"] == combination].iloc[0], world)
        called(line[0], arm)
    for axis, group in zip(axes[0], asked["group"], strict=True):
        axis.set_title(group)
    figure.suptitle(title)
    legend_of_frames(figure)
    return figure
