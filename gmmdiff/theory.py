"""The theory checks: each turns its parameters into one tidy table.

Every function draws from the generator it is given, or from streams of the seed it is given, and nothing else.
What is independent runs side by side; draws are made before, in order.  ``progress`` wraps an iterable, as
tqdm does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq, linprog
from scipy.stats import kstest, norm
from torch import Tensor

from gmmdiff import diffusion
from gmmdiff.checks import require
from gmmdiff.distances import (
    LineCosts,
    divergences_from_histograms,
    divergences_from_samples,
    energy_tests,
    transport_plan,
    wasserstein1,
)
from gmmdiff.manifolds import VALUES, AttributeManifold, Helix, ParallelLine
from gmmdiff.mixtures import GaussianMixture
from gmmdiff.ngmg import NGMG
from gmmdiff.parallel import side_by_side
from gmmdiff.streams import stream

Progress = Callable[[Iterable], Iterable]
SAMPLERS = {"DDIM": diffusion.ddim, "DPM-Solver++(2M)": diffusion.dpmpp_2m}


def mixtures_under_test(s_single: float, s_min: float, s_max: float, n_scales: int) -> dict[str, NGMG]:
    """The two mixtures that claims T3 to T6 are judged for, by the names the tables use."""
    return {"NGMG single": NGMG([s_single]), "NGMG scale mixture": NGMG.scale_mixture(s_min, s_max, n_scales)}


# ---- 1. diffusion against closed forms --------------------------------------------------------------------


def example_mixture() -> GaussianMixture:
    """Three overlapping modes on the line: the law of check 1."""
    column = torch.tensor([[-1.2, 0.1, 1.3], [0.5, 0.35, 0.45]], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    return GaussianMixture(weights, column[0].unsqueeze(1), column[1].unsqueeze(1))


def mixture_cdf(mixture: GaussianMixture, x: np.ndarray) -> np.ndarray:
    """P(X <= x) of a mixture on the line; x ``(n,)``."""
    w, m, s = (v.numpy().reshape(-1) for v in (mixture.weights, mixture.means, mixture.scales))
    return norm.cdf((np.asarray(x)[..., None] - m) / s) @ w


def mixture_quantile(mixture: GaussianMixture, level: float) -> float:
    """The x with P(X <= x) = level, by bisection in [-9, 9]."""
    return brentq(lambda x: mixture_cdf(mixture, x) - level, -9, 9, xtol=1e-14)


def forward_marginals(times: Sequence[float], n: int, bins: int, generator: torch.Generator) -> pd.DataFrame:
    """Diffused samples beside the diffused mixture: density, posterior mean, Kolmogorov-Smirnov p value.

    One row a time and bin of x_t: the bin's density and mean of x_0 (with standard error), sampled and in
    closed form, averaged over the bin's samples.
    """
    require(len(times) > 0, "forward_marginals", "times", "at least one time in [0, 1]", "none")
    mixture, schedule = example_mixture(), diffusion.CosineSchedule()
    tables = []
    for t in times:
        alpha, sigma = (rate(torch.tensor(t, dtype=torch.float64)) for rate in (schedule.alpha, schedule.sigma))
        x_0 = mixture.sample(n, generator)
        x_t = diffusion.diffuse(x_0, torch.randn(n, 1, generator=generator, dtype=torch.float64), alpha, sigma)
        diffused = mixture.diffuse(alpha, sigma)
        samples = pd.DataFrame({"x": x_t[:, 0], "x_0": x_0[:, 0]})
        samples["posterior_mean"] = mixture.posterior_mean(x_t, alpha, sigma)[:, 0].numpy()
        edges = np.linspace(-3.5, 3.5, bins + 1)
        grouped = samples.groupby(pd.cut(samples["x"], edges, labels=False))
        table = pd.DataFrame({
            "t": t,
            "x": (edges[:-1] + edges[1:]) / 2,
            "density": np.diff(mixture_cdf(diffused, edges)) / np.diff(edges),
        })  # fmt: skip
        table["sampled_density"] = grouped.size() / n / (edges[1] - edges[0])
        table["posterior_mean"] = grouped["posterior_mean"].mean()
        table["sampled_posterior_mean"] = grouped["x_0"].mean()
        table["standard_error"] = grouped["x_0"].sem()
        table["p_value"] = kstest(x_t[:, 0].numpy(), lambda x, law=diffused: mixture_cdf(law, x)).pvalue
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def sampler_orders(steps: Sequence[int], progress: Progress = iter) -> pd.DataFrame:
    """Each sampler's error on the probability-flow ODE of the example mixture, against the number of steps.

    On the line that ODE keeps quantiles, so a start at the q quantile of the noised law must end at the
    q quantile of the law at the final time: exact, with no reference solver.  The error is the mean
    absolute one over quantiles 1 % to 99 %; the grid is even in the log signal-to-noise ratio.
    """
    require(len(steps) > 0 and min(steps) >= 1, "sampler_orders", "steps", "one or more numbers >= 1", list(steps))
    mixture, schedule = example_mixture(), diffusion.CosineSchedule()
    ends = torch.tensor([0.98, 0.02], dtype=torch.float64)
    laws = [mixture.diffuse(schedule.alpha(t), schedule.sigma(t)) for t in ends]
    levels = np.linspace(0.01, 0.99, 99)
    start, exact = (
        torch.tensor([[mixture_quantile(law, q)] for q in levels], dtype=torch.float64) for law in laws
    )

    def oracle(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x_0 = mixture.posterior_mean(x_t, alpha, sigma)
        return (alpha * x_t - x_0) / sigma  # v from x_0

    rows = []
    for count in progress(steps):
        times = schedule.even_times(count, *ends.tolist())
        for name, sampler in SAMPLERS.items():
            error = float((sampler(oracle, start, times, schedule) - exact).abs().mean())
            rows.append({"sampler": name, "steps": count, "error": error})
    return pd.DataFrame(rows)


# ---- 2. sets: features, classes, supports -------------------------------------------------------------------


def _noised(z_0: Tensor, t: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    schedule = diffusion.CosineSchedule()
    alpha, sigma = (rate(torch.tensor(t, dtype=torch.float64)) for rate in (schedule.alpha, schedule.sigma))
    noise = torch.randn(z_0.shape, generator=generator, dtype=torch.float64)
    return diffusion.diffuse(z_0, noise, alpha, sigma), alpha, sigma


def _feature_values() -> list[tuple[int, int, str]]:
    return [(j, value, name) for j, names in enumerate(VALUES) for value, name in enumerate(names)]


def latent_identity(
    dimensions: Sequence[int], times: Sequence[float], n: int, generator: torch.Generator, progress: Progress = iter
) -> pd.DataFrame:
    """p(z_t | feature) two ways, and whether the classes' supports lie in the feature's.

    Left side by Bayes' rule from all 16 classes, p(z) P(feature | z) / P(feature), where P(feature | z) sums
    responsibilities; right side the frequency-weighted mixture of the feature's class laws.  ``difference``
    is the largest gap of the two log densities over n points.  ``inclusion`` is the share of noise-free
    class points within 1e-3 of the feature's arcs; ``control`` the same for classes without the feature.
    """
    tables = []
    for dim in progress(dimensions):
        manifold = AttributeManifold(dim, generator)
        rows, drawn = [], []
        for attribute, value, name in _feature_values():
            members = manifold.with_attribute(attribute, value)
            others = manifold.with_attribute(attribute, 1 - value)
            support = [_share_on(manifold, classes, members, n, generator) for classes in (members, others)]
            for t in times:
                z_0 = manifold.sample(manifold.sample_combinations(n, generator), generator)
                drawn.append((members, *_noised(z_0, t, generator)))
                rows.append({"dimension": dim, "feature": name, "t": t, "inclusion": support[0], "control": support[1]})
        table = pd.DataFrame(rows)
        table.insert(3, "difference", side_by_side(partial(_largest_gap, manifold), drawn))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _largest_gap(manifold: AttributeManifold, drawn: tuple[Tensor, Tensor, Tensor, Tensor], nodes: int = 256) -> float:
    """The two sides of ``latent_identity`` for the member classes, z_t, alpha and sigma of one draw."""
    members, z_t, alpha, sigma = drawn
    every = manifold.density(torch.arange(16), nodes).diffuse(alpha, sigma)
    within = every.log_joint(z_t).unflatten(-1, (16, nodes)).logsumexp(-1)
    left = within[:, members].logsumexp(1) - manifold.frequencies[members].sum().log()
    right = manifold.density(members, nodes).diffuse(alpha, sigma).log_prob(z_t)
    return float((left - right).abs().max())


def _share_on(manifold: AttributeManifold, classes: Tensor, members: Tensor, n: int, generator: torch.Generator) -> float:
    """Share of n noise-free points of the classes that lie on an arc of the members."""
    drawn = manifold.sample_combinations(n, generator, classes)
    points = manifold.points(drawn, torch.rand(n, generator=generator, dtype=torch.float64))
    return float((manifold.distances(points)[:, members].min(1).values < 1e-3).double().mean())


def latent_tests(
    dimensions: Sequence[int], times: Sequence[float], n: int, permutations: int,
    generator: torch.Generator, progress: Progress = iter,
) -> pd.DataFrame:  # fmt: skip
    """Energy distance and permutation test between feature- and class-conditional laws of z_t.

    One row a dimension, time, feature and class that has the feature (kind ``nested``), and one a feature
    against a second sample of itself (kind ``control``: there the null holds).
    """
    require(n >= 2, "latent_tests", "n", ">= 2", n)
    rows = []
    for dim, t in progress([(dim, t) for dim in dimensions for t in times]):
        manifold = AttributeManifold(dim, generator)
        pairs = []
        for attribute, value, name in _feature_values():
            members = manifold.with_attribute(attribute, value)
            pairs += [(name, "nested", int(c), members, c.reshape(1)) for c in members]
            pairs += [(name, "control", -1, members, members)]
        x, y = (
            torch.stack([
                _noised(manifold.sample(manifold.sample_combinations(n, generator, pair[side]), generator), t, generator)[0]
                for pair in pairs
            ])
            for side in (3, 4)
        )  # fmt: skip
        energy, p_value = energy_tests(x, y, permutations, generator)
        table = pd.DataFrame([pair[:3] for pair in pairs], columns=["feature", "kind", "class"])
        rows.append(table.assign(dimension=dim, t=t, energy_distance=energy.numpy(), p_value=p_value.numpy()))
    return pd.concat(rows, ignore_index=True)


# ---- 3. parallel lines --------------------------------------------------------------------------------------


def closed_costs(mixtures: dict[str, NGMG], width: float) -> dict[str, Callable[[np.ndarray], tuple]]:
    """Every cost's (value, slope) as functions of theta, for lines of one width."""
    lines = LineCosts(width)
    named = {name: (lambda theta, m=mixture: lines.ngmg(theta, m)) for name, mixture in mixtures.items()}
    return {"W1": lines.w1, **named, "KL": lines.kl, "JS": lines.js, "TV": lines.tv}


