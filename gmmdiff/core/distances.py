"""Distances between laws: W1, KL, JS, TV and energy distance, in closed form and from samples.

Divergences are in nats; JS carries the 1/2 convention, so it is at most log 2; TV is at most 1.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from torch import Tensor

from gmmdiff.core.checks import require_points
from gmmdiff.core.ngmg import squared_distances

with (
    warnings.catch_warnings()
):  # Python 3.12 and later dislike its docstrings, and say so in notebooks
    warnings.simplefilter("ignore", SyntaxWarning)
    import ot


def wasserstein1(x: Tensor, y: Tensor) -> float:
    """W1 between the empirical laws of x ``(n, D)`` and y ``(m, D)``, by exact transport (POT).

    Raises:
        ValueError: on other shapes, NaN or infinity.
    """
    require_points("wasserstein1", "x", x)
    require_points("wasserstein1", "y", y, x.shape[1])
    return float(ot.emd2([], [], torch.cdist(x, y).numpy(), numItermax=10**7))


def transport_plan(x: Tensor, y: Tensor) -> Tensor:
    """The optimal plan of W1 between the empirical laws, ``(n, m)``, summing to 1 (POT)."""
    return torch.from_numpy(ot.emd([], [], torch.cdist(x, y).numpy(), numItermax=10**7))


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| >= 0, biased form (Szekely & Rizzo 2013): x ``(n, D)``, y
    ``(m, D)``.

    Raises:
        ValueError: on other shapes, NaN or infinity.
    """
    require_points("energy_distance", "x", x)
    require_points("energy_distance", "y", y, x.shape[1])
    return float(2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean())


def divergences_from_samples(
    p: Tensor, q: Tensor, width: float, x: Tensor, y: Tensor
) -> dict[str, Tensor]:
    """Terms whose means are KL(p || q), JS(p, q) and TV(p, q): x ~ p, y ~ q, ``(..., n, D)`` each.

    The laws are mixtures of N(m, width^2 I), width > 0, with equal weights and means p, q ``(...,
    K, D)``. Differentiable in p, q, x and y; each value is ``(..., n)``, so the mean's standard
    error comes with it.
    """

    def log_ratio(z: Tensor) -> Tensor:
        log_p, log_q = (
            torch.logsumexp(squared_distances(z, law) / (-2 * width**2), -1) for law in (p, q)
        )
        return log_p - log_q

    at_x, at_y = log_ratio(x), log_ratio(y)
    softplus = torch.nn.functional.softplus
    return {
        "KL": at_x,
        "JS": math.log(2) - 0.5 * (softplus(-at_x) + softplus(at_y)),
        "TV": 0.5 * (torch.tanh(0.5 * at_x).abs() + torch.tanh(0.5 * at_y).abs()),
    }


def divergences_from_histograms(
    x: np.ndarray, y: np.ndarray, edges: np.ndarray
) -> dict[str, float]:
    """KL, JS and TV between histograms of samples ``(n,)`` and ``(m,)`` over shared bin edges."""
    p, q = (np.histogram(values, edges)[0] / len(values) for values in (x, y))
    return {
        "KL": float(rel_entr(p, q).sum()),
        "JS": float(jensenshannon(p, q) ** 2),
        "TV": 0.5 * float(np.abs(p - q).sum()),
    }
