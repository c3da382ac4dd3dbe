"""Figures of a U-Net's training and of its faces."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from gmmdiff.figures import pictures
from gmmdiff.figures.style import WIDTH, with_source
from gmmdiff.worlds.world import World


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
    """One image of every arm for each combination, as ``pictures.sheet``.

    Args:
        shown: as ``faces.judged`` gives it, with a column granularity.
    """
    ordered = shown.sort_values("group", kind="stable").rename(columns={"granularity": "arm"})
    return pictures.sheet(ordered, world, title)