def refine(thetas: Sequence[float], points: int = 60) -> list[float]:
    """The thetas, with log-spaced ones between their ends: for smooth curves through the sampled places."""
    require(len(thetas) > 0, "refine", "thetas", "at least one number > 0", "an empty grid")
    return sorted({*thetas, *np.geomspace(min(thetas), max(thetas), points)[1:-1].tolist()})


def line_costs(thetas: Sequence[float], widths: Sequence[float], mixtures: dict[str, NGMG]) -> pd.DataFrame:
    """Every cost between the lines at theta and at 0, and its slope, in closed form: one row each."""
    require(len(thetas) > 0, "line_costs", "thetas", "at least one number > 0", "an empty grid")
    require(0 in widths, "line_costs", "widths", "one or more numbers, 0 among them", list(widths))
    theta = np.asarray(thetas, dtype=float)
    rows = []
    for width in widths:
        for cost, function in closed_costs(mixtures, width).items():
            value, slope = function(theta)
            rows.append(pd.DataFrame({"cost": cost, "width": width, "theta": theta, "value": value, "slope": slope}))
    return pd.concat(rows, ignore_index=True)


def line_estimates(
    thetas: Sequence[float], widths: Sequence[float], mixtures: dict[str, NGMG], n: int, repeats: int,
    generator: torch.Generator, progress: Progress = iter,
) -> pd.DataFrame:  # fmt: skip
    """As ``line_costs``, estimated from n samples of each law; mean and standard error over repeats.

    W1 by exact transport, NGMG by its unbiased estimate (and its slope by autograd), KL, JS and TV from
    the log densities of the first coordinate, or from fine histograms where the width is 0.
    """
    require(len(thetas) > 0, "line_estimates", "thetas", "at least one number > 0", "an empty grid")
    require(repeats >= 2, "line_estimates", "repeats", ">= 2", repeats)
    rows = []
    for width in progress(widths):
        lines = [[ParallelLine(0.0, width).sample(n, generator) for _ in range(2)] for _ in range(repeats)]
        for found in side_by_side(partial(_line_estimate, thetas, width, mixtures), lines):
            rows += [
                {"cost": cost, "width": width, "theta": theta, "value": value[place], "slope": slope[place]}
                for place, theta in enumerate(thetas) for cost, (value, slope) in found.items()
            ]  # fmt: skip
    grouped = pd.DataFrame(rows).groupby(["cost", "width", "theta"], sort=False)[["value", "slope"]]
    return pd.concat([grouped.mean(), grouped.sem(ddof=1).add_suffix("_error")], axis=1).reset_index()


