"""One look for all figures, and the elements they share."""

from __future__ import annotations

from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.statistics import bootstrap

PALETTE = sns.color_palette("colorblind")


def style() -> None:
    """Sets the look; call once at the top of a notebook."""
    mpl.rcdefaults()  # whatever a matplotlibrc says
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette="colorblind",
        rc={
            "figure.dpi": 100,
            "savefig.dpi": 150,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "axes.titlesize": "medium",
            "font.size": 11,
        },
    )


def iqm_lines(axis: Axes, table: pd.DataFrame, x: str, **look: Any) -> None:
    """IQM over seeds with its bootstrap interval, against x."""
    groups = [(at, group["value"].dropna().to_numpy()) for at, group in table.groupby(x)]
    found = [
        (at, *bootstrap([values], numpy_stream(0, "figure")))
        for at, values in groups
        if len(values) > 1
    ]
    at, middle, low, high = np.array(found).T
    axis.errorbar(
        at, middle, [middle - low, high - middle], capsize=2, lw=1.6, markersize=5, **look
    )


def plain_log(axis: Axes, name: Literal["x", "y"]) -> None:
    """Makes one axis logarithmic, with ticks at 1, 2 and 5, written out."""
    axis.set(**{f"{name}scale": "log"})
    ticks = axis.xaxis if name == "x" else axis.yaxis
    ticks.set_minor_locator(LogLocator(subs=(2, 5)))
    for which in (ticks.set_major_formatter, ticks.set_minor_formatter):
        which("{x:g}")
