"""Distances between laws: W1, KL, JS, TV and energy distance, in closed form and from samples.

Divergences are in nats; JS carries the 1/2 convention, so it is at most log 2; TV is at most 1.

Example:
    >>> import torch
    >>> from gmmdiff import divergences_from_histograms, divergences_from_samples, stream
    >>> from gmmdiff import energy_distance, transport_plan, wasserstein1
    >>> x, y = [[0.0], [2.0]], [[3.0], [1.0]]
    >>> wasserstein1(x, y), energy_distance(x, y)
    (1.0, 1.0)
    >>> transport_plan(x, y)
    tensor([[0.0000, 0.5000],
            [0.5000, 0.0000]], dtype=torch.float64)
    >>> divergences_from_histograms([0.5, 0.5], [0.5, 1.5], edges=[0, 1, 2])["TV"]
    0.5
    >>> p, q, noise = torch.zeros(1, 1), torch.ones(1, 1), stream(0, "draws")
    >>> x, y = (law + torch.randn(100_000, 1, generator=noise) for law in (p, q))
    >>> kl = divergences_from_samples(p, q, 1.0, x, y)["KL"]  # of mean 1^2 / 2
    >>> bool((kl.mean() - 0.5).abs() < 4 * kl.std() / 100_000**0.5)
    True
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from torch import Tensor

from gmmdiff.core.checks import array, floating, in_own_precision, promoted, require
from gmmdiff.core.ngmg import squared_distances

STRIP = 2**22  # distances held at once by ``energy_distance``: 32 MiB


def samples(owner: str, least: int = 1, **given: Any) -> list[Tensor]:
    """Samples ``(n, ...)`` flattened to ``(n, D)``, in float64 and without their graphs."""
    flat: dict[str, Tensor] = {}
    for name, x in given.items():
        x = floating(owner, name, x)
        dim = next(iter(flat.values())).shape[1] if flat else "D"
        flat[name] = array(owner, name, x.flatten(1) if x.ndim > 2 else x, "n", dim, least=least)
    return [x.detach().double() for x in promoted(owner, **flat)]


def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|, ``(n, m)``, by differences: a matrix product would lose points far from 0."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


@cache
def _pot() -> ModuleType:
    """POT, which takes more than a second to import, so only where it is asked."""
    # From Python 3.12 on its docstrings are worth a warning, which would stand in notebooks.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        import ot
    return ot


def wasserstein1(x: Tensor, y: Tensor) -> float:
    """W1 between the empirical laws of x ``(n, D)`` and y ``(m, D)``, by exact transport (POT).

    Raises:
        ValueError: on other shapes, NaN or infinity.
    """
    costs = pairwise_distances(*samples("wasserstein1", x=x, y=y))
    return float(_pot().emd2([], [], costs.cpu().numpy(), numItermax=10**7))


def transport_plan(x: Tensor, y: Tensor) -> Tensor:
    """The optimal plan of W1, ``(n, m)``, summing to 1 (POT); arguments, errors as there."""
    costs = pairwise_distances(*samples("transport_plan", x=x, y=y))
    return torch.from_numpy(_pot().emd([], [], costs.cpu().numpy(), numItermax=10**7))


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| >= 0, the biased form (Szekely & Rizzo 2013).

    Of x ``(n, D)`` and y ``(m, D)``, in bounded memory and time O((n + m)^2).

    Raises:
        ValueError: on other shapes, NaN or infinity.
    """
    x, y = samples("energy_distance", x=x, y=y)

    def mean(a: Tensor, b: Tensor) -> float:
        strips = a.split(max(1, STRIP // len(b)))
        total = float(sum(pairwise_distances(strip, b).sum() for strip in strips))
        return total / (len(a) * len(b))

    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


@in_own_precision
def divergences_from_samples(
    p: Tensor, q: Tensor, width: float, x: Tensor, y: Tensor
) -> dict[str, Tensor]:
    """Terms whose means are KL(p || q), JS(p, q) and TV(p, q): x ~ p, y ~ q, ``(..., n, D)`` each.

    The laws are mixtures of N(m, width^2 I) with equal weights and means p, q ``(..., K, D)``.
    Differentiable in p, q, x and y; each value is ``(..., n)``, so the mean's standard error comes
    with it.

    Raises:
        ValueError: unless width > 0 and all four end in one D.
    """
    owner = "divergences_from_samples"
    require(0 < width < math.inf, owner, "width", "> 0", width)
    p = array(owner, "p", p, "...", "n", "D")
    others = {"q": q, "x": x, "y": y}.items()
    given = {name: array(owner, name, value, "...", "n", p.shape[-1]) for name, value in others}
    p, q, x, y = promoted(owner, p=p, **given)

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
    """KL, JS and TV between histograms of samples ``(n,)`` and ``(m,)`` over shared bin edges.

    Raises:
        ValueError: on an empty sample, edges that do not rise, or a value outside of them.
    """
    owner = "divergences_from_histograms"
    edges = np.asarray(edges, dtype=float)
    rising = edges.ndim == 1 and len(edges) >= 2 and bool((np.diff(edges) > 0).all())
    require(rising, owner, "edges", "2 or more rising numbers", edges.tolist())

    def shares(name: str, values: Any) -> np.ndarray:
        values = np.asarray(values, dtype=float)
        good = values.ndim == 1 and len(values) > 0
        good = good and bool(((edges[0] <= values) & (values <= edges[-1])).all())
        require(good, owner, name, "(n,) within the edges", values)
        return np.histogram(values, edges)[0] / values.size

    p, q = shares("x", x), shares("y", y)
    return {
        "KL": float(rel_entr(p, q).sum()),
        "JS": float(jensenshannon(p, q) ** 2),
        "TV": 0.5 * float(np.abs(p - q).sum()),
    }