def _line_estimate(
    thetas: Sequence[float], width: float, mixtures: dict[str, NGMG], lines: Sequence[Tensor]
) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Every cost's values and slopes at the thetas, from samples of two lines at 0, ``(n, 2)`` each; one is moved."""
    base, other = lines
    shift = torch.tensor([[[theta, 0.0]] for theta in thetas], dtype=torch.float64, requires_grad=True)
    moved, no_slope = base + shift, [math.nan] * len(thetas)
    found = {"W1": ([wasserstein1(x, other) for x in moved.detach()], no_slope)}
    for name, mixture in mixtures.items():
        own = mixture.mean_potential(base) + mixture.mean_potential(other)  # a translation leaves it as it is
        cost = mixture.mean_potential(moved, other) - 0.5 * own
        (slope,) = torch.autograd.grad(cost.sum(), shift)
        found[name] = (cost.tolist(), slope[:, 0, 0].tolist())
    divergences = _line_divergences(thetas, width, moved.detach()[..., :1], other[:, :1])
    return found | {name: (values, no_slope) for name, values in divergences.items()}


def _line_divergences(thetas: Sequence[float], width: float, x: Tensor, y: Tensor) -> dict[str, list[float]]:
    """KL, JS and TV of the lines' first coordinates, from samples x ``(thetas, n, 1)`` and y ``(n, 1)``."""
    if width == 0:
        edges = [np.array([-0.5, 0.5, 1.5]) * theta for theta in thetas]
        found = [divergences_from_histograms(one.numpy(), y.numpy(), e) for one, e in zip(x, edges, strict=True)]
        return {name: [values[name] for values in found] for name in found[0]}
    at_theta = torch.tensor(thetas, dtype=torch.float64).reshape(-1, 1, 1)
    terms = divergences_from_samples(at_theta, torch.zeros(1, 1, dtype=torch.float64), width, x, y)
    return {name: values.mean(-1).tolist() for name, values in terms.items()}


