"""One look for all figures, and the elements they share.

Figures are read on a page 700 px wide, on telephones and on dark pages: each is ``WIDTH`` wide,
its words of a size for that, on opaque white paper with a margin.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gmmdiff.core.statistics import bootstrap
from gmmdiff.core.streams import numpy_stream
from gmmdiff.judging.claims import in_units
from gmmdiff.judging.rule import RATIOS

Given = ParamSpec("Given")
Arms = Sequence[tuple[pd.DataFrame, dict[str, Any]]]
WIDTH = 7.2  # inches
LEAST = 8.5  # points; 11 px where WIDTH is 700 px
PALETTE = sns.color_palette("colorblind")
STATE_COLOURS = {  # Okabe and Ito's, for colour-blind readers; the claimed side blue
    "holds": "#0072B2",
    "leans": "#56B4E9",
    "negligible": "0.45",
    "undecided": "#CC79A7",
    "leans against": "#E69F00",
    "reversed": "#D55E00",
    "not judged": "0.75",
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
    look = {"capsize": 2, "lw": 1.6, "markersize": 5} | look
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


@with_source
def forest(cells: pd.DataFrame, title: str) -> Figure:
    """Every cell with its interval, a panel a claim and metric: in percentage points, beyond twice
    delta on a logarithmic scale, or as a factor; and at the right both arms' own levels.

    The band is what counts as no difference; open markers are controls, which decide nothing.

    Args:
        cells: see ``gmmdiff.judging.claims.cell_table``, and whether each is a control.
    """
    panels = [table.iloc[::-1] for _, table in cells.groupby(["claim", "metric"], sort=False)]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(WIDTH, 0.24 * len(cells) + 0.75 * len(panels) + 1.2),
        squeeze=False,
        gridspec_kw={"height_ratios": [len(table) + 1 for table in panels]},
    )
    for axis, table in zip(axes[:, 0], panels, strict=True):
        _forest_panel(axis, table)
    axes[-1, 0].set_xlabel("first arm minus second, or divided by it: left is as claimed")
    handles = [
        Line2D([], [], color=colour, marker="o", label=state)
        for state, colour in STATE_COLOURS.items()
        if state in set(cells["state"])
    ]
    handles.append(Patch(color="0.9", label="no difference that matters"))
    if cells["margin"].any():
        line = Line2D([], [], color="0.2", ls="--", label="the claim holds left of this line")
        handles.append(line)
    if cells["control"].any():
        look = {"color": "0.2", "marker": "o", "markerfacecolor": "white"}
        handles.append(Line2D([], [], **look, label="control"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.suptitle(textwrap.fill(title, 75))
    return figure


def _forest_panel(axis: Axes, table: pd.DataFrame) -> None:
    """One claim and metric; the first cell on top."""
    metric, delta = table["metric"].iloc[0], table["delta"].max()
    middle, low, high = (in_units(table[end], metric) for end in ("estimate", "low", "high"))
    ratio, edges = metric in RATIOS, [in_units(edge, metric) for edge in (-delta, delta)]
    axis.axvspan(*edges, color="0.9", zorder=0)
    axis.axvline(float(ratio), color="0.4", lw=1)
    if table["margin"].any():
        axis.axvline(edges[1], color="0.2", ls="--", lw=1)
    for place, row in enumerate(table.itertuples()):
        colour = STATE_COLOURS[row.state]
        axis.plot([low[row.Index], high[row.Index]], [place, place], color=colour, lw=2)
        look = {"color": colour, "markerfacecolor": "white" if row.control else colour}
        axis.plot(middle[row.Index], place, "o", markersize=6, **look)
        levels = [row.first, row.second] if ratio else [100 * row.first, 100 * row.second]
        told = "{:.3g}, {:.3g}".format(*levels) if ratio else "{:.1f}, {:.1f} %".format(*levels)
        at = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": LEAST}
        axis.text(1.01, place, told, **at)
    if ratio:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.xaxis.set_major_formatter("{x:g}")
    else:
        axis.set_xscale("symlog", linthresh=2 * edges[1])
        ticks = edges[1] * 2.0 ** np.arange(7)
        axis.set_xticks([*-ticks[::-1], 0, *ticks])
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:+g}" if x else "0")
        ends = [min(low.min(), edges[0]), max(high.max(), edges[1])]
        axis.set_xlim(*(1.15 * np.array(ends)))
    axis.xaxis.set_minor_locator(NullLocator())
    several = table["group"].nunique() > 1
    names = table["name"] + (", " + table["group"] if several else "")
    axis.set_yticks(range(len(table)), names)
    axis.set_ylim(-0.7, len(table) - 0.3)
    which = "" if several or not table["group"].iloc[0] else f" ({table['group'].iloc[0]})"
    unit = "as a factor" if ratio else "in percentage points"
    axis.set_title(f"{table['claim'].iloc[0]}: {metric.replace('_', ' ')}{which}, {unit}")
    axis.set_title("both arms", loc="right", fontsize=LEAST, x=1.01, ha="left")
    axis.grid(axis="y", visible=False)
