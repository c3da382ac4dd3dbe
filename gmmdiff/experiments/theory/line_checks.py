"""Check 3: which costs still say how far apart two laws are whose supports are disjoint?

Parallel lines, thin and thickened, under every cost: closed forms, and estimates from samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.distances import (
    divergences_from_histograms,
    divergences_from_samples,
    wasserstein1,
)
from gmmdiff.core.ngmg import NGMG
from gmmdiff.engine.threads import side_by_side
from gmmdiff.experiments.theory.costs import Progress, closed_costs
from gmmdiff.experiments.theory.parallel_lines import ParallelLine


def refine(thetas: Sequence[float], points: int = 60) -> list[float]:
    """The thetas, with log-spaced ones between their ends, for smooth curves."""
    return sorted({*thetas, *np.geomspace(min(thetas), max(thetas), points)[1:-1].tolist()})


def line_costs(
    thetas: Sequence[float], widths: Sequence[float], mixtures: dict[str, NGMG]
) -> pd.DataFrame:
    """Every cost between the lines at theta and at 0, with its slope, in closed form."""
    theta, tables = np.asarray(thetas, dtype=float), []
    for width in widths:
        for cost, function in closed_costs(mixtures, width).items():
            table = pd.DataFrame({"cost": cost, "width": width, "theta": theta})
            table["value"], table["slope"] = function(theta)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def line_estimates(
    thetas: Sequence[float],
    widths: Sequence[float],
    mixtures: dict[str, NGMG],
    n: int,
    repeats: int,
    generator: torch.Generator,
    progress: Progress = iter,
) -> pd.DataFrame:
    """As ``line_costs``, estimated from n samples of each law; mean and standard error over
    repeats.

    W1 by exact transport, NGMG by its unbiased estimate (and its slope by autograd), KL, JS and TV
    from the log densities of the first coordinate, or from fine histograms where the width is 0.
    """
    tables = []
    for width in progress(widths):
        lines = [
            [ParallelLine(0.0, width).sample(n, generator) for _ in range(2)]
            for _ in range(repeats)
        ]
        tables += side_by_side(partial(_line_estimate, thetas, width, mixtures), lines)
    grouped = pd.concat(tables).groupby(["cost", "width", "theta"], sort=False)[["value", "slope"]]
    errors = grouped.sem(ddof=1).add_suffix("_error")
    return pd.concat([grouped.mean(), errors], axis=1).reset_index()


def _line_estimate(
    thetas: Sequence[float], width: float, mixtures: dict[str, NGMG], lines: Sequence[Tensor]
) -> pd.DataFrame:
    """Every cost's value and slope at the thetas, from samples of two lines at 0, ``(n, 2)`` each;
    one is moved.
    """
    base, other = lines
    shifts = [[[theta, 0.0]] for theta in thetas]
    shift = torch.tensor(shifts, dtype=torch.float64, requires_grad=True)
    moved, no_slope = base + shift, [math.nan] * len(thetas)
    estimates = {"W1": ([wasserstein1(x, other) for x in moved.detach()], no_slope)}
    for name, mixture in mixtures.items():
        # A translation leaves these two as they are.
        own = mixture.mean_potential(base) + mixture.mean_potential(other)
        cost = mixture.mean_potential(moved, other) - 0.5 * own
        (slope,) = torch.autograd.grad(cost.sum(), shift)
        estimates[name] = (cost.tolist(), slope[:, 0, 0].tolist())
    divergences = _line_divergences(thetas, width, moved.detach()[..., :1], other[:, :1])
    estimates |= {name: (values, no_slope) for name, values in divergences.items()}
    rows = [
        (cost, width, theta, value[i], slope[i])
        for i, theta in enumerate(thetas)
        for cost, (value, slope) in estimates.items()
    ]
    return pd.DataFrame(rows, columns=["cost", "width", "theta", "value", "slope"])


def _line_divergences(
    thetas: Sequence[float], width: float, x: Tensor, y: Tensor
) -> dict[str, list[float]]:
    """KL, JS and TV of the lines' first coordinates, from samples x ``(thetas, n, 1)`` and y ``(n,
    1)``.
    """
    if width == 0:
        edges = [np.array([-0.5, 0.5, 1.5]) * theta for theta in thetas]
        pairs = zip(x.squeeze(-1).numpy(), edges, strict=True)
        by_theta = [divergences_from_histograms(one, y[:, 0].numpy(), e) for one, e in pairs]
        return {name: [values[name] for values in by_theta] for name in by_theta[0]}
    at_theta = torch.tensor(thetas, dtype=torch.float64).reshape(-1, 1, 1)
    terms = divergences_from_samples(at_theta, torch.zeros(1, 1, dtype=torch.float64), width, x, y)
    return {name: values.mean(-1).tolist() for name, values in terms.items()}