# ---- 4. NGMG as a linear transformation of W1 ----------------------------------------------------------------


def affine_deviation(w1: np.ndarray, cost: np.ndarray) -> float:
    """How far a cost is from an affine function of W1: the least largest deviation, as a share of its range.

    The best affine function in the maximum norm (Chebyshev), a linear programme: minimise d subject to
    |a w + b - c| <= d.
    """
    w1, cost = np.asarray(w1, dtype=float), np.asarray(cost, dtype=float) / np.ptp(cost)
    one = np.ones_like(w1)
    above, below = np.column_stack([w1, one, -one]), np.column_stack([-w1, -one, -one])
    fit = linprog(
        [0, 0, 1], A_ub=np.vstack([above, below]), b_ub=np.concatenate([cost, -cost]),
        bounds=[(None, None), (None, None), (0, None)],
    )  # fmt: skip
    return float(fit.fun)


def transport_costs(ngmg: NGMG, distance: np.ndarray) -> dict[str, np.ndarray]:
    """NGMG of three pairs of laws whose W1 is the distance ``(n,)``: what "linear in W1" can mean.

    ``points``: two point masses; ``paired lines``: the mean potential over the optimal pairs of parallel
    lines, E psi(X - Y), where every pair has e = (distance, 0); ``unpaired lines``: the law-level cost,
    which sees no pairing.
    """
    e = torch.tensor(distance, dtype=torch.float64)
    return {
        "points": ngmg.potential(e.unsqueeze(1)).numpy(),
        "paired lines": ngmg.potential(torch.stack([e, torch.zeros_like(e)], 1)).numpy(),
        "unpaired lines": LineCosts().ngmg(np.asarray(distance), ngmg)[0],
    }


