"""Figures of the theory checks."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmmdiff.core.ngmg import NGMG
from gmmdiff.study.style import PALETTE
from gmmdiff.study.theory.complexity import complexity_slopes
from gmmdiff.study.theory.sets import nested_pairs, share_that_differs
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


def diffusion_checks(marginals: pd.DataFrame, orders: pd.DataFrame) -> Figure:
    """Marginals, posterior means and samplers of a mixture, each beside its closed form."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2))
    for colour, (t, table) in zip(
        sns.color_palette("viridis", marginals["t"].nunique()), marginals.groupby("t"), strict=True
    ):
        left.plot(table["x"], table["density"], color=colour, label=f"t = {t:g}")
        left.plot(table["x"], table["sampled_density"], ".", color=colour, markersize=4)
        seen = table.dropna(subset="sampled_posterior_mean")
        middle.plot(seen["x"], seen["posterior_mean"], color=colour, label=f"t = {t:g}")
        middle.errorbar(
            seen["x"],
            seen["sampled_posterior_mean"],
            2 * seen["standard_error"],
            fmt=".",
            color=colour,
            markersize=3,
            lw=0.7,
        )
    left.set(
        title="Marginals: closed form (line), samples (dots)", xlabel="$x_t$", ylabel="density"
    )
    middle.set(title="Posterior mean, samples with 2 s.e.", xlabel="$x_t$", ylabel="$E[x_0 | x_t]$")
    left.legend()
    for (name, table), marker in zip(orders.groupby("sampler"), "os", strict=True):
        last = np.log(table[["steps", "error"]].tail(3))
        order = (
            f": order {-np.polyfit(last['steps'], last['error'], 1)[0]:.2f}"
            if len(last) > 1
            else ""
        )
        right.loglog(table["steps"], table["error"], marker=marker, label=f"{name}{order}")
    right.set(
        title="Samplers on the probability-flow ODE",
        xlabel="network evaluations",
        ylabel="mean error of the quantiles",
    )
    right.legend()
    return figure


