"""Check 4 on laws: W1 and NGMG between two samples of one law, and the bound that holds of any two.

Between two n-samples of one law in R^D, W1 falls like n^(-1/D) (Dudley 1969, Annals of Mathematical
Statistics 40:40) and NGMG's cost, half a squared maximum mean discrepancy, like 1/n: each is a
power of the other that changes with D, so no linear map leads from one to the other.

What does hold is cost(P, Q) <= L W1(P, Q) with L = max |grad psi|.  Let (X, Y) and (X', Y') be two
independent draws of the best plan.  As psi is even, the cost is half the mean of

    psi(X - Y') - psi(X - X') + psi(Y - X') - psi(Y - Y'),

and both differences are at most L |X' - Y'|, whose mean is W1.  Samples are laws themselves, those
of equal weights on their points, so every pair of them must keep to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from gmmdiff.core.distances import wasserstein1
from gmmdiff.core.ngmg import NGMG
from gmmdiff.engine.threads import side_by_side
from gmmdiff.experiments.theory.affinity import affine_deviation
from gmmdiff.experiments.theory.costs import Progress


def cost_of_samples(ngmg: NGMG, x: Tensor, y: Tensor) -> Tensor:
    """NGMG's cost between the laws of equal weights on x ``(..., n, D)`` and y ``(..., n, D)``.

    The V-statistic, >= 0: the pairs of a point with itself, which ``NGMG.cost`` leaves out, are in
    it.  Its mean between two n-samples of one law is E psi(X - X') / n.
    """
    within = ngmg.mean_potential(x) + ngmg.mean_potential(y)
    return ngmg.mean_potential(x, y) - 0.5 * (1 - 1 / x.shape[-2]) * within


def samples_of_one_law(
    dimensions: Sequence[int],
    sizes: Sequence[int],
    transported: int,
    repeats: int,
    mixtures: dict[str, NGMG],
    generator: torch.Generator,
    progress: Progress = iter,
) -> pd.DataFrame:
    """W1 and NGMG's cost between two n-samples of N(0, I / D), one row a repeat.

    Args:
        transported: the largest n of which W1 is computed; exact transport takes n^3.
        repeats: at the largest n; smaller n have more, as many as give equally many points, up to
            32 times.
    """
    rows = []
    for dim, n in progress([(dim, n) for dim in dimensions for n in sizes]):
        count = repeats * min(32, max(sizes) // n)
        draws = torch.randn(count, 2, n, dim, generator=generator)

        def measure(pair: Tensor, n: int = n) -> dict[str, float]:
            costs = {name: float(cost_of_samples(ngmg, *pair)) for name, ngmg in mixtures.items()}
            return costs | ({"W1": wasserstein1(*pair)} if n <= transported else {})

        for repeat, costs in enumerate(side_by_side(measure, draws / math.sqrt(dim))):
            rows += [(cost, dim, n, repeat, value) for cost, value in costs.items()]
    return pd.DataFrame(rows, columns=["cost", "dimension", "n", "repeat", "value"])


def against_w1(samples: pd.DataFrame) -> pd.DataFrame:
    """Means over the repeats of ``samples_of_one_law``, where W1 is known: one row a D and n."""
    means = samples.groupby(["dimension", "n", "cost"])["value"].mean().unstack("cost")
    return means.dropna(subset="W1").reset_index()


def deviation_on_laws(samples: pd.DataFrame, mixtures: Sequence[str]) -> dict[str, float]:
    """``affine_deviation`` of each mixture from one affine function of W1 for all D and n."""
    means = against_w1(samples)
    return {name: affine_deviation(means["W1"], means[name]) for name in mixtures}


def largest_gradient(ngmg: NGMG) -> float:
    """L = max |grad psi|.

    Every component's pull grows up to |e| = s_k and falls from there, so the largest of their sum
    lies between the smallest and the largest scale.
    """

    def pull(log_radius: np.ndarray) -> np.ndarray:
        e = torch.as_tensor(np.exp(log_radius)).reshape(-1, 1)
        return ngmg.gradient(e)[:, 0].numpy()

    ends = np.log([float(ngmg.scales.min()), float(ngmg.scales.max())])
    grid = np.linspace(*ends, 2001)
    start, step = grid[pull(grid).argmax()], grid[1] - grid[0]
    around = (start - step - 1e-6, start + step + 1e-6)
    best = minimize_scalar(lambda at: -pull(at)[0], bounds=around, options={"xatol": 1e-10})
    return max(float(-best.fun), float(pull(grid).max()))


def pairs_of_laws(
    dimensions: Sequence[int],
    pairs: int,
    mixtures: dict[str, NGMG],
    generator: torch.Generator,
    n: int = 16,
) -> pd.DataFrame:
    """W1, NGMG's cost and the bound L W1 of random pairs of laws, ``pairs`` at every D.

    A law is n points of equal weight around a centre, spread by 10^-3 to 10; the centres lie 10^-2
    to 10 apart, both log-uniform: from nearly point masses to clouds that overlap.
    """
    tables = []
    for dim in dimensions:
        points = torch.randn(2, pairs, n, dim, generator=generator, dtype=torch.float64)
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