def affinity(
    n_scales: Sequence[int], lower: Sequence[float], upper: float, s_range: tuple[float, float], s_single: float,
    grid: int = 200, progress: Progress = iter,
) -> pd.DataFrame:  # fmt: skip
    """``affine_deviation`` for mixtures of 1, 2, ... scales, over ranges of W1 from each lower end to ``upper``.

    One scale is the single component s_single; several are log-spaced over ``s_range``.
    """
    require(len(n_scales) > 0, "affinity", "n_scales", "at least one number >= 1", "none")
    require(min(lower) > 0 and max(lower) < upper, "affinity", "lower, upper", "0 < lower < upper", (lower, upper))
    rows = []
    for count in progress(n_scales):
        ngmg = NGMG([s_single]) if count == 1 else NGMG.scale_mixture(*s_range, count)
        for start in lower:
            distance = np.linspace(start, upper, grid)
            for laws, cost in transport_costs(ngmg, distance).items():
                deviation = affine_deviation(distance, cost)
                rows.append({"n_scales": count, "laws": laws, "lower": start, "upper": upper, "deviation": deviation})
    return pd.DataFrame(rows)


# ---- 5. learning a law by gradient descent -------------------------------------------------------------------


def _rates(steps: int, rate: float) -> np.ndarray:
    """A learning rate that falls to 0 along half a cosine."""
    require(steps >= 1, "descent", "steps", ">= 1", steps)
    require(rate > 0, "descent", "rate", "> 0", rate)
    return rate * 0.5 * (1 + np.cos(np.pi * np.arange(steps) / steps))


def largest_slope(cost: Callable[[np.ndarray], tuple], reach: float) -> float:
    """A cost's largest slope for theta in (0, reach]: what its descents are divided by, so all push alike."""
    slope = np.abs(cost(np.geomspace(1e-3, 1, 400) * reach)[1]).max()
    return float(slope) if slope > 0 else 1.0


def descend_lines(
    starts: Sequence[float], widths: Sequence[float], mixtures: dict[str, NGMG], steps: int, rate: float,
    every: int = 20,
) -> pd.DataFrame:  # fmt: skip
    """theta by plain gradient descent towards the line at 0: one row a cost, width, start and kept step.

    ``error`` is |theta| as a share of |start|.
    """
    require(len(starts) > 0 and min(starts) > 0, "descend_lines", "starts", "one or more numbers > 0", list(starts))
    tables = []
    for width in widths:
        for name, cost in closed_costs(mixtures, width).items():
            theta = np.asarray(starts, dtype=float)
            scale = largest_slope(cost, max(starts))
            for step, now in enumerate([*_rates(steps, rate), 0.0]):
                if step % every == 0 or step == steps:
                    error = np.abs(theta) / starts
                    tables.append(pd.DataFrame({"cost": name, "width": width, "start": starts, "step": step, "error": error}))
                theta = theta - now * cost(theta)[1] / scale
    return pd.concat(tables, ignore_index=True)


Move = Callable[[Tensor], Tensor]  # positions u (n,) on the helix -> points (starts, n, D), moved from every start


def _helix_cost(
    name: str, width: float, mixtures: dict[str, NGMG], helix: Helix, n: int, generator: torch.Generator
) -> Callable[[Move], Tensor] | None:
    """A fresh estimate ``(starts,)`` of one cost between moved helices and the helix; None where it has no gradient."""

    def draw(move: Move) -> tuple[Tensor, Tensor]:
        return move(helix.stratified(n, generator)), helix.points(helix.stratified(n, generator))

    def transport(move: Move) -> Tensor:
        x, y = draw(move)
        plans = torch.stack([transport_plan(one, y) for one in x.detach()])
        return (plans * torch.cdist(x, y)).sum((1, 2))

    def divergence(move: Move) -> Tensor:
        nodes = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        x, y = draw(move)
        noise = width * torch.randn(2, *y.shape, generator=generator, dtype=torch.float64)
        return divergences_from_samples(move(nodes), helix.points(nodes), width, x + noise[0], y + noise[1])[name].mean(1)

    def ngmg(move: Move) -> Tensor:
        # Pairs of two independent stratified draws are pairs of the law; pairs within one draw are not quite.
        (x, y), (x_other, y_other), mean_potential = draw(move), draw(move), mixtures[name].mean_potential
        return mean_potential(x, y) - 0.5 * mean_potential(x, x_other) - 0.5 * mean_potential(y, y_other)

    if name == "W1":
        return transport
    if name in mixtures:
        return ngmg
    return divergence if width > 0 else None