def latent_sets(manifold: Arcs, tests: pd.DataFrame) -> Figure:
    """Nested supports; energy distances and the share of pairs that differ, against time."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.4))
    _nested_supports(left, manifold)
    kinds = {"style": "kind", "style_order": ["nested", "control"], "errorbar": ("pi", 100)}
    look = {"x": "t", "hue": "dimension", "palette": "colorblind"}
    sns.lineplot(tests, y="energy_distance", ax=middle, **look, **kinds)
    middle.set(title="Feature against class (mean and range of pairs)", ylabel="energy distance")
    middle.set_yscale("log")
    place = {"bbox_to_anchor": (0.5, -0.2), "ncols": 2, "fontsize": "small", "title": None}
    sns.move_legend(middle, "upper center", **place)
    shares = share_that_differs(nested_pairs(tests)).reset_index()
    sns.lineplot(shares, y="differs", style="dimension", markers=True, ax=right, **look)
    right.axhline(0.5, color="0.6", lw=1)
    right.set(title="Share of pairs that differ", ylim=(-0.03, 1.03))
    right.set_ylabel("pairs with Holm-corrected p < 0.01")
    for axis in (middle, right):
        axis.set_xlabel("diffusion time t")
    return figure


def _nested_supports(axis: Axes, manifold: Arcs) -> None:
    """One class inside one feature inside all classes."""
    u = torch.linspace(0, 1, 200, dtype=torch.float64)
    labels = dict.fromkeys(range(16), "other classes")
    labels |= dict.fromkeys(
        manifold.with_attribute(0, 0).tolist(), "classes of the feature 'inner'"
    )
    labels[0] = "one class"
    looks = {"other classes": ("0.8", 1.5), "one class": (PALETTE[3], 4)}
    for c, label in sorted(labels.items()):
        flat = manifold.points(torch.full((200,), c), u) @ manifold.frame[:, :2]
        colour, width = looks.get(label, (PALETTE[0], 2))
        axis.plot(flat[:, 0], flat[:, 1], color=colour, lw=width, label=label)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    place = {"loc": "center", "bbox_to_anchor": (0.5, -0.16), "ncols": 1}
    axis.legend(handles.values(), handles.keys(), fontsize="small", **place)
    title = "Supports at t = 0: a class lies in each of its features"
    axis.set(title=title, aspect="equal", xticks=[], yticks=[])


def line_costs(closed: pd.DataFrame, sampled: pd.DataFrame) -> Figure:
    """Costs (top) and slopes (bottom) against theta, one column a thickness."""
    widths = sorted(closed["width"].unique(), reverse=True)
    figure, axes = plt.subplots(
        2,
        len(widths),
        figsize=(max(8.2, 4.1 * len(widths)), 7.2),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, width in zip(axes.T, widths, strict=True):
        for axis, quantity in zip(column, ("value", "slope"), strict=True):
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
                    markersize=4,
                    lw=1,
                    label=cost,
                )
            axis.set_xscale("log")
            if closed["theta"].nunique() == 1:
                axis.set_xlim(closed["theta"].iloc[0] / 2, closed["theta"].iloc[0] * 2)
        column[0].set(
            title=f"thickness {width:g}" if width else "thickness 0: KL is infinite",
            ylim=(-0.1, 3.3),
        )
        column[1].set(xlabel=r"distance $\theta$ of the lines", ylim=(-0.1, 2.6))
    axes[0, 0].set_ylabel("cost")
    axes[1, 0].set_ylabel(r"slope of the cost in $\theta$")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def affinity(table: pd.DataFrame, mixtures: dict[str, NGMG], upper: float) -> Figure:
    """The potentials beside |e|, and their deviation from affine against number of scales and
    range.
    """
    figure, (first, *maps) = plt.subplots(
        1, 3, figsize=(14, 4.4), gridspec_kw={"width_ratios": [1.1, 1, 1]}
    )
    e = torch.linspace(0, upper, 300, dtype=torch.float64)
    first.plot(e, e, color="black", lw=1, ls="--", label="$|e|$ = W1 of two points")
    for name, mixture in mixtures.items():
        first.plot(e, mixture.potential(e.unsqueeze(1)), color=COST_COLOURS[name], label=name, lw=2)
    first.set(title="Potentials", xlabel="$|e|$", ylabel=r"$\psi(e)$")
    first.legend()
    for axis, laws in zip(maps, ("paired lines", "unpaired lines"), strict=True):
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
            cbar=axis is maps[-1],
            cbar_kws={"label": "deviation from affine in W1, %"},
            linewidths=1,
        )
        title = "points and paired lines" if laws == "paired lines" else laws
        axis.set(
            title=f"Deviation in %, {title}",
            xlabel=f"lower end of the range (upper end {upper:g})",
            ylabel="number of scales",
        )
    return figure


def descents(lines: pd.DataFrame, helix: pd.DataFrame) -> Figure:
    """Error against step for every cost (columns), law and thickness (rows), one curve a start."""
    tables = {"lines": lines, "helix": helix}
    rows = [
        (laws, width) for laws, table in tables.items() for width in sorted(table["width"].unique())
    ]
    figure, axes = plt.subplots(
        len(rows), len(COST_COLOURS), figsize=(15, 2.5 * len(rows)), sharey=True, sharex="row"
    )
    for line, (laws, width) in zip(axes, rows, strict=True):
        for axis, cost in zip(line, COST_COLOURS, strict=True):
            table = tables[laws]
            table = table[(table["cost"] == cost) & (table["width"] == width)]
            starts = sorted(table["start"].unique())
            for start, colour in zip(starts, sns.color_palette("flare", len(starts)), strict=True):
                one = table[table["start"] == start]
                label = f"{start:g}" if laws == "lines" else f"{int(start) + 1}"
                axis.plot(one["step"], one["error"].clip(1e-4, 20), color=colour, label=label)
            axis.axhline(0.01, color="0.4", lw=1, ls="--")
            axis.set(yscale="log", ylim=(7e-5, 30))
            if table.empty:
                axis.text(
                    0.5,
                    0.5,
                    "see the row above",
                    ha="center",
                    va="center",
                    transform=axis.transAxes,
                    color="0.5",
                )
        thick = f"thickness {width:g}" if width else "thickness 0"
        line[0].set_ylabel(f"{laws}, {thick}\nerror / starting error")
        line[-1].legend(
            *line[-1].get_legend_handles_labels(),
            title=r"start $\theta$" if laws == "lines" else "start",
            fontsize="x-small",
            loc="upper left",
            bbox_to_anchor=(1, 1),
        )
    for axis, cost in zip(axes[0], COST_COLOURS, strict=True):
        axis.set_title(cost, color=COST_COLOURS[cost], weight="bold")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    return figure


def sample_complexity(table: pd.DataFrame) -> Figure:
    """R.m.s. relative error against sample size, one panel a cost, one line a dimension."""
    slopes = complexity_slopes(table).set_index(["cost", "dimension"])
    costs = list(table["cost"].unique())
    figure, axes = plt.subplots(
        1, len(costs), figsize=(4.5 * len(costs), 4.4), sharey=True, sharex=True
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
        axis.set(title=cost, xlabel="sample size n", xticks=n, xticklabels=n)
        axis.minorticks_off()
        axis.legend(fontsize="x-small")
    axes[0].set_ylabel("relative error of the estimate (r.m.s.)")
    return figure
