"""Distances between laws: W1, KL, JS, TV and energy distance, in closed form and from samples.

Divergences are in nats; JS carries the 1/2 convention, so it is at most log 2; TV is at most 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import ot
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import erf, expit, rel_entr
from torch import Tensor

from gmmdiff.checks import require, require_points
from gmmdiff.ngmg import NGMG, squared_distances
from gmmdiff.parallel import side_by_side

STRIP = 64  # points of ``energy_tests`` that are paired with all that follow in one matrix product


def wasserstein1(x: Tensor, y: Tensor) -> float:
    """W1 between the empirical laws of x ``(n, D)`` and y ``(m, D)``: exact optimal transport (POT).

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
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| >= 0, biased form (Szekely & Rizzo 2013): x ``(n, D)``, y ``(m, D)``.

    Raises:
        ValueError: on other shapes, NaN or infinity.
    """
    require_points("energy_distance", "x", x)
    require_points("energy_distance", "y", y, x.shape[1])
    return float(2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean())


def energy_tests(x: Tensor, y: Tensor, permutations: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Energy distances of many pairs of samples, and p values of the permutation test of "one law".

    Under random relabelling the distance is -a^T D a with a = 1/n on x and -1/m on y, so all permutations
    of a pair are one matrix product with its joint distance matrix D.  The pairs share their permutations.

    Args:
        x, y: ``(pairs, n, D)`` and ``(pairs, m, D)``.
        permutations: at least 1; the smallest p is 1 / (permutations + 1).

    Returns:
        distances and p values, ``(pairs,)`` each.

    Raises:
        ValueError: on other shapes, NaN or infinity, or permutations < 1.
    """
    require(x.ndim == 3, "energy_tests", "x", "a tensor (pairs, n, D)", tuple(x.shape))
    good = y.ndim == 3 and len(y) == len(x)
    require(good, "energy_tests", "y", f"a tensor ({len(x)}, m, D) as x", tuple(y.shape))
    require(permutations >= 1, "energy_tests", "permutations", ">= 1", permutations)
    for one, other in zip(x, y, strict=True):
        require_points("energy_tests", "x", one)
        require_points("energy_tests", "y", other, one.shape[1])
    n, m = x.shape[1], y.shape[1]
    observed = torch.cat([torch.full((n,), 1 / n), torch.full((m,), -1 / m)])
    order = torch.rand(permutations, n + m, generator=generator).argsort(1)
    labels = torch.cat([observed.unsqueeze(0), observed[order]]).T.contiguous()
    strips = [(slice(i, i + STRIP), slice(i, n + m)) for i in range(0, n + m, STRIP)]

    def test(pair: Tensor) -> tuple[Tensor, Tensor]:
        twice = 2 * torch.cdist(pair, pair).triu(1).float()  # D is symmetric: each pair of points once
        energy = -sum(((twice[some, rest] @ labels[rest]) * labels[some]).sum(0) for some, rest in strips)
        # A relabelling equal to the observed one must count as "at least as far", whatever float32 rounds.
        reached = energy[1:] >= energy[0] - 1e-6 * energy[0].abs()
        return energy[0], (1 + reached.sum()) / (permutations + 1)

    found, p_values = zip(*side_by_side(test, torch.cat([x, y], 1)), strict=True)
    return torch.stack(found), torch.stack(p_values)


