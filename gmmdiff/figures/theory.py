"""Figures of the theory checks."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gmmdiff.core.ngmg import NGMG
from gmmdiff.experiments.theory.costs import MIXTURES
from gmmdiff.experiments.theory.laws import against_w1, complexity_slopes
from gmmdiff.experiments.theory.sets import nested_pairs, share_that_differs
from gmmdiff.figures.style import (
    PALETTE,
    WIDTH,
    arc,
    bare,
    legend_below,
    panels,
    plain_log,
    with_source,
)
from gmmdiff.worlds.arcs import Arcs

COSTS = {  # colour and marker of each
    "W1": ("black", "s"),
    "NGMG single": (PALETTE[1], "o"),
    "NGMG scale mixture": (PALETTE[2], "D"),
    "KL": (PALETTE[0], "^"),
    "JS": (PALETTE[4], "v"),
    "TV": (PALETTE[9], "P"),
}


@with_source
def diffusion_checks(marginals: pd.DataFrame, orders: pd.DataFrame) -> Figure:
    """Marginals, posterior means and samplers of a mixture, each beside its closed form."""
    figure, axes = plt.subplot_mosaic("ab;cc", figsize=(WIDTH, 6.2))
    left, right, below = axes.values()
    colours = sns.color_palette("viridis", marginals["t"].nunique())
    for colour, (t, table) in zip(colours, marginals.groupby("t"), strict=True):
        left.plot(table["x"], table["density"], color=colour, label=f"t = {t:g}")
        left.plot(table["x"], table["sampled_density"], ".", color=colour, markersize=4)
        seen = table.dropna(subset="sampled_posterior_mean")
        right.plot(seen["x"], seen["posterior_mean"], color=colour)
        bars = {"yerr": 2 * seen["standard_error"], "fmt": ".", "markersize": 3, "lw": 0.7}
        right.errorbar(seen["x"], seen["sampled_posterior_mean"], color=colour, **bars)
    left.set(title="Marginals", xlabel="$x_t$", ylabel="density")
    right.set(title="Posterior mean, samples with 2 s.e.", xlabel="$x_t$", ylabel="$E[x_0 | x_t]$")
    left.legend()
    for (name, table), marker in zip(orders.groupby("sampler"), "os", strict=True):
        last = np.log(table[["steps", "error"]].tail(3))
        label = name
        if len(last) > 1:
            label += f": order {-np.polyfit(last['steps'], last['error'], 1)[0]:.2f}"
        below.loglog(table["steps"], table["error"], marker=marker, label=label)
    below.set_title("Samplers on the probability-flow ODE: the lower the better")
    below.set(xlabel="network evaluations", ylabel="mean error of the quantiles")
    below.legend()
    figure.suptitle("Do oracle and samplers agree with closed forms?\nLines: exact, dots: samples")
    return figure


@with_source
def latent_sets(manifold: Arcs, tests: pd.DataFrame) -> Figure:
    """Nested supports; energy distances and the share of pairs that differ, against time."""
    figure = plt.figure(figsize=(WIDTH, 6.8))
    above, below = figure.subfigures(2, 1, height_ratios=[1.1, 1])
    supports, differing = above.subplots(1, 2)
    _nested_supports(supports, manifold)
    shares = share_that_differs(nested_pairs(tests)).reset_index()
    look = {"hue": "dimension", "style": "dimension", "palette": "colorblind", "markers": True}
    sns.lineplot(shares, x="t", y="differs", ax=differing, **look)
    differing.axhline(0.5, color="0.6", lw=1)
    differing.set(title="Which share of the pairs differs?", ylim=(-0.03, 1.03))
    differing.set(xlabel="diffusion time t", ylabel="pairs with corrected p < 0.01")
    differing.legend(title="dimension D")
    dimensions = sorted(tests["dimension"].unique())
    distances = below.subplots(1, len(dimensions), sharey=True, squeeze=False)[0]
    for axis, dimension in zip(distances, dimensions, strict=True):
        _distances(axis, tests[tests["dimension"] == dimension])
        axis.set(title=f"D = {dimension}", xlabel="diffusion time t")
    distances[0].set_ylabel("energy distance")
    handles = distances[0].get_legend_handles_labels()
    below.legend(*handles, loc="outside lower center", ncols=2)
    below.suptitle("How far apart? Mean and range of the pairs", fontsize="medium")
    figure.suptitle("Do laws of a feature and of its classes differ, and how long?")
    return figure


def _distances(axis: Axes, tests: pd.DataFrame) -> None:
    """Pairs of a feature and a class, and of two samples of one law, in one dimension."""
    for kind, name, colour, line in (
        ("nested", "feature against its class", PALETTE[0], "-"),
        ("control", "two samples of one law", "0.35", "--"),
    ):
        found = tests[tests["kind"] == kind].groupby("t")["energy_distance"]
        middle = found.mean()
        axis.plot(middle.index, middle, color=colour, ls=line, label=name)
        axis.fill_between(middle.index, found.min(), found.max(), color=colour, alpha=0.2, lw=0)
    axis.set_yscale("log")


def _nested_supports(axis: Axes, manifold: Arcs) -> None:
    """One class inside one feature inside all classes."""
    inner = manifold.with_attribute(0, 0).tolist()
    for c in range(16):
        label, colour, width = "other classes", "0.6", 1.5
        if c in inner:
            label, colour, width = "classes of the feature 'inner'", PALETTE[0], 2
        if c == 0:
            label, colour, width = "one class", PALETTE[3], 4
        axis.plot(*arc(manifold, c), color=colour, lw=width, label=label)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "ncols": 1}
    axis.legend(handles.values(), handles.keys(), **place)
    bare(axis, "At t = 0 a class lies in its features")


@with_source
def line_costs(closed: pd.DataFrame, sampled: pd.DataFrame) -> Figure:
    """Costs (left) and slopes (right) against theta, one row a thickness."""
    widths = sorted(closed["width"].unique(), reverse=True)
    size, shared = (WIDTH, 1.9 * len(widths) + 1.4), {"sharex": True, "sharey": "col"}
    figure, axes = plt.subplots(len(widths), 2, figsize=size, squeeze=False, **shared)
    for line, width in zip(axes, widths, strict=True):
        exact, dots = (table[table["width"] == width] for table in (closed, sampled))
        for axis, quantity in zip(line, ("value", "slope"), strict=True):
            _lines_and_dots(axis, exact, dots, quantity)
            axis.set_xscale("log")
            if closed["theta"].nunique() == 1:
                axis.set_xlim(closed["theta"].iloc[0] / 2, closed["theta"].iloc[0] * 2)
        line[0].set(ylim=(-0.1, 3.3))
        line[0].set_ylabel(f"thickness {width:g}" if width else "thickness 0:\nKL is infinite")
        line[1].set(ylim=(-0.1, 2.6))
    for axis, title in zip(axes[0], ("cost", r"slope of the cost in $\theta$"), strict=True):
        axis.set_title(title)
    plt.setp(axes[-1], xlabel=r"distance $\theta$ of the lines")
    legend_below(figure, axes[0, 0], 6)
    title = "Which costs vanish as two lines meet, and which still point the way?"
    figure.suptitle(f"{title}\nLines: exact, markers: estimates from samples")
    return figure


def _lines_and_dots(axis: Axes, exact: pd.DataFrame, dots: pd.DataFrame, quantity: str) -> None:
    """One quantity of every cost against theta, where it is finite."""
    for cost, (colour, marker) in COSTS.items():
        line, own = (one[one["cost"] == cost].replace(np.inf, np.nan) for one in (exact, dots))
        axis.plot(line["theta"], line[quantity], color=colour, lw=1.8)
        look = {"fmt": marker, "color": colour, "markersize": 5, "lw": 1, "label": cost}
        axis.errorbar(own["theta"], own[quantity], own[f"{quantity}_error"], **look)


@with_source
def affinity(table: pd.DataFrame, mixtures: dict[str, NGMG], upper: float) -> Figure:
    """The potentials beside |e|, and their deviation from affine against number of scales and
    range.
    """
    places = [["potentials", "potentials"], ["paired lines", "unpaired lines"]]
    figure, axes = plt.subplot_mosaic(places, figsize=(WIDTH, 7), height_ratios=[1, 1.4])
    first = axes.pop("potentials")
    e = torch.linspace(0, upper, 300, dtype=torch.float64)
    first.plot(e, e, color="black", lw=1, ls="--", label="$|e|$ = W1 of two points")
    for name, mixture in mixtures.items():
        first.plot(e, mixture.potential(e.unsqueeze(1)), color=COSTS[name][0], label=name, lw=2)
    first.set(title="Potentials: how near to a straight line?", xlabel="$|e|$", ylabel=r"$\psi(e)$")
    first.legend()
    look = {"vmin": 0, "vmax": 10, "cmap": "cividis_r", "cbar": False, "linewidths": 1}
    for laws, axis in axes.items():
        of_laws = table[table["laws"] == laws]
        grid = of_laws.pivot(index="n_scales", columns="lower", values="deviation") * 100
        sns.heatmap(grid, annot=True, fmt=".1f", ax=axis, annot_kws={"size": 9}, **look)
        title = "points and paired lines" if laws == "paired lines" else laws
        axis.set_title(f"{title}: deviation in %,\nlower is more linear")
        axis.set_xlabel(f"lower end of the range (upper end {upper:g})")
        axis.set_ylabel("number of scales")
        axis.tick_params(axis="y", rotation=0)
    figure.suptitle("Is NGMG a linear transformation of W1?")
    return figure


@with_source
def laws(samples: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """W1 and NGMG between two n-samples of one law, against n and each other; any laws' bound."""
    costs = ["W1", "NGMG scale mixture"]
    figure, axes = plt.subplot_mosaic([costs, ["both", "bound"]], figsize=(WIDTH, 7))
    slopes = complexity_slopes(samples, "value").set_index(["cost", "dimension"])["estimate"]
    means, both = against_w1(samples), axes["both"]
    for dim, marker, colour in zip(means["dimension"].unique(), "osD^v", PALETTE, strict=False):
        look = {"marker": marker, "color": colour}
        for cost in costs:
            some = samples[(samples["cost"] == cost) & (samples["dimension"] == dim)]
            mean, slope = some.groupby("n")["value"].mean(), slopes[cost, dim]
            label = f"D = {dim}: slope {slope:.2f}" if len(mean) > 1 else f"D = {dim}"
            axes[cost].loglog(mean.index, mean, label=label, **look)
        both.plot("W1", "NGMG scale mixture", data=means[means["dimension"] == dim], **look)
    shown, n = samples[samples["cost"].isin(costs)], samples["n"].unique()
    ends = shown["value"].min() / 2, shown["value"].max() * 2
    for cost in costs:
        title = f"{cost},\ntwo samples of one law"
        axes[cost].set(title=title, xlabel="sample size n", ylim=ends, xticks=n, xticklabels=n)
        axes[cost].minorticks_off()
        axes[cost].legend(loc="lower left")
    axes["W1"].set(ylabel="cost")
    both.set(title="The same two against each other", xlabel="W1", ylabel="NGMG scale mixture")
    for name in MIXTURES:
        some = pairs[pairs["cost"] == name]
        look = {"color": COSTS[name][0], "label": name, "alpha": 0.5, "rasterized": True}
        axes["bound"].loglog(some["bound"], some["value"], ".", markersize=3, **look)
    ends = np.array([pairs["bound"].min(), pairs["bound"].max()])
    axes["bound"].loglog(ends, ends, color="black", lw=1, ls="--", label="the bound")
    axes["bound"].set(title="Random pairs of laws", xlabel="L W1", ylabel="cost")
    axes["bound"].legend()
    linear = "Then both fall alike, and lower left all points lie on one line"
    figure.suptitle(f"Is NGMG linear in W1 on laws?\n{linear}")
    return figure