def descend_helix(
    dimension: int, starts: Sequence[Sequence[float]], width: float, mixtures: dict[str, NGMG], n: int, steps: int,
    rate: float, seed: int, every: int = 20,
) -> pd.DataFrame:  # fmt: skip
    """A translated, turned and scaled helix finds its place by plain stochastic gradient descent.

    All costs and starts see the same draws.

    Args:
        starts: triples (length of the translation, turn in radians, scale > 0).
        width: thickness at which KL, JS and TV are shown a second time; the first is 0, where they are
            constant or infinite and have no gradient.

    Returns:
        one row a cost, width, start and kept step; ``error`` is the root mean square displacement of the
        curve's points as a share of the starting one.
    """
    require(len(starts) > 0, "descend_helix", "starts", "at least one triple", "none")
    require(min(start[2] for start in starts) > 0, "descend_helix", "the scale of starts", "> 0", list(starts))
    generator = stream(seed, "helix")
    helix = Helix(dimension, generator)
    direction = torch.randn(dimension, generator=generator, dtype=torch.float64)
    direction /= direction.norm()
    length, turn, scale = torch.tensor(starts, dtype=torch.float64).T.unsqueeze(-1)
    first = torch.cat([length * direction, turn, scale.log()], 1)  # (starts, D + 2)
    even = torch.linspace(0, 1, 101, dtype=torch.float64)
    kept = [step for step in range(steps + 1) if step % every == 0 or step == steps]

    def descend(arm: tuple[str, float]) -> pd.DataFrame:
        name, thickness = arm
        place = first.clone().requires_grad_(True)

        def move(u: Tensor) -> Tensor:
            return place[:, None, :-2] + place[:, None, -1:].exp() * helix.points(u, place[:, -2:-1])

        cost = _helix_cost(name, thickness, mixtures, helix, n, stream(seed, "helix draws"))
        largest = largest_slope(closed_costs(mixtures, thickness)[name], float(length.max()))
        errors = []
        for step, now in enumerate([*_rates(steps, rate), 0.0]):
            if step in kept:
                errors.append((move(even) - helix.points(even)).detach().square().sum(-1).mean(-1).sqrt())
            if cost is not None and now > 0:
                (gradient,) = torch.autograd.grad(cost(move).sum(), place)
                with torch.no_grad():
                    place -= now / largest * gradient
        shares = torch.stack(errors, 1) / errors[0].unsqueeze(1)
        table = pd.DataFrame(itertools.product([name], [thickness], range(len(starts)), kept), columns=["cost", "width", "start", "step"])
        return table.assign(error=shares.flatten().numpy())

    arms = [(cost, w) for w in (0.0, width) for cost in closed_costs(mixtures, w) if w == 0 or cost in ("KL", "JS", "TV")]
    return pd.concat(side_by_side(descend, arms), ignore_index=True)


# ---- 6. sample complexity ------------------------------------------------------------------------------------


def sample_complexity(
    dimensions: Sequence[int], sizes: Sequence[int], repeats: int, mixtures: dict[str, NGMG],
    generator: torch.Generator, progress: Progress = iter,
) -> pd.DataFrame:  # fmt: skip
    """Error of the estimated cost between N(0, I / D) and N(mu, I / D), |mu| = 1, one row a repeat.

    The laws have the same size at every D.  Truth: W1 = 1 (a translation); NGMG by the Gaussian integral
    E exp(-|X - Y|^2 / 2 s^2) = (s^2 / v)^(D/2) exp(-|mu|^2 / 2 v), v = s^2 + 2 / D.
    """
    require(len(sizes) > 0 and min(sizes) >= 2, "sample_complexity", "sizes", "one or more numbers >= 2", list(sizes))
    rows = []
    for dim, n in progress([(dim, n) for dim in dimensions for n in sizes]):
        mean = torch.zeros(dim, dtype=torch.float64)
        mean[0] = 1.0
        truth = {"W1": 1.0}
        for name, ngmg in mixtures.items():
            spread = ngmg.scales**2 + 2 / dim
            overlap = (ngmg.scales**2 / spread) ** (dim / 2)
            truth[name] = float(-(ngmg.weights * overlap * torch.expm1(-0.5 / spread)).sum())

        def estimate(drawn: Sequence[Tensor], mean: Tensor = mean) -> dict[str, float]:
            x, y = drawn[0] + mean, drawn[1]
            return {"W1": wasserstein1(x, y)} | {name: float(ngmg.cost(x, y)) for name, ngmg in mixtures.items()}

        scale = 1 / math.sqrt(dim)
        draws = [[scale * torch.randn(n, dim, generator=generator, dtype=torch.float64) for _ in range(2)] for _ in range(repeats)]
        rows += [
            {"cost": cost, "dimension": dim, "n": n, "repeat": repeat, "error": (value - truth[cost]) / truth[cost]}
            for repeat, found in enumerate(side_by_side(estimate, draws)) for cost, value in found.items()
        ]  # fmt: skip
    return pd.DataFrame(rows)
