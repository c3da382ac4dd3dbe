"""What checks 3 to 6 compare: W1, NGMG under two mixtures, KL, JS and TV; and check 3, all of them
between parallel lines, thin and thickened, in closed form and estimated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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
from gmmdiff.experiments.theory.parallel_lines import LineCosts, ParallelLine

Mixtures = dict[str, NGMG]  # by the names that the tables use
Cost = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # theta (n,) -> value and slope (n,)

MIXTURES = ("NGMG single", "NGMG scale mixture")  # those that claims T3 to T6 are judged for
DIVERGENCES = ("KL", "JS", "TV")  # they see no distance between disjoint supports


def mixtures_under_test(s_single: float, s_min: float, s_max: float, n_scales: int) -> Mixtures:
    """The two mixtures: one scale, and many log-spaced ones."""
    ngmg = NGMG([s_single]), NGMG.scale_mixture(s_min, s_max, n_scales)
    return dict(zip(MIXTURES, ngmg, strict=True))


def closed_costs(mixtures: Mixtures, width: float) -> dict[str, Cost]:
    """Every cost between the lines of one width at theta and at 0, as a function of theta."""
    lines = LineCosts(width)
    ngmg = {name: partial(lines.ngmg, ngmg=mixture) for name, mixture in mixtures.items()}
    return {"W1": lines.w1, **ngmg, "KL": lines.kl, "JS": lines.js, "TV": lines.tv}


def refine(thetas: Sequence[float]) -> list[float]:
    """The thetas, with log-spaced ones between their ends, for smooth curves."""
    return sorted({*thetas, *np.geomspace(min(thetas), max(thetas), 60)[1:-1].tolist()})


def line_costs(
    thetas: Sequence[float], widths: Sequence[float], mixtures: Mixtures
) -> pd.DataFrame:
    """Every cost between the lines at theta and at 0, with its slope, in closed form."""
    tables = []
    for width in widths:
        for cost, function in closed_costs(mixtures, width).items():
            table = pd.DataFrame({"cost": cost, "width": width, "theta": thetas})
            table["value"], table["slope"] = function(np.asarray(thetas, dtype=float))
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def line_estimates(
    thetas: Sequence[float],
    widths: Iterable[float],
    mixtures: Mixtures,
    n: int,
    repeats: int,
    generator: torch.Generator,
) -> pd.DataFrame:
    """As ``line_costs``, estimated from n samples of each law; mean and standard error of repeats.

    W1 by exact transport, NGMG by its unbiased estimate (and its slope by autograd), KL, JS and TV
    from the log densities of the first coordinate, or from histograms where the width is 0.
    """
    tables = []
    for width in widths:
        line = ParallelLine(0.0, width)
        pairs = [[line.sample(n, generator) for _ in range(2)] for _ in range(repeats)]
        tables += side_by_side(partial(_line_estimate, thetas, width, mixtures), pairs)
    grouped = pd.concat(tables).groupby(["cost", "width", "theta"], sort=False)
    return grouped.mean().join(grouped.sem().add_suffix("_error")).reset_index()


def _line_estimate(
    thetas: Sequence[float], width: float, mixtures: Mixtures, pair: Sequence[Tensor]
) -> pd.DataFrame:
    """Every cost's value and slope, from samples of two lines at 0, ``(n, 2)``; the first moves."""
    first, other = pair
    shifts = [[[theta, 0.0]] for theta in thetas]
    shift = torch.tensor(shifts, dtype=torch.float64, requires_grad=True)
    moved = first + shift
    values, slopes = {"W1": [wasserstein1(x, other) for x in moved.detach()]}, {}
    for name, mixture in mixtures.items():
        # A translation leaves these two as they are.
        own = mixture.mean_potential(first) + mixture.mean_potential(other)
        cost = mixture.mean_potential(moved, other) - 0.5 * own
        (slope,) = torch.autograd.grad(cost.sum(), shift)
        values[name], slopes[name] = cost.tolist(), slope[:, 0, 0].tolist()
    values |= _line_divergences(thetas, width, moved.detach()[..., :1], other[:, :1])
    tables = []
    for cost, value in values.items():
        table = pd.DataFrame({"cost": cost, "width": width, "theta": thetas, "value": value})
        tables.append(table.assign(slope=slopes.get(cost, math.nan)))
    return pd.concat(tables).sort_index(kind="stable")  # theta by theta


def _line_divergences(
    thetas: Sequence[float], width: float, x: Tensor, y: Tensor
) -> dict[str, Sequence[float]]:
    """KL, JS and TV of the lines' first coordinates, from x ``(thetas, n, 1)`` and y ``(n, 1)``."""
    if width == 0:
        edges = np.multiply.outer(thetas, [-0.5, 0.5, 1.5])
        pairs = zip(x[..., 0].numpy(), edges, strict=True)
        by_theta = [divergences_from_histograms(one, y[:, 0].numpy(), e) for one, e in pairs]
        return pd.DataFrame(by_theta).to_dict("list")
    at_theta = torch.tensor(thetas, dtype=torch.float64).reshape(-1, 1, 1)
    terms = divergences_from_samples(at_theta, torch.zeros(1, 1, dtype=torch.float64), width, x, y)
    return {name: values.mean(-1).tolist() for name, values in terms.items()}
