"""One look for all figures, and the elements they share."""

from __future__ import annotations

from typing import Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.statistics import bootstrap

PALETTE = sns.color_palette("colorblind")
STATE_COLOURS = {
    "holds": PALETTE[2],
    "negligible": PALETTE[0],
    "reversed": PALETTE[3],
    "undecided": PALETTE[1],
    "not judged": "0.75",
    "control": "0.55",
}


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
    """IQM over seeds with its bootstrap interval, against x; nothing where no x has two values."""
    groups = [(at, group["value"].dropna().to_numpy()) for at, group in table.groupby(x)]
    found = [
        (at, *bootstrap([values], numpy_stream(0, "figure")))
        for at, values in groups
        if len(values) > 1
    ]
    if not found:
        return
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


def forest(cells: pd.DataFrame, title: str) -> Figure:
    """Every cell of every claim with its interval, in units of its delta, one panel a claim.

    The band is what counts as no difference; open markers are controls, which decide nothing.

    Args:
        cells: columns claim, name, estimate, low, high, delta and state.
    """
    claims = list(cells["claim"].unique())
    sizes = [int((cells["claim"] == claim).sum()) for claim in claims]
    figure, axes = plt.subplots(
        len(claims),
        1,
        figsize=(10, 0.27 * sum(sizes) + 0.75 * len(claims)),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [size + 1 for size in sizes]},
    )
    for axis, claim in zip(axes[:, 0], claims, strict=True):
        table = cells[cells["claim"] == claim].iloc[::-1]
        axis.axvspan(-1, 1, color="0.92", zorder=0)
        axis.axvline(0, color="0.4", lw=1)
        for place, row in enumerate(table.itertuples()):
            colour = STATE_COLOURS[row.state]
            ends = [row.low / row.delta, row.high / row.delta]
            axis.plot(ends, [place, place], color=colour, lw=2)
            face = "white" if row.state == "control" else colour
            look = {"color": colour, "markerfacecolor": face, "markersize": 6}
            axis.plot(row.estimate / row.delta, place, "o", **look)
        axis.set_yticks(range(len(table)), table["name"], fontsize="small")
        axis.set(title=claim, ylim=(-0.7, len(table) - 0.3))
        axis.set_xscale("symlog", linthresh=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(axis="y", visible=False)
    axes[-1, 0].set_xlabel("difference in units of delta; grey: no difference that matters")
    shown = [state for state in STATE_COLOURS if state in set(cells["state"])]
    handles = [
        Line2D([], [], color=STATE_COLOURS[state], marker="o", label=state) for state in shown
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure
