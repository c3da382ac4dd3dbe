"""One look for all figures, and files that come out byte for byte the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from gmmdiff.claims import complexity_slopes, holm_at_start
from gmmdiff.manifolds import AttributeManifold
from gmmdiff.ngmg import NGMG
from gmmdiff.statistics import bootstrap
from gmmdiff.streams import numpy_stream

_PALETTE = sns.color_palette("colorblind")
COST_COLOURS = {
    "W1": "black", "NGMG single": _PALETTE[1], "NGMG scale mixture": _PALETTE[2],
    "KL": _PALETTE[0], "JS": _PALETTE[4], "TV": _PALETTE[9],
}  # fmt: skip
COST_MARKERS = {"W1": "s", "NGMG single": "o", "NGMG scale mixture": "D", "KL": "^", "JS": "v", "TV": "P"}


def style() -> None:
    """Sets the look; call once at the top of a notebook."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", rc={
        "figure.dpi": 100, "savefig.dpi": 150, "savefig.bbox": "tight", "figure.constrained_layout.use": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
        "legend.frameon": False, "axes.titlesize": "medium", "font.size": 11,
        "svg.hashsalt": "gmmdiff", "svg.fonttype": "none",
    })  # fmt: skip


def save(figure: Figure, path: Path, description: str) -> None:
    """Writes PATH.png and PATH.svg without dates; the description is kept inside both files."""
    figure.savefig(f"{path}.png", metadata={"Description": description, "Software": None})
    with mpl.rc_context({"svg.hashsalt": "gmmdiff"}):
        figure.savefig(f"{path}.svg", metadata={"Description": description, "Date": None, "Creator": "gmmdiff"})


def diffusion_checks(marginals: pd.DataFrame, orders: pd.DataFrame) -> Figure:
    """Marginals, posterior means and samplers of a mixture, each beside its closed form."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2))
    for colour, (t, table) in zip(sns.color_palette("viridis", marginals["t"].nunique()), marginals.groupby("t"), strict=True):
        left.plot(table["x"], table["density"], color=colour, label=f"t = {t:g}")
        left.plot(table["x"], table["sampled_density"], ".", color=colour, markersize=4)
        seen = table.dropna(subset="sampled_posterior_mean")
        middle.plot(seen["x"], seen["posterior_mean"], color=colour, label=f"t = {t:g}")
        middle.errorbar(
            seen["x"], seen["sampled_posterior_mean"], 2 * seen["standard_error"], fmt=".", color=colour, markersize=3, lw=0.7
        )
    left.set(title="Marginals: closed form (line), samples (dots)", xlabel="$x_t$", ylabel="density")
    middle.set(title="Posterior mean, samples with 2 s.e.", xlabel="$x_t$", ylabel="$E[x_0 | x_t]$")
    left.legend()
    for (name, table), marker in zip(orders.groupby("sampler"), "os", strict=True):
        last = np.log(table[["steps", "error"]].tail(3))
        order = f": order {-np.polyfit(last['steps'], last['error'], 1)[0]:.2f}" if len(last) > 1 else ""
        right.loglog(table["steps"], table["error"], marker=marker, label=f"{name}{order}")
    right.set(title="Samplers on the probability-flow ODE", xlabel="network evaluations", ylabel="mean error of the quantiles")
    right.legend()
    return figure


def latent_sets(manifold: AttributeManifold, tests: pd.DataFrame) -> Figure:
    """Nested supports, energy distances and the share of significant pairs against diffusion time."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.4))
    u = torch.linspace(0, 1, 200, dtype=torch.float64)
    feature = set(manifold.with_attribute(0, 0).tolist())
    shown = {"other classes": ("0.8", 1.5), "classes of the feature 'inner'": (_PALETTE[0], 2), "one class": (_PALETTE[3], 4)}
    for c in range(16):
        flat = manifold.points(torch.full((200,), c), u) @ manifold.frame[:, :2]
        label = "one class" if c == 0 else "classes of the feature 'inner'" if c in feature else "other classes"
        left.plot(flat[:, 0], flat[:, 1], color=shown[label][0], lw=shown[label][1], label=label)
    handles = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
    left.legend(handles.values(), handles.keys(), loc="center", fontsize="small", bbox_to_anchor=(0.5, -0.16), ncols=1)
    left.set(title="Supports at t = 0: a class lies in each of its features", aspect="equal", xticks=[], yticks=[])
    sns.lineplot(
        tests, x="t", y="energy_distance", hue="dimension", style="kind", style_order=["nested", "control"],
        palette="colorblind", errorbar=("pi", 100), ax=middle,
    )  # fmt: skip
    middle.set(title="Feature against class (mean and range of pairs)", xlabel="diffusion time t", ylabel="energy distance")
    middle.set_yscale("log")
    sns.move_legend(middle, "upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize="small", title=None)
    pairs = holm_at_start({"latent_tests": tests})
    shares = pairs.assign(differs=pairs["corrected"] < 0.01).groupby(["dimension", "t"])["differs"].mean().reset_index()
    sns.lineplot(shares, x="t", y="differs", hue="dimension", style="dimension", markers=True, palette="colorblind", ax=right)
    right.axhline(0.5, color="0.6", lw=1)
    right.set(title="Share of pairs that differ", xlabel="diffusion time t", ylabel="pairs with Holm-corrected p < 0.01", ylim=(-0.03, 1.03))
    return figure


def line_costs(closed: pd.DataFrame, sampled: pd.DataFrame) -> Figure:
    """Costs (top) and slopes (bottom) against theta, one column a thickness; markers are samples."""
    widths = sorted(closed["width"].unique(), reverse=True)
    figure, axes = plt.subplots(2, len(widths), figsize=(max(8.2, 4.1 * len(widths)), 7.2), sharex=True, sharey="row", squeeze=False)
    for column, width in zip(axes.T, widths, strict=True):
        for axis, quantity in zip(column, ("value", "slope"), strict=True):
            for cost, colour in COST_COLOURS.items():
                table = closed[(closed["width"] == width) & (closed["cost"] == cost)]
                dots = sampled[(sampled["width"] == width) & (sampled["cost"] == cost)]
                axis.plot(table["theta"], table[quantity].replace(np.inf, np.nan), color=colour, lw=1.8)
                axis.errorbar(
                    dots["theta"], dots[quantity].replace(np.inf, np.nan), dots[f"{quantity}_error"].replace(np.inf, np.nan),
                    fmt=COST_MARKERS[cost], color=colour, markersize=4, lw=1, label=cost,
                )  # fmt: skip
            axis.set_xscale("log")
            if closed["theta"].nunique() == 1:
                axis.set_xlim(closed["theta"].iloc[0] / 2, closed["theta"].iloc[0] * 2)
        column[0].set(title=f"thickness {width:g}" if width else "thickness 0: KL is infinite", ylim=(-0.1, 3.3))
        column[1].set(xlabel=r"distance $\theta$ of the lines", ylim=(-0.1, 2.6))
    axes[0, 0].set_ylabel("cost")
    axes[1, 0].set_ylabel(r"slope of the cost in $\theta$")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def affinity(table: pd.DataFrame, mixtures: dict[str, NGMG], upper: float) -> Figure:
    """The potentials beside |e|, and their deviation from affine against number of scales and range."""
    figure, (first, *maps) = plt.subplots(1, 3, figsize=(14, 4.4), gridspec_kw={"width_ratios": [1.1, 1, 1]})
    e = torch.linspace(0, upper, 300, dtype=torch.float64)
    first.plot(e, e, color="black", lw=1, ls="--", label="$|e|$ = W1 of two points")
    for name, mixture in mixtures.items():
        first.plot(e, mixture.potential(e.unsqueeze(1)), color=COST_COLOURS[name], label=name, lw=2)
    first.set(title="Potentials", xlabel="$|e|$", ylabel=r"$\psi(e)$")
    first.legend()
    for axis, laws in zip(maps, ("paired lines", "unpaired lines"), strict=True):
        grid = table[table["laws"] == laws].pivot(index="n_scales", columns="lower", values="deviation") * 100
        sns.heatmap(
            grid, annot=True, fmt=".1f", vmin=0, vmax=10, cmap="cividis_r", ax=axis, cbar=axis is maps[-1],
            cbar_kws={"label": "deviation from affine in W1, %"}, linewidths=1,
        )  # fmt: skip
        title = "points and paired lines" if laws == "paired lines" else laws
        axis.set(title=f"Deviation in %, {title}", xlabel=f"lower end of the range (upper end {upper:g})", ylabel="number of scales")
    return figure


def descents(lines: pd.DataFrame, helix: pd.DataFrame) -> Figure:
    """Error against step for every cost (columns), law and thickness (rows), one curve a start."""
    tables = {"lines": lines, "helix": helix}
    rows = [(laws, width) for laws, table in tables.items() for width in sorted(table["width"].unique())]
    figure, axes = plt.subplots(len(rows), len(COST_COLOURS), figsize=(15, 2.5 * len(rows)), sharey=True, sharex="row")
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
                axis.text(0.5, 0.5, "see the row above", ha="center", va="center", transform=axis.transAxes, color="0.5")
        thick = f"thickness {width:g}" if width else "thickness 0"
        line[0].set_ylabel(f"{laws}, {thick}\nerror / starting error")
        line[-1].legend(*line[-1].get_legend_handles_labels(), title=r"start $\theta$" if laws == "lines" else "start", fontsize="x-small", loc="upper left", bbox_to_anchor=(1, 1))
    for axis, cost in zip(axes[0], COST_COLOURS, strict=True):
        axis.set_title(cost, color=COST_COLOURS[cost], weight="bold")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    return figure


def sample_complexity(table: pd.DataFrame) -> Figure:
    """Root-mean-square relative error against sample size, one panel a cost, one line a dimension."""
    slopes = complexity_slopes({"sample_complexity": table}).set_index(["cost", "dimension"])
    costs = list(table["cost"].unique())
    figure, axes = plt.subplots(1, len(costs), figsize=(4.5 * len(costs), 4.4), sharey=True, sharex=True)
    for axis, cost in zip(axes, costs, strict=True):
        for (dim, group), marker in zip(table[table["cost"] == cost].groupby("dimension"), "osD^v", strict=False):
            rms = group.groupby("n")["error"].apply(lambda e: np.sqrt(np.mean(np.square(e))))
            slope = slopes.loc[(cost, dim)]
            fitted = f": slope {slope['estimate']:.2f} [{slope['low']:.2f}, {slope['high']:.2f}]" if len(rms) > 1 else ""
            axis.loglog(rms.index, rms, marker=marker, label=f"D = {dim}{fitted}")
        n = np.array(sorted(table["n"].unique()))
        axis.loglog(n, 1.6 * n**-0.5, color="0.5", ls="--", label=r"$n^{-1/2}$")
        axis.set(title=cost, xlabel="sample size n", xticks=n, xticklabels=n)
        axis.minorticks_off()
        axis.legend(fontsize="x-small")
    axes[0].set_ylabel("relative error of the estimate (r.m.s.)")
    return figure


# ---- feature versus class -----------------------------------------------------------------------------------

ARM_COLOURS = {"none": "0.45", "coarse": _PALETTE[4], "class": _PALETTE[1], "feature": _PALETTE[0]}
ARM_MARKERS = {"none": "X", "coarse": "^", "class": "s", "feature": "o"}
GROUPS = ("seen", "rare", "held out")


def _iqm_lines(axis: Axes, table: pd.DataFrame, x: str, **look: Any) -> None:
    """IQM over seeds with its bootstrap interval, against x."""
    groups = [(at, group["value"].dropna().to_numpy()) for at, group in table.groupby(x)]
    found = [(at, *bootstrap([values], numpy_stream(0, "figure"))) for at, values in groups if len(values) > 1]
    at, middle, low, high = np.array(found).T
    axis.errorbar(at, middle, [middle - low, high - middle], capsize=2, lw=1.6, markersize=5, **look)


def _plain_log(axis: Axes, name: Literal["x", "y"]) -> None:
    """Makes one axis logarithmic, with ticks at 1, 2 and 5, written out."""
    axis.set(**{f"{name}scale": "log"})
    ticks = axis.xaxis if name == "x" else axis.yaxis
    ticks.set_minor_locator(LogLocator(subs=(2, 5)))
    for which in (ticks.set_major_formatter, ticks.set_minor_formatter):
        which("{x:g}")


def _floor_and_ceiling(axis: Axes, runs: pd.DataFrame, group: str, metric: str) -> None:
    """What real samples reach, and the unconditional model's misses: its defects are judged too mildly to compare."""
    part = runs[(runs["group"] == group) & (runs["s_c"] == 0)].set_index(["granularity", "metric"])["value"]
    axis.axhline(part["real", metric].mean(), color="0.5", ls=":", lw=1.2, label="floor: real samples")
    ceiling = "miss" if metric == "defect" else metric
    axis.axhline(part["none", ceiling].mean(), color="0.5", ls="-.", lw=1.2, label="ceiling: unconditional (misses)")


def _share_axis(axis: Axes) -> None:
    """Shares from 0 to 100 %, logarithmic above 0.1 %: from the floor to the ceiling there are three decades."""
    axis.set_yscale("symlog", linthresh=1e-3, linscale=0.4)
    axis.set_ylim(-1e-4, 1.4)
    axis.set_yticks([0, 1e-3, 1e-2, 1e-1, 1], ["0", "0.1 %", "1 %", "10 %", "100 %"])


def _arm_title(granularity: str, s_c: float) -> str:
    return granularity if granularity == "none" else f"{granularity}, {'mixture' if s_c else 'point'} ($s_c$ = {s_c:g})"


def arm_pictures(pictures: pd.DataFrame, manifold: AttributeManifold) -> Figure:
    """Samples of every arm over the true arcs: seen combinations above, held-out ones below; defects red."""
    mixture = pictures["s_c"].max()
    arms = [arm for arm in ARM_COLOURS if arm in set(pictures["granularity"])]
    figure, axes = plt.subplots(2, len(arms), figsize=(3.4 * len(arms), 7.2), sharex=True, sharey=True, squeeze=False)
    u = torch.linspace(0, 1, 200, dtype=torch.float64)
    for column, arm in zip(axes.T, arms, strict=True):
        mine = pictures[(pictures["granularity"] == arm) & (pictures["s_c"] == mixture)]
        for axis, (held_out, table) in zip(column, mine.groupby("held_out"), strict=True):
            wanted = set(table["combination"])
            for c in range(16):
                flat = manifold.points(torch.full((200,), c), u) @ manifold.frame[:, :2]
                axis.plot(flat[:, 0], flat[:, 1], color="0.35" if c in wanted else "0.85", lw=1)
            for defect, colour, marker in ((False, ARM_COLOURS[arm], "."), (True, "red", "x")):
                dots = table[table["defect"] == defect]
                axis.plot(dots["x"], dots["y"], marker, color=colour, markersize=4, alpha=0.7, lw=0)
            share = table["defect"].mean()
            which = "held-out" if held_out else "seen"
            axis.set(aspect="equal", xticks=[], yticks=[], title=f"{arm}, {which}: {share:.0%} defects")
            axis.grid(False)
    return figure


def reverse_strip(strip: pd.DataFrame, manifold: AttributeManifold) -> Figure:
    """From noise to data: x_t along the sampler, coloured by the half that was asked for."""
    times = sorted(strip["t"].unique(), reverse=True)
    figure, axes = plt.subplots(1, len(times), figsize=(2.5 * len(times), 2.9), sharex=True, sharey=True)
    colours = np.array([_PALETTE[0], _PALETTE[1]])
    for axis, t in zip(axes, times, strict=True):
        now = strip[strip["t"] == t]
        half = manifold.combinations[torch.tensor(now["combination"].to_numpy()), 1].numpy()
        axis.scatter(now["x"], now["y"], c=colours[half], s=2)
        axis.set(title=f"t = {t:.3g}", aspect="equal", xticks=[], yticks=[])
        axis.grid(False)
    axes[0].set_xlabel("blue: upper half asked for, orange: lower", loc="left", fontsize="small")
    return figure


def defects_by_size(runs: pd.DataFrame) -> Figure:
    """Defects, misses and energy distances against n_train for every arm; floor and ceiling in grey."""
    measures = {"defect": "share of defects", "miss": "share of misses of the arc asked for", "energy_distance": "energy distance to its law"}
    figure, axes = plt.subplots(len(measures), len(GROUPS), figsize=(14, 11), sharex=True, sharey="row")
    for line, (metric, name) in zip(axes, measures.items(), strict=True):
        for axis, group in zip(line, GROUPS, strict=True):
            part = runs[(runs["group"] == group) & (runs["metric"] == metric)]
            for (arm, s_c), table in part[part["granularity"] != "real"].groupby(["granularity", "s_c"], sort=False):
                if arm == "none" and s_c:
                    continue  # noise instead of a constant: nothing is said by either
                _iqm_lines(
                    axis, table, "n_train", color=ARM_COLOURS[arm], marker=ARM_MARKERS[arm], ls="-" if s_c else "--",
                    markerfacecolor=None if s_c else "white", label=_arm_title(arm, s_c),
                )  # fmt: skip
            _floor_and_ceiling(axis, runs, group, metric)
            axis.set(xscale="log")
            if metric == "energy_distance":
                axis.set_yscale("log")
            else:
                _share_axis(axis)
            axis.set_xticks(sorted(part["n_train"].unique()), [f"{n:g}" for n in sorted(part["n_train"].unique())])
            axis.minorticks_off()
        line[0].set_ylabel(name)
    for axis, group in zip(axes[0], GROUPS, strict=True):
        axis.set_title(f"{group} combinations")
    for axis in axes[-1]:
        axis.set_xlabel("n_train")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize="small")
    return figure


def defect_map(places: pd.DataFrame) -> Figure:
    """Mean share of defects by arm and combination, at the largest n_train."""
    largest = places[places["n_train"] == places["n_train"].max()]
    seen = int(largest.loc[largest["group"] != "held out", "place"].max())
    rare = sorted(largest.loc[largest["group"] == "rare", "place"].unique())
    arm = largest["granularity"] + np.where(largest["granularity"] == "none", "", largest["s_c"].map(", $s_c$ = {:g}".format))
    once = (largest["granularity"] != "none") | (largest["s_c"] == 0)
    grid = largest.assign(arm=arm)[once].pivot_table(index="arm", columns="place", values="value", sort=False) * 100
    figure, axis = plt.subplots(figsize=(13, 0.55 * len(grid) + 2))
    sns.heatmap(grid, annot=True, fmt=".0f", cmap="cividis_r", vmin=0, vmax=100, linewidths=1, ax=axis, cbar_kws={"label": "defects, %"})
    labels = [f"{p}" + (" rare" if p in rare else "") if p <= seen else "held out" for p in grid.columns]
    axis.set_xticklabels(labels, rotation=45, ha="right")
    axis.set(xlabel="combination, from the most frequent in training", ylabel="", title=f"Where the defects are, n_train = {largest['n_train'].max()}")
    return figure