def divergences_from_samples(p: Tensor, q: Tensor, width: float, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """One-sample terms whose means are KL(p || q), JS(p, q) and TV(p, q): x ``(..., n, D)`` ~ p, y ``(..., n, D)`` ~ q.

    The laws are mixtures of N(m, width^2 I), width > 0, with equal weights and means p, q ``(..., K, D)``.
    Differentiable in p, q, x and y; each value is ``(..., n)``, so the mean's standard error comes with it.
    """

    def log_ratio(z: Tensor) -> Tensor:
        log_p, log_q = (torch.logsumexp(squared_distances(z, law) / (-2 * width**2), -1) for law in (p, q))
        return log_p - log_q

    at_x, at_y = log_ratio(x), log_ratio(y)
    softplus = torch.nn.functional.softplus
    return {
        "KL": at_x,
        "JS": math.log(2) - 0.5 * (softplus(-at_x) + softplus(at_y)),
        "TV": 0.5 * (torch.tanh(0.5 * at_x).abs() + torch.tanh(0.5 * at_y).abs()),
    }


def divergences_from_histograms(x: np.ndarray, y: np.ndarray, edges: np.ndarray) -> dict[str, float]:
    """KL, JS and TV between the histograms of two samples ``(n,)`` and ``(m,)`` over shared bin edges."""
    p, q = (np.histogram(values, edges)[0] / len(values) for values in (x, y))
    return {"KL": float(rel_entr(p, q).sum()), "JS": float(jensenshannon(p, q) ** 2), "TV": 0.5 * float(np.abs(p - q).sum())}


@dataclass(frozen=True)
class LineCosts:
    """Costs between the parallel lines at theta and at 0, in closed form: (value, slope in theta) each.

    For width 0 the laws are singular to each other unless theta = 0, where WGAN (arXiv 1701.07875,
    example 1) gives W1 = |theta|, JS = log 2, KL = infinity, TV = 1; a cost that is constant or infinite has
    slope 0, no direction to descend.  For width > 0 the first coordinates are N(theta, width^2) and
    N(0, width^2), the second ones alike.  theta is ``(n,)``.
    """

    width: float = 0.0

    def w1(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """|theta|: translation is the optimal plan, whatever the width."""
        return np.abs(theta), np.sign(theta)

    def kl(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta^2 / (2 width^2)."""
        if self.width == 0:
            return np.where(theta == 0, 0.0, np.inf), np.zeros_like(theta)
        return 0.5 * (theta / self.width) ** 2, theta / self.width**2

    def tv(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """erf(|theta| / (2 sqrt(2) width))."""
        if self.width == 0:
            return np.where(theta == 0, 0.0, 1.0), np.zeros_like(theta)
        slope = np.sign(theta) * np.exp(-((theta / self.width) ** 2) / 8) / (math.sqrt(2 * math.pi) * self.width)
        return erf(np.abs(theta) / (2 * math.sqrt(2) * self.width)), slope

    def js(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log 2 - E log(1 + exp(-L)), the log ratio L ~ N(KL, 2 KL).

        The one integral without a closed form: the trapezoidal rule over 10 standard deviations, exact to
        rounding for so smooth an integrand.
        """
        if self.width == 0:
            return np.where(theta == 0, 0.0, math.log(2)), np.zeros_like(theta)
        z = np.linspace(-10, 10, 2001)
        mass = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
        ratio = np.asarray(theta)[:, None] / self.width
        log_ratio = 0.5 * ratio**2 + ratio * z
        value = math.log(2) - np.logaddexp(0, -log_ratio) @ mass
        return value, (expit(-log_ratio) * (ratio + z) / self.width) @ mass

    def ngmg(self, theta: np.ndarray, ngmg: NGMG) -> tuple[np.ndarray, np.ndarray]:
        """sum_k w_k A(s_k) (s_k / sqrt(v_k)) (1 - exp(-theta^2 / 2 v_k)) with v = s^2 + 2 width^2.

        A(s) = E exp(-(Z - Z')^2 / 2 s^2) over two independent uniforms.
        """
        s = ngmg.scales.numpy()
        overlap = math.sqrt(2 * math.pi) * s * erf(1 / (math.sqrt(2) * s)) + 2 * s**2 * np.expm1(-0.5 / s**2)
        v = s**2 + 2 * self.width**2
        amplitude = ngmg.weights.numpy() * overlap * s / np.sqrt(v)
        theta = np.asarray(theta)[:, None]
        return -np.expm1(-0.5 * theta**2 / v) @ amplitude, (theta / v * np.exp(-0.5 * theta**2 / v)) @ amplitude
