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
from gmmdiff.experiments.theory.complexity import complexity_slopes
from gmmdiff.experiments.theory.costs import MIXTURES
from gmmdiff.experiments.theory.laws import against_w1
from gmmdiff.experiments.theory.sets import nested_pairs, share_that_differs
from gmmdiff.figures.style import PALETTE, WIDTH, legend_below, with_source
from gmmdiff.worlds.arcs import Arcs

COST_COLOURS = {
    "W1": "black",
    "NGMG single": PALETTE[1],
    "NGMG scale mixture": PALETTE[2],
    "KL": PALETTE[0],
    "JS": PALETTE[4],
    "TV": PALETTE[9],
}
COST_MARKERS = {
    "W1": "s",
    "NGMG single": "o",
    "NGMG scale mixture": "D",
    "KL": "^",
    "JS": "v",
    "TV": "P",
}


@with_source
def diffusion_checks(marginals: pd.DataFrame, orders: pd.DataFrame) -> Figure:
    """Marginals, posterior means and samplers of a mixture, each beside its closed form."""
    figure, axes = plt.subplot_mosaic(
        [["marginals", "means"], ["orders", "orders"]], figsize=(WIDTH, 6.2)
    )
    for colour, (t, table) in zip(
        sns.color_palette("viridis", marginals["t"].nunique()), marginals.groupby("t"), strict=True
    ):
        left, right = axes["marginals"], axes["means"]
        left.plot(table["x"], table["density"], color=colour, label=f"t = {t:g}")
        left.plot(table["x"], table["sampled_density"], ".", color=colour, markersize=4)
        seen = table.dropna(subset="sampled_posterior_mean")
        right.plot(seen["x"], seen["posterior_mean"], color=colour)
        right.errorbar(
            seen["x"],
            seen["sampled_posterior_mean"],
            2 * seen["standard_error"],
            fmt=".",
            color=colour,
            markersize=3,
            lw=0.7,
        )
    left.set(title="Marginals", xlabel="$x_t$", ylabel="density")
    right.set(title="Posterior mean, samples with 2 s.e.", xlabel="$x_t$", ylabel="$E[x_0 | x_t]$")
    left.legend()
    for (name, table), marker in zip(orders.groupby("sampler"), "os", strict=True):
        last = np.log(table[["steps", "error"]].tail(3))
        order = (
            f": order {-np.polyfit(last['steps'], last['error'], 1)[0]:.2f}"
            if len(last) > 1
            else ""
        )
        axes["orders"].loglog(table["steps"], table["error"], marker=marker, label=f"{name}{order}")
    axes["orders"].set(
        title="Samplers on the probability-flow ODE: the lower the better",
        xlabel="network evaluations",
        ylabel="mean error of the quantiles",
    )
    axes["orders"].legend()
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
    looks = {"nested": (PALETTE[0], "-"), "control": ("0.35", "--")}
    names = {"nested": "feature against its class", "control": "two samples of one law"}
    for kind, (colour, line) in looks.items():
        found = tests[tests["kind"] == kind].groupby("t")["energy_distance"]
        middle = found.mean()
        axis.plot(middle.index, middle, color=colour, ls=line, label=names[kind])
        axis.fill_between(middle.index, found.min(), found.max(), color=colour, alpha=0.2, lw=0)
    axis.set_yscale("log")


