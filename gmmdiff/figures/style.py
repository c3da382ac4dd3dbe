"""One look for all figures, and the elements they share.

Figures are read on a page 700 px wide, on telephones and on dark pages: each is ``WIDTH`` wide,
its words of a size for that, on opaque white paper with a margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from gmmdiff.core.statistics import Interval
from gmmdiff.judging import rule

Given = ParamSpec("Given")
Arms = Sequence[tuple[pd.DataFrame, dict[str, Any]]]
WIDTH = 7.2  # inches
LEAST = 8.5  # points; 11 px where WIDTH is 700 px
PALETTE = sns.color_palette("colorblind")
APART = "(markers moved apart)"  # of an axis on which ``side_by_side`` draws


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
            "savefig.pad_inches": 0.15,
            "savefig.facecolor": "white",
            "savefig.transparent": False,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "font.size": 10,
            "figure.titlesize": 12,
            "axes.titlesize": 10,
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.title_fontsize": 9,
        },
    )


def with_source(draw: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Marks a function that draws a figure: saved with metadata, its "Source" says what drew it, as
    FILE#FUNCTION with the file's path in the repository.
    """
    source = f"{draw.__module__.replace('.', '/')}.py#{draw.__name__}"

    @wraps(draw)
    def drawing(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        figure = draw(*args, **kwargs)
        save = figure.savefig

        def savefig(path: Any, *, metadata: Any = None, **options: Any) -> None:
            save(path, metadata=metadata and metadata | {"Source": source}, **options)

        figure.savefig = savefig
        return figure

    return drawing


def level(values: pd.Series) -> Interval | None:
    """The IQM over seeds with its interval; None of fewer than two finite values."""
    values = values[np.isfinite(values)].to_numpy()
    return rule.level(values) if len(values) > 1 else None


def levels_by(table: pd.DataFrame, x: str) -> np.ndarray:
    """x, IQM and the ends of its interval, at every x that has two values: ``(k, 4)``."""
    every = [(at, level(values)) for at, values in table.groupby(x)["value"]]
    return np.array([(at, *interval) for at, interval in every if interval]).reshape(-1, 4)


def iqm_lines(axis: Axes, table: pd.DataFrame, x: str, **look: Any) -> None:
    """IQM over seeds with its bootstrap interval, against x; a point alone is drawn larger."""
    at, middle, low, high = levels_by(table, x).T
    look = {"capsize": 2, "lw": 1.6, "markersize": 9 if len(at) == 1 else 5} | look
    look["clip_on"] = False  # a marker on the axis is shown whole
    if len(at):
        axis.errorbar(at, middle, [middle - low, high - middle], **look)


def side_by_side(
    axis: Axes, arms: Arms, x: str, levels: Sequence[Any], spread: float = 0.3
) -> None:
    """``iqm_lines`` of several arms over evenly spaced levels of x, a little apart: none hides
    another.

    Args:
        arms: (table, look) of each.
        levels: the values of x that are drawn, in the order of the axis.
        spread: of the arms, in distances of two levels, in [0, 1).
    """
    places = {level: place for place, level in enumerate(levels)}
    for number, (table, look) in enumerate(arms):
        shift = spread * ((number + 0.5) / len(arms) - 0.5)
        iqm_lines(axis, table.assign(place=table[x].map(places) + shift), "place", **look)
    names = [level if isinstance(level, str) else f"{level:g}" for level in levels]
    axis.set_xticks(range(len(levels)), names)
    axis.set_xlim(-0.4, len(levels) - 0.6)


def legend_below(figure: Figure, axis: Axes, columns: int, **options: Any) -> None:
    """The legend of one of its axes below a figure."""
    handles = axis.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, **options)


def in_percent(axis: Axes, name: Literal["x", "y"]) -> None:
    """Writes the ticks of an axis of shares in per cent, with no more digits than they need."""
    ticks = axis.xaxis if name == "x" else axis.yaxis
    ticks.set_major_formatter(lambda share, _: f"{100 * share:g} %")


def plain_log(axis: Axes, name: Literal["x", "y"]) -> None:
    """Makes one axis logarithmic, with ticks at 1, 2 and 5, written out."""
    axis.set(**{f"{name}scale": "log"})
    ticks = axis.xaxis if name == "x" else axis.yaxis
    ticks.set_minor_locator(LogLocator(subs=(2, 5)))
    for which in (ticks.set_major_formatter, ticks.set_minor_formatter):
        which("{x:g}")
    axis.tick_params(axis=name, which="minor", labelsize=mpl.rcParams[f"{name}tick.labelsize"])