@with_source
def descents(lines: pd.DataFrame, helix: pd.DataFrame) -> Figure:
    """Error against step for every cost (rows), law and thickness (columns), one curve a start."""
    both = pd.concat({"lines": lines, "helix": helix}, names=["laws"])
    columns = both.groupby(["laws", "width"], sort=False)
    shape, shared = (len(COSTS), len(columns)), {"sharey": True, "sharex": "col"}
    figure, axes = plt.subplots(*shape, figsize=(WIDTH, 8.6), **shared)
    for column, ((laws, width), of_width) in zip(axes.T, columns, strict=True):
        for axis, cost in zip(column, COSTS, strict=True):
            _descent(axis, of_width[of_width["cost"] == cost], laws)
        column[0].set_title(f"{laws},\nthickness {width:g}")
        column[-1].set_xlabel("step")
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.5), "ncols": 2}
        column[-1].legend(title=r"start $\theta$" if laws == "lines" else "start", **place)
    for axis, (cost, (colour, _)) in zip(axes[:, 0], COSTS.items(), strict=True):
        axis.set_ylabel(cost.replace(" ", "\n"), color=colour, weight="bold")
    title = "Which costs find the manifold? Error over starting error:"
    figure.suptitle(f"{title}\nfound where it ends below the dashed line")
    return figure