def _nested_supports(axis: Axes, manifold: Arcs) -> None:
    """One class inside one feature inside all classes."""
    u = torch.linspace(0, 1, 200, dtype=torch.float64)
    labels = dict.fromkeys(range(16), "other classes")
    labels |= dict.fromkeys(
        manifold.with_attribute(0, 0).tolist(), "classes of the feature 'inner'"
    )
    labels[0] = "one class"
    looks = {"other classes": ("0.6", 1.5), "one class": (PALETTE[3], 4)}
    for c, label in sorted(labels.items()):
        flat = manifold.points(torch.full((200,), c), u) @ manifold.frame[:, :2]
        colour, width = looks.get(label, (PALETTE[0], 2))
        axis.plot(flat[:, 0], flat[:, 1], color=colour, lw=width, label=label)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "ncols": 1}
    axis.legend(handles.values(), handles.keys(), **place)
    title = "At t = 0 a class lies in its features"
    axis.set(title=title, aspect="equal", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


@with_source
def line_costs(closed: pd.DataFrame, sampled: pd.DataFrame) -> Figure:
    """Costs (left) and slopes (right) against theta, one row a thickness."""
    widths = sorted(closed["width"].unique(), reverse=True)
    figure, axes = plt.subplots(
        len(widths),
        2,
        figsize=(WIDTH, 1.9 * len(widths) + 1.4),
        sharex=True,
        sharey="col",
        squeeze=False,
    )
    for line, width in zip(axes, widths, strict=True):
        for axis, quantity in zip(line, ("value", "slope"), strict=True):
            for cost, colour in COST_COLOURS.items():
                table = closed[(closed["width"] == width) & (closed["cost"] == cost)]
                dots = sampled[(sampled["width"] == width) & (sampled["cost"] == cost)]
                axis.plot(
                    table["theta"], table[quantity].replace(np.inf, np.nan), color=colour, lw=1.8
                )
                axis.errorbar(
                    dots["theta"],
                    dots[quantity].replace(np.inf, np.nan),
                    dots[f"{quantity}_error"].replace(np.inf, np.nan),
                    fmt=COST_MARKERS[cost],
                    color=colour,
                    markersize=5,
                    lw=1,
                    label=cost,
                )
            axis.set_xscale("log")
            if closed["theta"].nunique() == 1:
                axis.set_xlim(closed["theta"].iloc[0] / 2, closed["theta"].iloc[0] * 2)
        line[0].set(ylim=(-0.1, 3.3))
        line[0].set_ylabel(f"thickness {width:g}" if width else "thickness 0:\nKL is infinite")
        line[1].set(ylim=(-0.1, 2.6))
    for axis, title in zip(axes[0], ("cost", r"slope of the cost in $\theta$"), strict=True):
        axis.set_title(title)
    for axis in axes[-1]:
        axis.set_xlabel(r"distance $\theta$ of the lines")
    legend_below(figure, axes[0, 0], 6)
    title = "Which costs vanish as two lines meet, and which still point the way?"
    figure.suptitle(f"{title}\nLines: exact, markers: estimates from samples")
    return figure


@with_source
def affinity(table: pd.DataFrame, mixtures: dict[str, NGMG], upper: float) -> Figure:
    """The potentials beside |e|, and their deviation from affine against number of scales and
    range.
    """
    figure, axes = plt.subplot_mosaic(
        [["potentials", "potentials"], ["paired lines", "unpaired lines"]],
        figsize=(WIDTH, 7),
        height_ratios=[1, 1.4],
    )
    first = axes.pop("potentials")
    e = torch.linspace(0, upper, 300, dtype=torch.float64)
    first.plot(e, e, color="black", lw=1, ls="--", label="$|e|$ = W1 of two points")
    for name, mixture in mixtures.items():
        first.plot(e, mixture.potential(e.unsqueeze(1)), color=COST_COLOURS[name], label=name, lw=2)
    first.set(title="Potentials: how near to a straight line?", xlabel="$|e|$", ylabel=r"$\psi(e)$")
    first.legend()
    for laws, axis in axes.items():
        grid = (
            table[table["laws"] == laws].pivot(
                index="n_scales", columns="lower", values="deviation"
            )
            * 100
        )
        sns.heatmap(
            grid,
            annot=True,
            fmt=".1f",
            vmin=0,
            vmax=10,
            cmap="cividis_r",
            ax=axis,
            cbar=False,
            linewidths=1,
            annot_kws={"size": 9},
        )
        title = "points and paired lines" if laws == "paired lines" else laws
        axis.set(
            title=f"{title}: deviation in %,\nlower is more linear",
            xlabel=f"lower end of the range (upper end {upper:g})",
            ylabel="number of scales",
        )
    figure.suptitle("Is NGMG a linear transformation of W1?")
    return figure


@with_source
def laws(samples: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """W1 and NGMG between two n-samples of one law, against n and each other; any laws' bound."""
    figure, axes = plt.subplot_mosaic(
        [["W1", "NGMG scale mixture"], ["both", "bound"]], figsize=(WIDTH, 7)
    )
    slopes = complexity_slopes(samples, "value").set_index(["cost", "dimension"])["estimate"]
    means, both = against_w1(samples), axes["both"]
    for dim, marker, colour in zip(means["dimension"].unique(), "osD^v", PALETTE, strict=False):
        look = {"marker": marker, "color": colour}
        for cost in ("W1", "NGMG scale mixture"):
            some = samples[(samples["cost"] == cost) & (samples["dimension"] == dim)]
            mean, slope = some.groupby("n")["value"].mean(), slopes[cost, dim]
            label = f"D = {dim}: slope {slope:.2f}" if len(mean) > 1 else f"D = {dim}"
            axes[cost].loglog(mean.index, mean, label=label, **look)
        both.plot("W1", "NGMG scale mixture", data=means[means["dimension"] == dim], **look)
    shown, n = samples[samples["cost"].isin(["W1", "NGMG scale mixture"])], samples["n"].unique()
    ends = shown["value"].min() / 2, shown["value"].max() * 2
    for name in ("W1", "NGMG scale mixture"):
        title = f"{name},\ntwo samples of one law"
        axes[name].set(title=title, xlabel="sample size n", ylim=ends, xticks=n, xticklabels=n)
        axes[name].minorticks_off()
        axes[name].legend(loc="lower left")
    axes["W1"].set(ylabel="cost")
    both.set(title="The same two against each other", xlabel="W1", ylabel="NGMG scale mixture")
    for name in MIXTURES:
        some = pairs[pairs["cost"] == name]
        look = {"color": COST_COLOURS[name], "label": name, "alpha": 0.5, "rasterized": True}
        axes["bound"].loglog(some["bound"], some["value"], ".", markersize=3, **look)
    ends = np.array([pairs["bound"].min(), pairs["bound"].max()])
    axes["bound"].loglog(ends, ends, color="black", lw=1, ls="--", label="the bound")
    axes["bound"].set(title="Random pairs of laws", xlabel="L W1", ylabel="cost")
    axes["bound"].legend()
    figure.suptitle("Is NGMG linear in W1 on laws? Two slopes, no line between them")
    return figure


@with_source
def descents(lines: pd.DataFrame, helix: pd.DataFrame) -> Figure:
    """Error against step for every cost (rows), law and thickness (columns), one curve a start."""
    tables = {"lines": lines, "helix": helix}
    columns = [
        (laws, width) for laws, table in tables.items() for width in sorted(table["width"].unique())
    ]
    figure, axes = plt.subplots(
        len(COST_COLOURS), len(columns), figsize=(WIDTH, 8.6), sharey=True, sharex="col"
    )
    for column, (laws, width) in zip(axes.T, columns, strict=True):
        for axis, cost in zip(column, COST_COLOURS, strict=True):
            table = tables[laws]
            table = table[(table["cost"] == cost) & (table["width"] == width)]
            starts = sorted(table["start"].unique())
            for start, colour in zip(starts, sns.color_palette("flare", len(starts)), strict=True):
                one = table[table["start"] == start]
                label = f"{start:g}" if laws == "lines" else f"{int(start) + 1}"
                axis.plot(one["step"], one["error"].clip(1e-4, 20), color=colour, label=label)
            axis.axhline(0.01, color="0.4", lw=1, ls="--")
            axis.set(yscale="log", ylim=(7e-5, 30))
            axis.xaxis.set_major_locator(MaxNLocator(2))
            if table.empty:
                axis.text(
                    0.5,
                    0.6,
                    "as on\nthe left",
                    ha="center",
                    va="center",
                    transform=axis.transAxes,
                    color="0.4",
                )
        column[0].set_title(f"{laws},\nthickness {width:g}")
        column[-1].set_xlabel("step")
        column[-1].legend(
            title=r"start $\theta$" if laws == "lines" else "start",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.5),
            ncols=2,
        )
    for axis, (cost, colour) in zip(axes[:, 0], COST_COLOURS.items(), strict=True):
        axis.set_ylabel(cost.replace(" ", "\n"), color=colour, weight="bold")
    figure.suptitle(
        "Which costs find the manifold? Error over starting error:\nfound where it ends below the "
        "dashed line"
    )
    return figure


@with_source
def sample_complexity(table: pd.DataFrame) -> Figure:
    """R.m.s. relative error against sample size, one panel a cost, one line a dimension."""
    slopes = complexity_slopes(table).set_index(["cost", "dimension"])
    costs = list(table["cost"].unique())
    figure, axes = plt.subplots(
        len(costs), 1, figsize=(WIDTH, 2.4 * len(costs) + 0.8), sharey=True, sharex=True
    )
    for axis, cost in zip(axes, costs, strict=True):
        for (dim, group), marker in zip(
            table[table["cost"] == cost].groupby("dimension"), "osD^v", strict=False
        ):
            rms = group.groupby("n")["error"].apply(lambda e: np.sqrt(np.mean(np.square(e))))
            slope = slopes.loc[(cost, dim)]
            fitted = (
                f": slope {slope['estimate']:.2f} [{slope['low']:.2f}, {slope['high']:.2f}]"
                if len(rms) > 1
                else ""
            )
            axis.loglog(rms.index, rms, marker=marker, label=f"D = {dim}{fitted}")
        n = np.array(sorted(table["n"].unique()))
        axis.loglog(n, 1.6 * n**-0.5, color="0.5", ls="--", label=r"$n^{-1/2}$")
        axis.set(title=cost, ylabel="relative error", xticks=n, xticklabels=n)
        axis.minorticks_off()
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes[-1].set_xlabel("sample size n")
    figure.suptitle("How many samples does an estimate need?\nR.m.s. error, lower is better")
    return figure
