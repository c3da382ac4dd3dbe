"""Checks 4 and 6: is NGMG a linear transformation of W1, and what does dimension cost both?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linprog, minimize_scalar
from torch import Tensor

from gmmdiff.core.distances import wasserstein1
from gmmdiff.core.ngmg import NGMG
from gmmdiff.core.statistics import bootstrap
from gmmdiff.core.streams import numpy_stream
from gmmdiff.engine.threads import side_by_side
from gmmdiff.experiments.theory.costs import Mixtures
from gmmdiff.experiments.theory.parallel_lines import LineCosts

POINTS = 200  # of a range of W1
MOST = 32  # times as many samples of one law where they are small


def affine_deviation(w1: np.ndarray, cost: np.ndarray) -> float:
    """Least largest deviation of a cost from an affine function of W1, as a share of its range: the
    linear programme of Chebyshev, minimise d subject to |a w + b - c| <= d.
    """
    w1, cost = np.asarray(w1, dtype=float), np.asarray(cost, dtype=float) / np.ptp(cost)
    one, free = np.ones_like(w1), (None, None)
    above, below = np.column_stack([w1, one, -one]), np.column_stack([-w1, -one, -one])
    sides = np.vstack([above, below]), np.concatenate([cost, -cost])
    return float(linprog([0, 0, 1], *sides, bounds=[free, free, (0, None)]).fun)


def affinity(
    n_scales: Iterable[int],
    lower: Sequence[float],
    upper: float,
    s_range: tuple[float, float],
    s_single: float,
) -> pd.DataFrame:
    """``affine_deviation`` of NGMG for three pairs of laws, over ranges of W1 from a lower end to
    ``upper``; one scale is s_single, several are log-spaced over ``s_range``.

    ``points``: two point masses; ``paired lines``: the mean potential over the optimal pairs of
    parallel lines, each as far apart as the points; ``unpaired lines``: the law-level cost, which
    sees no pairing.
    """
    rows = []
    for count in n_scales:
        ngmg = NGMG([s_single]) if count == 1 else NGMG.scale_mixture(*s_range, count)
        for start in lower:
            w1 = np.linspace(start, upper, POINTS)
            points = ngmg.potential(torch.tensor(w1).unsqueeze(1)).numpy()
            costs = {"points": points, "paired lines": points}
            costs["unpaired lines"] = LineCosts().ngmg(w1, ngmg)[0]
            rows += [(count, k, start, upper, affine_deviation(w1, costs[k])) for k in costs]
    return pd.DataFrame(rows, columns=["n_scales", "laws", "lower", "upper", "deviation"])


def cost_of_samples(ngmg: NGMG, x: Tensor, y: Tensor) -> Tensor:
    """NGMG's cost between the laws of equal weights on x and y, both ``(..., n, D)``.

    The V-statistic, >= 0: the pairs of a point with itself, which ``NGMG.cost`` leaves out, are in
    it.  Its mean between two n-samples of one law is E psi(X - X') / n.
    """
    within = ngmg.mean_potential(x) + ngmg.mean_potential(y)
    return ngmg.mean_potential(x, y) - 0.5 * (1 - 1 / x.shape[-2]) * within


def _by_size(
    dimensions: Iterable[int],
    sizes: Sequence[int],
    draw: Callable[[int, int], Tensor],
    measure: Callable[[Tensor, Tensor], dict[str, float]],
) -> pd.DataFrame:
    """Measures of every pair of samples that ``draw`` gives for D and n, ``(repeats, 2, n, D)``."""
    rows = []
    for dim, n in ((dim, n) for dim in dimensions for n in sizes):
        for repeat, costs in enumerate(side_by_side(lambda pair: measure(*pair), draw(dim, n))):
            rows += [(cost, dim, n, repeat, value) for cost, value in costs.items()]
    return pd.DataFrame(rows, columns=["cost", "dimension", "n", "repeat", "value"])


def samples_of_one_law(
    dimensions: Iterable[int],
    sizes: Sequence[int],
    transported: int,
    repeats: int,
    mixtures: Mixtures,
    generator: torch.Generator,
) -> pd.DataFrame:
    """W1 and NGMG's cost between two n-samples of N(0, I / D), one row a repeat.

    W1 falls like n^(-1/D) (Dudley 1969, Annals of Mathematical Statistics 40:40), NGMG's cost like
    1/n: no linear map leads from one to the other at every D.

    Args:
        transported: the largest n of which W1 is computed; exact transport takes n^3.
        repeats: at the largest n; smaller n have up to ``MOST`` times more, of equally many points.
    """

    def draw(dim: int, n: int) -> Tensor:
        count = repeats * min(MOST, max(sizes) // n)
        return torch.randn(count, 2, n, dim, generator=generator) / math.sqrt(dim)

    def measure(x: Tensor, y: Tensor) -> dict[str, float]:
        ngmg = {name: float(cost_of_samples(mixture, x, y)) for name, mixture in mixtures.items()}
        return ngmg | ({"W1": wasserstein1(x, y)} if len(x) <= transported else {})

    return _by_size(dimensions, sizes, draw, measure)


def against_w1(samples: pd.DataFrame) -> pd.DataFrame:
    """Means over the repeats of ``samples_of_one_law``, where W1 is known: one row a D and n."""
    means = samples.groupby(["dimension", "n", "cost"])["value"].mean().unstack("cost")
    return means.dropna(subset="W1").reset_index()


def deviation_on_laws(samples: pd.DataFrame, mixtures: Sequence[str]) -> dict[str, float]:
    """``affine_deviation`` of each mixture from one affine function of W1 for all D and n."""
    means = against_w1(samples)
    return {name: affine_deviation(means["W1"], means[name]) for name in mixtures}


def largest_gradient(ngmg: NGMG) -> float:
    """L = max |grad psi|, between the smallest and the largest scale: every component's pull grows
    up to |e| = s_k and falls from there.
    """

    def pull(log_radius: np.ndarray) -> np.ndarray:
        return ngmg.gradient(torch.as_tensor(np.exp(log_radius)).reshape(-1, 1))[:, 0].numpy()

    grid = np.linspace(*np.log([float(ngmg.scales.min()), float(ngmg.scales.max())]), 2001)
    start, step = grid[pull(grid).argmax()], grid[1] - grid[0]
    around = (start - step - 1e-6, start + step + 1e-6)
    best = minimize_scalar(lambda at: -pull(at)[0], bounds=around, options={"xatol": 1e-10})
    return max(float(-best.fun), float(pull(grid).max()))


def pairs_of_laws(
    dimensions: Sequence[int], pairs: int, mixtures: Mixtures, generator: torch.Generator
) -> pd.DataFrame:
    """W1, NGMG's cost and the bound L W1 of random pairs of laws, ``pairs`` at every D.

    A law is 16 points of equal weight around a centre, spread by 10^-3 to 10; the centres lie 10^-2
    to 10 apart, both log-uniform: from nearly point masses to clouds that overlap.
    """
    tables = []
    for dim in dimensions:
        points = torch.randn(2, pairs, 16, dim, generator=generator, dtype=torch.float64)
        direction = torch.randn(pairs, 1, dim, generator=generator, dtype=torch.float64)
        powers = torch.rand(3, pairs, 1, 1, generator=generator, dtype=torch.float64)
        spread, apart = 10 ** (4 * powers[:2] - 3), 10 ** (3 * powers[2] - 2)
        x, y = spread / math.sqrt(dim) * points
        y = y + apart * direction / direction.norm(dim=-1, keepdim=True)
        w1 = np.array(side_by_side(lambda pair: wasserstein1(*pair), zip(x, y, strict=True)))
        for name, ngmg in mixtures.items():
            table = pd.DataFrame({"cost": name, "dimension": dim, "pair": range(pairs), "w1": w1})
            table["value"] = cost_of_samples(ngmg, x, y).numpy()
            tables.append(table.assign(bound=largest_gradient(ngmg) * w1))
    return pd.concat(tables, ignore_index=True)


def sample_complexity(
    dimensions: Iterable[int],
    sizes: Sequence[int],
    repeats: int,
    mixtures: Mixtures,
    generator: torch.Generator,
) -> pd.DataFrame:
    """Relative error of the estimated cost between N(0, I / D) and N(mu, I / D), |mu| = 1, laws of
    one size at every D: one row a repeat.
    """

    def draw(dim: int, n: int) -> Tensor:
        draws = torch.randn(repeats, 2, n, dim, generator=generator, dtype=torch.float64)
        draws *= 1 / math.sqrt(dim)
        draws[:, 0, :, 0] += 1
        return draws

    def measure(x: Tensor, y: Tensor) -> dict[str, float]:
        truth, estimates = exact_costs(mixtures, x.shape[1]), {"W1": wasserstein1(x, y)}
        estimates |= {name: float(mixture.cost(x, y)) for name, mixture in mixtures.items()}
        return {cost: (value - truth[cost]) / truth[cost] for cost, value in estimates.items()}

    return _by_size(dimensions, sizes, draw, measure).rename(columns={"value": "error"})


def exact_costs(mixtures: Mixtures, dim: int) -> dict[str, float]:
    """The true costs between the two Gaussians of ``sample_complexity`` in R^dim: W1 = 1, and by
    the Gaussian integral E exp(-|X - Y|^2 / 2 s^2) = (s^2 / v)^(D/2) exp(-|mu|^2 / 2 v), v = s^2 +
    2 / D.
    """
    truth = {"W1": 1.0}
    for name, ngmg in mixtures.items():
        spread = ngmg.scales**2 + 2 / dim
        overlap = (ngmg.scales**2 / spread) ** (dim / 2)
        truth[name] = float(-(ngmg.weights * overlap * torch.expm1(-0.5 / spread)).sum())
    return truth


def complexity_slopes(table: pd.DataFrame, column: str = "error") -> pd.DataFrame:
    """Slope and interval of log r.m.s. ``column`` against log n, by cost and D; NaN for one n."""
    slopes, rng = [], numpy_stream(0, "complexity slopes")
    for (cost, dim), group in table.groupby(["cost", "dimension"], sort=False):
        by_size = {n: own.to_numpy() for n, own in group.groupby("n")[column]}
        apart = np.log(list(by_size)) - np.log(list(by_size)).mean()
        lever = apart / (np.square(apart).sum() if len(by_size) > 1 else np.nan)

        def slope(strata: list[np.ndarray], lever: np.ndarray = lever) -> np.ndarray:
            logs = [0.5 * np.log(np.square(values).mean(-1)) for values in strata]
            return sum(c * log for c, log in zip(lever, logs, strict=True))

        interval = bootstrap(list(by_size.values()), rng, slope)._asdict()
        repeats = min(map(len, by_size.values()))
        slopes.append({"cost": cost, "dimension": dim, **interval, "repeats": repeats})
    return pd.DataFrame(slopes)
