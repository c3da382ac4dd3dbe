"""Check 6: what does dimension cost?

Estimated costs between two Gaussians against their exact values, by sample size and dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.distances import wasserstein1
from gmmdiff.core.ngmg import NGMG
from gmmdiff.core.statistics import bootstrap
from gmmdiff.core.streams import numpy_stream
from gmmdiff.engine.threads import side_by_side
from gmmdiff.experiments.theory.costs import Progress


def sample_complexity(
    dimensions: Sequence[int],
    sizes: Sequence[int],
    repeats: int,
    mixtures: dict[str, NGMG],
    generator: torch.Generator,
    progress: Progress = iter,
) -> pd.DataFrame:
    """Error of the estimated cost between N(0, I / D) and N(mu, I / D), |mu| = 1, one row a repeat.

    The laws have the same size at every D.  Truth: W1 = 1 (a translation); NGMG by the Gaussian
    integral E exp(-|X - Y|^2 / 2 s^2) = (s^2 / v)^(D/2) exp(-|mu|^2 / 2 v), v = s^2 + 2 / D.
    """
    rows = []
    for dim, n in progress([(dim, n) for dim in dimensions for n in sizes]):
        mean = torch.zeros(dim, dtype=torch.float64)
        mean[0] = 1.0
        truth = exact_costs(mixtures, dim)

        def estimate(drawn: Tensor, mean: Tensor = mean) -> dict[str, float]:
            x, y = drawn[0] + mean, drawn[1]
            ngmg = {name: float(mixture.cost(x, y)) for name, mixture in mixtures.items()}
            return {"W1": wasserstein1(x, y)} | ngmg

        shape, scale = (repeats, 2, n, dim), 1 / math.sqrt(dim)
        draws = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
        for repeat, estimates in enumerate(side_by_side(estimate, draws)):
            for cost, value in estimates.items():
                rows.append((cost, dim, n, repeat, (value - truth[cost]) / truth[cost]))
    return pd.DataFrame(rows, columns=["cost", "dimension", "n", "repeat", "error"])


def exact_costs(mixtures: dict[str, NGMG], dim: int) -> dict[str, float]:
    """The true costs between the two Gaussians of ``sample_complexity`` in R^dim."""
    truth = {"W1": 1.0}
    for name, ngmg in mixtures.items():
        spread = ngmg.scales**2 + 2 / dim
        overlap = (ngmg.scales**2 / spread) ** (dim / 2)
        truth[name] = float(-(ngmg.weights * overlap * torch.expm1(-0.5 / spread)).sum())
    return truth


def complexity_slopes(errors: pd.DataFrame, column: str = "error") -> pd.DataFrame:
    """Slope of log r.m.s. ``column`` against log n, by cost and D, with its interval; NaN for one
    n.
    """
    tables, rng = [], numpy_stream(0, "complexity slopes")
    for (cost, dim), group in errors.groupby(["cost", "dimension"], sort=False):
        by_size = {n: g[column].to_numpy() for n, g in group.groupby("n")}
        apart = np.log(list(by_size)) - np.log(list(by_size)).mean()
        lever = apart / (np.square(apart).sum() if len(by_size) > 1 else np.nan)

        def slope(strata: list[np.ndarray], lever: np.ndarray = lever) -> np.ndarray:
            logs = [0.5 * np.log(np.square(errors).mean(-1)) for errors in strata]
            return sum(c * log for c, log in zip(lever, logs, strict=True))

        interval = bootstrap(list(by_size.values()), rng, slope)._asdict()
        repeats = min(map(len, by_size.values()))
        tables.append({"cost": cost, "dimension": dim, **interval, "repeats": repeats})
    return pd.DataFrame(tables)