def forest(contrasts: pd.DataFrame, title: str) -> Figure:
    """Paired contrasts with their intervals, one panel a claim; filled markers decide, open ones are controls."""
    claims = list(contrasts["claim"].unique())
    tallest = contrasts.groupby("claim").size().max()
    figure, axes = plt.subplots(2, -(-len(claims) // 2), figsize=(14, 2 * (0.24 * tallest + 1)), squeeze=False)
    for axis, claim in zip(axes.flat, claims, strict=True):
        table = contrasts[contrasts["claim"] == claim].iloc[::-1]
        for place, row in enumerate(table.itertuples()):
            colour = "0.55" if not row.judged else _PALETTE[2] if row.high < 0 else _PALETTE[3] if row.low > 0 else _PALETTE[0]
            axis.plot([row.low, row.high], [place, place], color=colour, lw=2)
            axis.plot(row.estimate, place, "o", color=colour, markerfacecolor=colour if row.judged else "white", markersize=6)
        names = [
            f"{r.arm}, n = {r.n_train}" + ("" if r.judged else ", point" if r.s_c == 0 else f", {r.metric.replace('_', ' ')} only")
            for r in table.itertuples()
        ]
        axis.set_yticks(range(len(table)), names, fontsize="small")
        axis.axvline(0, color="black", lw=1)
        axis.set(title=claim, xlabel="difference")
        axis.grid(axis="y", visible=False)
    figure.suptitle(title, fontsize="medium")
    return figure


def training_checks(losses: pd.DataFrame, lengths: pd.DataFrame, samplers: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Training curves, defects against training length, and defects against the sampler's evaluations."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.4))
    largest = losses[losses["n_train"] == losses["n_train"].max()]
    mixture = largest[largest["s_c"] == largest["s_c"].max()]
    for arm, table in mixture.groupby("granularity", sort=False):
        curve = table.groupby("step")["loss"].median()
        left.plot(curve.index, curve, color=ARM_COLOURS[arm], label=arm)
    left.set(yscale="log", xlabel="step", ylabel="v-loss, median of seeds", title=f"Training curves, n_train = {largest['n_train'].max()}")
    seen = lengths[(lengths["metric"] == "defect") & (lengths["group"] == "seen") & (lengths["granularity"] != "real")]
    for (arm, s_c), table in seen.groupby(["granularity", "s_c"], sort=False):
        _iqm_lines(
            middle, table, "steps", color=ARM_COLOURS[arm], marker=ARM_MARKERS[arm], ls="-" if s_c else "--",
            markerfacecolor=None if s_c else "white", label=_arm_title(arm, s_c),
        )  # fmt: skip
    steps = sorted(lengths["steps"].unique())
    middle.set(xscale="log", xlabel="training steps", ylabel="share of defects, seen", title="Is the training long enough?")
    middle.set_xticks(steps, steps)
    few = samplers[samplers["sampler"] != "ancestral"]
    _iqm_lines(right, few, "evaluations", color=ARM_COLOURS["feature"], marker="o", label="DPM-Solver++(2M)")
    _iqm_lines(right, samplers[samplers["sampler"] == "ancestral"], "evaluations", color="black", marker="s", ls="", label="ancestral")
    counts = sorted(samplers["evaluations"].unique())
    right.set(xscale="log", xlabel="network evaluations", ylabel="share of defects, seen", title="Is the sampler good enough?")
    right.set_xticks(counts, counts, rotation=45)
    for axis in (middle, right):
        axis.minorticks_off()
        _share_axis(axis)
        _floor_and_ceiling(axis, runs[runs["n_train"] == runs["n_train"].max()], "seen", "defect")
    left.legend(fontsize="small")
    for axis, down in ((middle, -0.18), (right, -0.26)):
        axis.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, down), ncols=2)
    return figure


def scale_sweep(sweep: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Defects against the scale s_c of the components, one panel a group of combinations."""
    figure, axes = plt.subplots(1, len(GROUPS), figsize=(14, 4.2), sharey=True)
    part = sweep[(sweep["metric"] == "defect") & (sweep["granularity"] != "real")]
    alike = runs[runs["n_train"] == sweep["n_train"].iloc[0]]
    for axis, group in zip(axes, GROUPS, strict=True):
        for arm, table in part[part["group"] == group].groupby("granularity", sort=False):
            _iqm_lines(axis, table, "s_c", color=ARM_COLOURS[arm], marker=ARM_MARKERS[arm], label=arm)
        _floor_and_ceiling(axis, alike, group, "defect")
        axis.set(xlabel="scale of the components $s_c$", title=f"{group} combinations")
        _share_axis(axis)
    axes[0].set_ylabel("share of defects")
    axes[-1].legend(fontsize="small", loc="center")
    return figure


# ---- NGMG stability -----------------------------------------------------------------------------------------

STABILITY_COLOURS = {
    "BCE": "black", "Brier": _PALETTE[0], "MAE": _PALETTE[9], "NGMG s=0.5": _PALETTE[8], "NGMG s=1": _PALETTE[1],
    "NGMG scale mixture": _PALETTE[2], "NGMG with entropy": _PALETTE[4],
}  # fmt: skip
STABILITY_MARKERS = {"BCE": "s", "Brier": "o", "MAE": "v", "NGMG s=0.5": "P", "NGMG s=1": "D", "NGMG scale mixture": "^", "NGMG with entropy": "X"}
MEASURES = {
    "spike_rate": "spike rate", "variation": "variation of the gradient norm", "spread": "spread of the final loss",
    "diverged": "share of diverged runs", "accuracy": "accuracy", "defect": "share of defects", "energy_distance": "energy distance",
}  # fmt: skip

SMALLEST_SHOWN = {"spike_rate": 1e-3, "variation": 1e-2, "energy_distance": 0.1}  # differences over decades: linear only up to here


def backward_signals(signals: pd.DataFrame) -> Figure:
    """What every cost sends back to the probability and to the logit, against the discrepancy of a true label."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.6))
    for cost, table in signals.groupby("cost", sort=False):
        for axis, place in zip(axes, ("probability", "logit"), strict=True):
            axis.plot(table["e"], table[place], color=STABILITY_COLOURS[cost], lw=2, ls="--" if cost == "MAE" else "-", zorder=3 if cost == "MAE" else 2, label=cost)
    axes[0].set(ylim=(-5, 0.2), title="to the probability: BCE's pull has no bound", ylabel="signal sent back")
    axes[1].set(title="to the logit: without BCE, a sure and wrong p is let go")
    for axis in axes:
        axis.axhline(0, color="0.5", lw=0.8)
        axis.set_xlabel("discrepancy e = p - 1 (label 1)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize="small")
    return figure


def gradient_traces(traces: pd.DataFrame, runs: pd.DataFrame, signal: str) -> Figure:
    """Largest gradient norm of every few steps: median and worst seed of every cost, one row a lambda, at the largest learning rate."""
    rate, steps = traces["learning_rate"].max(), traces["steps"].min()
    shown = traces[(traces["learning_rate"] == rate) & (traces["steps"] == steps)]
    reference = shown[shown["lam"] == 0].groupby("step")["norm"].median()
    shown = shown[(shown["lam"] > 0) & ((shown["signal"] == signal) | (shown["cost"] == "BCE"))]
    costs, levels = [c for c in STABILITY_COLOURS if c in set(shown["cost"])], sorted(shown["lam"].unique())
    rates = runs[(runs["metric"] == "spike_rate") & (runs["learning_rate"] == rate)]
    figure, axes = plt.subplots(len(levels), len(costs), figsize=(3 * len(costs), 2.5 * len(levels)), sharex=True, sharey=True, squeeze=False)
    for line, lam in zip(axes, levels, strict=True):
        for axis, cost in zip(line, costs, strict=True):
            mine = shown[(shown["lam"] == lam) & (shown["cost"] == cost)]
            spikes = rates[(rates["lam"] == lam) & (rates["cost"] == cost) & (rates["signal"] == mine["signal"].iloc[0])]
            worst = spikes.loc[spikes["value"].idxmax()]
            bad = mine[mine["seed"] == worst["seed"]]
            axis.plot(bad["step"], bad["norm"], color=STABILITY_COLOURS[cost], lw=0.8, alpha=0.6, label="worst seed")
            middle = mine.groupby("step")["norm"].median()
            axis.plot(middle.index, middle, color=STABILITY_COLOURS[cost], lw=2, label="median seed")
            axis.plot(reference.index, reference, color="0.6", lw=1, ls="--", label=r"without a cost ($\lambda$ = 0)")
            _plain_log(axis, "y")
            axis.set_title(f"{cost}: {worst['value']:.1%} spikes at worst", fontsize="small")
        line[0].set_ylabel(rf"$\lambda$ = {lam:g}" + "\ngradient norm")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    return figure


def against_learning_rate(classifier: pd.DataFrame) -> Figure:
    """Experiment A: accuracy and stability against the learning rate; shaded: decades within 5 % of the best, BCE and NGMG s = 1."""
    tasks = [(noise, signal) for noise in sorted(classifier["label_noise"].unique()) for signal in ("raw", "matched")]
    metrics = ("accuracy", "spike_rate", "variation")
    figure, axes = plt.subplots(len(metrics), len(tasks), figsize=(3.7 * len(tasks), 8.4), sharex=True, sharey="row", squeeze=False)
    for column, (noise, signal) in zip(axes.T, tasks, strict=True):
        mine = classifier[(classifier["label_noise"] == noise) & ((classifier["signal"] == signal) | (classifier["cost"] == "BCE"))]
        for axis, metric in zip(column, metrics, strict=True):
            for cost, table in mine[mine["metric"] == metric].groupby("cost", sort=False):
                _iqm_lines(axis, table, "learning_rate", color=STABILITY_COLOURS[cost], marker=STABILITY_MARKERS[cost], label=cost)
            axis.set_xscale("log")
            if classifier["learning_rate"].nunique() == 1:
                axis.set_xlim(classifier["learning_rate"].iloc[0] / 2, classifier["learning_rate"].iloc[0] * 2)
            if metric != "accuracy":
                axis.set_yscale("symlog", linthresh=0.01)
        for cost, hatch in (("BCE", "///"), ("NGMG s=1", None)):
            accuracy = mine[(mine["metric"] == "accuracy") & (mine["cost"] == cost)].groupby("learning_rate")["value"].median()
            near = accuracy[accuracy >= 0.95 * accuracy.max()].index
            for axis in column:
                axis.axvspan(near.min(), near.max(), facecolor=STABILITY_COLOURS[cost] if hatch is None else "none", alpha=0.15, hatch=hatch, edgecolor=STABILITY_COLOURS[cost], lw=0)
        column[0].set_title(f"label noise {noise:g}, {signal}")
        column[-1].set_xlabel("learning rate")
    for axis, metric in zip(axes[:, 0], metrics, strict=True):
        axis.set_ylabel(MEASURES[metric])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize="small")
    return figure


def stability_forest(contrasts: pd.DataFrame, cost: str) -> Figure:
    """One cost minus BCE and minus Brier, raw (filled) and matched (open), in every cell and measure of experiment B."""
    mine = contrasts[contrasts["cost"] == cost]
    cells = list(mine[["lam", "learning_rate"]].drop_duplicates().sort_values(["lam", "learning_rate"]).itertuples(index=False))
    figure, axes = plt.subplots(2, 4, figsize=(14, 2 * (0.5 * len(cells) + 1.2)), sharey=True)
    offsets = {("BCE", "raw"): 0.27, ("BCE", "matched"): 0.09, ("Brier", "raw"): -0.09, ("Brier", "matched"): -0.27}
    for axis, (metric, name) in zip(axes.flat, MEASURES.items(), strict=False):
        for (rival, signal), offset in offsets.items():
            colour = STABILITY_COLOURS[rival]
            table = mine[(mine["metric"] == metric) & (mine["rival"] == rival) & (mine["signal"] == signal)].set_index(["lam", "learning_rate"])
            rows = table.reindex(cells)
            at = np.arange(len(cells))[::-1] + offset
            axis.hlines(at, rows["low"], rows["high"], color=colour, lw=1.6)
            axis.plot(rows["estimate"], at, "o", color=colour, markerfacecolor=colour if signal == "raw" else "white", markersize=4.5, label=f"minus {rival}, {signal}")
        axis.axvline(0, color="0.4", lw=1)
        axis.set_yticks(range(len(cells)), [rf"$\lambda$ = {lam:g}, rate {rate:g}" for lam, rate in reversed(cells)])
        axis.set_title(name, fontsize="small")
        if metric in SMALLEST_SHOWN:
            axis.set_xscale("symlog", linthresh=SMALLEST_SHOWN[metric])
            axis.tick_params(axis="x", labelsize="small")
        else:
            axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.grid(axis="y", visible=False)
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", fontsize="small")
    figure.suptitle(f"{cost} minus BCE and minus Brier, paired by seed, 95 % intervals (IQM)", fontsize="medium")
    return figure


def quality_beside_stability(joint: pd.DataFrame) -> Figure:
    """Share of defects against spike rate and against variation: one column a lambda, one dot an arm."""
    runs = joint[joint["steps"] == joint["steps"].min()]
    arms = runs.groupby(["lam", "learning_rate", "cost", "signal", "metric"])["value"].agg(lambda v: bootstrap([v.to_numpy()], numpy_stream(0, "figure")).estimate)
    wide = arms.unstack("metric").reset_index()
    levels, rates = sorted(wide.loc[wide["lam"] > 0, "lam"].unique()), sorted(wide["learning_rate"].unique())
    figure, axes = plt.subplots(2, len(levels), figsize=(4.6 * len(levels), 7.6), sharey=True, sharex="row", squeeze=False)
    for line, metric in zip(axes, ("spike_rate", "variation"), strict=True):
        for axis, lam in zip(line, levels, strict=True):
            for row in wide[wide["lam"] == lam].itertuples():
                colour = STABILITY_COLOURS[row.cost]
                axis.plot(
                    getattr(row, metric), row.defect, STABILITY_MARKERS[row.cost], color=colour, markersize=6 + 4 * rates.index(row.learning_rate),
                    markerfacecolor=colour if row.signal == "raw" else "white", alpha=0.8,
                    label=row.cost if row.signal == "raw" and row.learning_rate == rates[0] else None,
                )  # fmt: skip
            for row in wide[wide["lam"] == 0].itertuples():
                axis.plot(getattr(row, metric), row.defect, "*", color="0.5", markersize=9 + 4 * rates.index(row.learning_rate), label="without a cost" if row.learning_rate == rates[0] else None)
            axis.set(title=rf"$\lambda$ = {lam:g}", xlabel=MEASURES[metric])
            axis.yaxis.set_major_formatter(PercentFormatter(1))
            if metric == "spike_rate":
                axis.set_xscale("symlog", linthresh=SMALLEST_SHOWN[metric])
            else:
                _plain_log(axis, "x")
        line[0].set_ylabel("share of defects, seen")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize="small", title=f"filled: raw, open: matched; larger: rate {rates[-1]:g}")
    return figure


def reference_losses(traces: pd.DataFrame) -> Figure:
    """The v-loss of the denoiser without a cost, at the published length and at twice that."""
    reference = traces[traces["lam"] == 0]
    figure, axes = plt.subplots(1, reference["learning_rate"].nunique(), figsize=(10, 3.8), sharey=True, squeeze=False)
    for axis, (rate, table) in zip(axes[0], reference.groupby("learning_rate"), strict=True):
        for (steps, one), colour in zip(table.groupby("steps"), ("0.3", _PALETTE[1]), strict=True):
            middle = one.groupby("step")["loss"].median()
            axis.plot(middle.index, middle, color=colour, label=f"{steps} steps")
        _plain_log(axis, "y")
        axis.set(xlabel="step", title=f"learning rate {rate:g}")
    axes[0, 0].set_ylabel("v-loss, median of seeds")
    axes[0, 0].legend()
    return figure


# ---- performance --------------------------------------------------------------------------------------------

CONTESTANT_COLOURS = {"engine": _PALETTE[0], "torch.func": _PALETTE[2], "loop": "black", "loop, tuned": "0.55", "products": _PALETTE[1]}
SIDE_LOOKS = {"ours": ("-", "o"), "diffusers": (":", "x"), "ours, own times": ("--", "D")}
SAMPLER_COLOURS = {"ancestral": "black", "DDIM": _PALETTE[1], "DPM-Solver++(2M)": _PALETTE[0]}
SPENT_COLOURS = {"training": _PALETTE[0], "sampling": _PALETTE[2], "other": _PALETTE[4], "rest": "0.8"}


def _quartiles(axis: Axes, at: Any, table: pd.DataFrame, **look: Any) -> None:
    """Medians with their quartiles."""
    axis.errorbar(at, table["median"], [table["median"] - table["low"], table["high"] - table["median"]], capsize=3, **look)


def training_rates(rates: pd.DataFrame, ratio: pd.DataFrame, target: float) -> Figure:
    """Operations a second of the products and the engine, and the engine's share; quartiles of the turns."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2))
    places = {key: place for place, key in enumerate(ratio[["device", "shape"]].itertuples(index=False, name=None))}
    for contestant, table in rates.groupby("contestant", sort=False):
        at = [places[key] for key in table[["device", "shape"]].itertuples(index=False, name=None)]
        scaled = table[["median", "low", "high"]] / 1e9
        _quartiles(left, at, scaled, fmt="o", color=CONTESTANT_COLOURS[contestant], label=contestant)
    _quartiles(right, range(len(places)), ratio, fmt="o", color=CONTESTANT_COLOURS["engine"], label="engine / products, same turn")
    right.axhline(target, color="0.4", ls="--", lw=1.2, label=f"target on the CPU, {target:.0%}")
    left.set(title="Rate of the matrix products alone, and of training", ylabel=r"$10^9$ operations a second", ylim=(0, None))
    right.set(title="Share of the products' rate", ylim=(0, 1.05))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axis in (left, right):
        axis.set_xticks(range(len(places)), [f"{shape}\n{device}" for device, shape in places], fontsize="small")
        axis.set_xlim(-0.5, len(places) - 0.5)
        axis.legend(fontsize="small", loc="lower left")
    return figure


def growth(costs: pd.DataFrame) -> Figure:
    """Milliseconds a run-step against the number of rows, one panel a device and shape; quartiles of the turns."""
    panels = costs.groupby(["device", "shape"], sort=False)
    figure, axes = plt.subplots(1, panels.ngroups, figsize=(6 * panels.ngroups, 4.4), sharey=True, squeeze=False)
    for axis, ((device, shape), panel) in zip(axes[0], panels, strict=True):
        for contestant, table in panel.groupby("contestant", sort=False):
            _quartiles(axis, table["rows"], table, fmt="o-", color=CONTESTANT_COLOURS[contestant], label=contestant)
        rows = sorted(panel["rows"].unique())
        axis.set(xscale="log", xlabel="rows trained together", title=f"{shape} shape, {device}")
        axis.set_xticks(rows, rows)
        axis.minorticks_off()
        _plain_log(axis, "y")
    axes[0, 0].set_ylabel("milliseconds a step of one run")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    return figure


def sampling_costs(errors: pd.DataFrame, ratio: pd.DataFrame) -> Figure:
    """Energy distance against evaluations and against seconds, and our time an evaluation over that of diffusers."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6))
    drawn = errors[errors["sampler"] != "real"].groupby(["sampler", "side", "evaluations"], sort=False)[["error", "seconds"]].mean().reset_index()
    for axis, x in zip(axes, ("evaluations", "seconds"), strict=False):
        for (sampler, side), table in drawn.groupby(["sampler", "side"], sort=False):
            line, marker = SIDE_LOOKS[side]
            ordered = table.sort_values("evaluations")
            axis.plot(ordered[x], ordered["error"], line, marker=marker, color=SAMPLER_COLOURS[sampler], markersize=5, label=f"{sampler}, {side}")
        axis.axhline(errors[errors["sampler"] == "real"]["error"].mean(), color="0.5", ls=":", lw=1.2, label="real points")
        axis.set(xscale="log", ylabel="energy distance, mean of seeds")
        _plain_log(axis, "y")
    axes[0].set(xlabel="network evaluations", title="Error against evaluations")
    axes[1].set(xlabel="seconds for all samples of one network", title="Error against seconds")
    counts = list(ratio["samples"].unique())
    for place, (sampler, table) in enumerate(ratio.groupby("sampler", sort=False)):
        at = [counts.index(samples) + 0.2 * (place - 1) for samples in table["samples"]]
        _quartiles(axes[2], at, table, fmt="o", color=SAMPLER_COLOURS[sampler])
    axes[2].axhline(1, color="0.4", ls="--", lw=1.2)
    axes[2].set_xticks(range(len(counts)), counts)
    axes[2].set_xlim(-0.5, max(len(counts), 1) - 0.5)
    axes[2].set(xlabel="samples at once", ylabel="ours / diffusers", title="Time an evaluation" if counts else "diffusers is missing here: not measured")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    return figure


def stage_shares(stages: pd.DataFrame) -> Figure:
    """What every stage's seconds went to; grey where it is neither training nor sampling, hatched where it is not recorded."""
    figure, axis = plt.subplots(figsize=(10, 1.2 + 0.32 * len(stages)))
    left = np.zeros(len(stages))
    known = stages["outside"].notna()
    parts = stages[["training", "sampling", "other"]].fillna(0)
    parts["rest"] = (stages["seconds"] - parts.sum(axis=1)).clip(lower=0).where(known, 0)
    for name in parts:
        axis.barh(stages["stage"], parts[name], left=left, color=SPENT_COLOURS[name], label=name)
        left += parts[name].to_numpy()
    axis.barh(stages["stage"], stages["seconds"].where(~known, 0), color="white", edgecolor="0.6", hatch="///", label="not recorded")
    axis.invert_yaxis()
    axis.set(xlabel="seconds", title="Where the stages' time goes")
    axis.grid(axis="y", visible=False)
    axis.legend(fontsize="small")
    return figure