def _descent(axis: Axes, table: pd.DataFrame, laws: str) -> None:
    """One cost's errors from every start."""
    starts = sorted(table["start"].unique())
    for start, colour in zip(starts, sns.color_palette("flare", len(starts)), strict=True):
        one = table[table["start"] == start]
        label = f"{start:g}" if laws == "lines" else f"{int(start) + 1}"
        axis.plot(one["step"], one["error"].clip(1e-4, 20), color=colour, label=label)
    axis.axhline(0.01, color="0.4", lw=1, ls="--")
    axis.set(yscale="log", ylim=(7e-5, 30))
    axis.xaxis.set_major_locator(MaxNLocator(2))
    if table.empty:
        centre = {"ha": "center", "va": "center", "transform": axis.transAxes, "color": "0.4"}
        axis.text(0.5, 0.6, "as on\nthe left", **centre)


@with_source
def sample_complexity(table: pd.DataFrame) -> Figure:
    """R.m.s. relative error against sample size, one panel a cost, one line a dimension."""
    slopes = complexity_slopes(table).set_index(["cost", "dimension"])
    costs, n = list(table["cost"].unique()), np.array(sorted(table["n"].unique()))
    figure, axes = panels(len(costs), 1, 2.4, 0.8, sharey=True, sharex=True)
    for axis, cost in zip(axes, costs, strict=True):
        by_dimension = table[table["cost"] == cost].groupby("dimension")
        for (dim, group), marker in zip(by_dimension, "osD^v", strict=False):
            rms = group.groupby("n")["error"].apply(lambda e: np.sqrt(np.mean(np.square(e))))
            slope, label = slopes.loc[(cost, dim)], f"D = {dim}"
            if len(rms) > 1:
                ends = f"[{slope['low']:.2f}, {slope['high']:.2f}]"
                label += f": slope {slope['estimate']:.2f} {ends}"
            axis.loglog(rms.index, rms, marker=marker, label=label)
        axis.loglog(n, 1.6 * n**-0.5, color="0.5", ls="--", label=r"$n^{-1/2}$")
        axis.set(title=cost, ylabel="relative error", xticks=n, xticklabels=n)
        axis.minorticks_off()
        plain_log(axis, "y")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes[-1].set_xlabel("sample size n")
    figure.suptitle("How many samples does an estimate need?\nR.m.s. error, lower is better")
    return figure
