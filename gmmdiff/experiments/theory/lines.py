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

from gmmdiff.core.checks import require
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
    require(len(thetas) > 0, "refine", "thetas", "at least one number > 0", "an empty grid")
    return sorted({*thetas, *np.geomspace(min(thetas), max(thetas), points)[1:-1].tolist()})


def line_costs(
    thetas: Sequence[float], widths: Sequence[float], mixtures: dict[str, NGMG]
) -> pd.DataFrame:
    """Every cost between the lines at theta and at 0, with its slope, in closed form."""
    require(len(thetas) > 0, "line_costs", "thetas", "at least one number > 0", "an empty grid")
    require(0 in widths, "line_costs", "widths", "one or more numbers, 0 among them", list(widths))
    theta = np.asarray(thetas, dtype=float)
    rows = []
    for width in widths:
        for cost, function in closed_costs(mixtures, width).items():
            value, slope = function(theta)
            rows.append(
                pd.DataFrame(
                    {"cost": cost, "width": width, "theta": theta, "value": value, "slope": slope}
                )
            )
    return pd.concat(rows, ignore_index=True)


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
    require(len(thetas) > 0, "line_estimates", "thetas", "at least one number > 0", "an empty grid")
    require(repeats >= 2, "line_estimates", "repeats", ">= 2", repeats)
    rows = []
    for width in progress(widths):
        lines = [
            [ParallelLine(0.0, width).sample(n, generator) for _ in range(2)]
            for _ in range(repeats)
        ]
        for found in side_by_side(partial(_line_estimate, thetas, width, mixtures), lines):
            rows += [
                {
                    "cost": cost,
                    "width": width,
                    "theta": theta,
                    "value": value[place],
                    "slope": slope[place],
                }
                for place, theta in enumerate(thetas)
                for cost, (value, slope) in found.items()
            ]
    grouped = pd.DataFrame(rows).groupby(["cost", "width", "theta"], sort=False)[["value", "slope"]]
    return pd.concat(
        [grouped.mean(), grouped.sem(ddof=1).add_suffix("_error")], axis=1
    ).reset_index()


def _line_estimate(
    thetas: Sequence[float], width: float, mixtures: dict[str, NGMG], lines: Sequence[Tensor]
) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Every cost's values and slopes at the thetas, from samples of two lines at 0, ``(n, 2)``
    each; one is moved.
    """
    base, other = lines
    shift = torch.tensor(
        [[[theta, 0.0]] for theta in thetas], dtype=torch.float64, requires_grad=True
    )
    moved, no_slope = base + shift, [math.nan] * len(thetas)
    found = {"W1": ([wasserstein1(x, other) for x in moved.detach()], no_slope)}
    for name, mixture in mixtures.items():
        # A translation leaves these two as they are.
        own = mixture.mean_potential(base) + mixture.mean_potential(other)
        cost = mixture.mean_potential(moved, other) - 0.5 * own
        (slope,) = torch.autograd.grad(cost.sum(), shift)
        found[name] = (cost.tolist(), slope[:, 0, 0].tolist())
    divergences = _line_divergences(thetas, width, moved.detach()[..., :1], other[:, :1])
    return found | {name: (values, no_slope) for name, values in divergences.items()}


def _line_divergences(
    thetas: Sequence[float], width: float, x: Tensor, y: Tensor
) -> dict[str, list[float]]:
    """KL, JS and TV of the lines' first coordinates, from samples x ``(thetas, n, 1)`` and y ``(n,
    1)``.
    """
    if width == 0:
        edges = [np.array([-0.5, 0.5, 1.5]) * theta for theta in thetas]
        found = [
            divergences_from_histograms(one[:, 0].numpy(), y[:, 0].numpy(), e)
            for one, e in zip(x, edges, strict=True)
        ]
        return {name: [values[name] for values in found] for name in found[0]}
    at_theta = torch.tensor(thetas, dtype=torch.float64).reshape(-1, 1, 1)
    terms = divergences_from_samples(at_theta, torch.zeros(1, 1, dtype=torch.float64), width, x, y)
    return {name: values.mean(-1).tolist() for name, values in terms.items()}
