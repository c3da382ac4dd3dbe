"""Check 4: for which mixtures, laws and ranges is NGMG a linear transformation of W1?

Measured is the least largest deviation from an affine function of W1, by linear programming.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linprog

from gmmdiff.core.ngmg import NGMG
from gmmdiff.experiments.theory.costs import Progress
from gmmdiff.experiments.theory.parallel_lines import LineCosts

POINTS = 200  # of a range of W1


def affine_deviation(w1: np.ndarray, cost: np.ndarray) -> float:
    """Least largest deviation of a cost from an affine function of W1, as a share of its range.

    The best affine function in the maximum norm (Chebyshev), a linear programme: minimise d subject
    to |a w + b - c| <= d.
    """
    w1, cost = np.asarray(w1, dtype=float), np.asarray(cost, dtype=float) / np.ptp(cost)
    one = np.ones_like(w1)
    above, below = np.column_stack([w1, one, -one]), np.column_stack([-w1, -one, -one])
    sides, free = (np.vstack([above, below]), np.concatenate([cost, -cost])), (None, None)
    return float(linprog([0, 0, 1], *sides, bounds=[free, free, (0, None)]).fun)


def transport_costs(ngmg: NGMG, distance: np.ndarray) -> dict[str, np.ndarray]:
    """NGMG of three pairs of laws whose W1 is the distance ``(n,)``: what "linear in W1" can mean.

    ``points``: two point masses; ``paired lines``: the mean potential over the optimal pairs of
    parallel lines, E psi(X - Y), where every pair has e = (distance, 0); ``unpaired lines``: the
    law-level cost, which sees no pairing.
    """
    e = torch.tensor(distance, dtype=torch.float64)
    return {
        "points": ngmg.potential(e.unsqueeze(1)).numpy(),
        "paired lines": ngmg.potential(torch.stack([e, torch.zeros_like(e)], 1)).numpy(),
        "unpaired lines": LineCosts().ngmg(np.asarray(distance), ngmg)[0],
    }


def affinity(
    n_scales: Sequence[int],
    lower: Sequence[float],
    upper: float,
    s_range: tuple[float, float],
    s_single: float,
    progress: Progress = iter,
) -> pd.DataFrame:
    """``affine_deviation`` for mixtures of 1, 2, ... scales, over ranges of W1 from each lower end
    to ``upper``.

    One scale is the single component s_single; several are log-spaced over ``s_range``.
    """
    rows = []
    for count in progress(n_scales):
        ngmg = NGMG([s_single]) if count == 1 else NGMG.scale_mixture(*s_range, count)
        for start in lower:
            distance = np.linspace(start, upper, POINTS)
            for laws, cost in transport_costs(ngmg, distance).items():
                rows.append((count, laws, start, upper, affine_deviation(distance, cost)))
    return pd.DataFrame(rows, columns=["n_scales", "laws", "lower", "upper", "deviation"])
