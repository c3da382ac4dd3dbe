"""One look for all figures, and the elements they share.

Figures are read on a page 700 px wide, on telephones and on dark pages: each is ``WIDTH`` wide,
its words of a size for that, on opaque white paper with a margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from gmmdiff.core.statistics import Interval
from gmmdiff.judging import rule

if TYPE_CHECKING:  # for the annotation alone: a stage may draw no arcs
    from gmmdiff.worlds.arcs import Arcs

Given = ParamSpec("Given")
Arms = Sequence[tuple[pd.DataFrame, dict[str, Any]]]
WIDTH = 7.2  # inches
LEAST = 8.5  # points; 11 px where WIDTH is 700 px
PALETTE = sns.color_palette("colorblind")
APART = "(markers moved apart)"  # of an axis on which ``side_by_side`` draws
LOOK = {
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
    **dict.fromkeys(("axes.titlesize", "axes.labelsize"), 10),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 9),
    **dict.fromkeys(("legend.fontsize", "legend.title_fontsize"), 9),
}


def style() -> None:
    """Sets the look; call once at the top of a notebook."""
    mpl.rcdefaults()  # whatever a matplotlibrc says
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", rc=LOOK)


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


def panels(
    count: int, columns: int, high: float, more: float, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, filled row by row.

    Args:
        high: of a row, in inches, and ``more`` of what stands above and below them all.
        options: of ``plt.subplots``.
    """
    lines = -(-count // columns)
    size = (WIDTH, high * lines + more)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, **options)
    plt.setp(axes.flat[count:], visible=False)
    return figure, list(axes.flat[:count])


def bare(axis: Axes, title: str) -> None:
    """A map: equal units, without ticks or a frame."""
    axis.set(aspect="equal", xticks=[], yticks=[], title=title)
    axis.spines[:].set_visible(False)


def arc(arcs: Arcs, combination: int) -> np.ndarray:
    """One arc in the plane: its x and y, ``(2, 200)``."""
    u = torch.linspace(0, 1, 200, dtype=torch.float64)
    points = arcs.points(torch.full((200,), combination), u)
    return (points @ arcs.frame[:, :2]).T.numpy()


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
    axis.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
    axis.set_xlim(-0.4, len(levels) - 0.6)


def legend_below(figure: Figure, axis: Axes, columns: int, **options: Any) -> None:
    """The legend of one of its axes below a figure."""
    handles = axis.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, **options)


def in_percent(axis: Axes, name: Literal["x", "y"]) -> None:
    """Writes the ticks of an axis of shares in per cent, with no more digits than they need."""
    ticks = axis.xaxis if name == "x" else axis.yaxis
    ticks.set_major_formatter(lambda share, _: f"{100 * share:g} %".replace("-", "\u2212"))


def plain_log(axis: Axes, name: Literal["x", "y"], ticks: Sequence[float] = (1, 2, 5)) -> None:
    """Makes one axis logarithmic, with these ticks in every decade, written out."""
    axis.set(**{f"{name}scale": "log"})
    of_axis = axis.xaxis if name == "x" else axis.yaxis
    of_axis.set_major_locator(LogLocator(subs=ticks))
    of_axis.set_major_formatter("{x:g}")
    of_axis.set_minor_locator(NullLocator())
