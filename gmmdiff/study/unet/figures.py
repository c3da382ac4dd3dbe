"""Figures of a U-Net's training and of its faces."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from gmmdiff.study.style import LEAST, WIDTH, with_source
from gmmdiff.worlds.world import World

WRONG_WORDS = "#a34700"  # a red dark enough for words


@with_source
def losses(curves: pd.DataFrame, title: str) -> Figure:
    """Training losses by arm, a column each, against the column step."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3))
    for name in curves.columns.drop("step"):
        axis.plot(curves["step"], curves[name], label=name)
    axis.set(xlabel="training step", ylabel="v-loss", yscale="log", title=title)
    axis.legend()
    return figure


@with_source
def sheet(shown: pd.DataFrame, world: World, title: str) -> Figure:
    """One image of every arm for each combination, what is wrong with it written below.

    Args:
        shown: as ``faces.judged`` gives it, with a column granularity.
    """
    arms = list(shown["granularity"].unique())
    asked = shown.drop_duplicates("combination").sort_values("group", kind="stable")
    columns = list(asked[["group", "combination"]].itertuples(index=False, name=None))
    size = (WIDTH, (WIDTH / len(columns) + 0.35) * len(arms) + 0.8)
    figure, axes = plt.subplots(len(arms), len(columns), figsize=size, squeeze=False)
    for line, arm in zip(axes, arms, strict=True):
        mine = shown[shown["granularity"] == arm].drop_duplicates("combination")
        mine = mine.set_index("combination")
        for axis, (_, combination) in zip(line, columns, strict=True):
            row = mine.loc[combination]
            greys = row.filter(regex=r"^p\d+$").to_numpy(dtype=float).reshape(world.shape)
            axis.imshow(greys, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            both = (world.combinations[c].tolist() for c in (int(row["shown"]), combination))
            triples = zip(world.values, *both, strict=False)
            wrong = ", ".join(values[now] for values, now, was in triples if now != was)
            told = "\n".join(textwrap.wrap(wrong, 9, max_lines=3, placeholder=" ..."))
            axis.set_xlabel(told, color=WRONG_WORDS, fontsize=LEAST, labelpad=2)
        line[0].set_ylabel(arm)
    for axis, (group, _) in zip(axes[0], columns, strict=True):
        axis.set_title(group)
    figure.suptitle(title)
    figure.supxlabel("in red: what a face wrongly shows", fontsize=9)
    return figure
