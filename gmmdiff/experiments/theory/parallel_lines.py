"""Two parallel lines, and every cost between them in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import erf, expit
from torch import Tensor

from gmmdiff.core.checks import DOUBLE, array, require, require_generator, whole
from gmmdiff.core.ngmg import NGMG


def _at(theta: Any) -> np.ndarray:
    """Finite distances ``(n,)`` in float64, of any list, array or tensor of them."""
    return array("LineCosts", "theta", theta, "n", like=DOUBLE).detach().double().cpu().numpy()


@dataclass(frozen=True)
class LineCosts:
    """Closed-form costs between the parallel lines at theta and at 0: (value, slope in theta) each.

    For width 0 the laws are singular to each other unless theta = 0, where WGAN (arXiv 1701.07875,
    example 1) gives W1 = |theta|, JS = log 2, KL = infinity, TV = 1; a cost that is constant or
    infinite has slope 0, no direction to descend.  For width > 0 the first coordinates are N(theta,
    width^2) and N(0, width^2), the second ones alike.  theta is ``(n,)``.

    Raises:
        ValueError: on a width < 0, a theta of another shape, NaN or infinity.

    Example:
        >>> from gmmdiff import LineCosts
        >>> value, slope = LineCosts(width=1.0).kl([1.0, 2.0])
        >>> value.tolist(), slope.tolist()
        ([0.5, 2.0], [1.0, 2.0])
    """

    width: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.width < math.inf, "LineCosts", "width", ">= 0", self.width)

    def w1(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """|theta|: translation is the optimal plan, whatever the width."""
        theta = _at(theta)
        return np.abs(theta), np.sign(theta)

    def kl(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta^2 / (2 width^2)."""
        theta = _at(theta)
        if self.width == 0:
            return np.where(theta == 0, 0.0, np.inf), np.zeros_like(theta)
        return 0.5 * (theta / self.width) ** 2, theta / self.width**2

    def tv(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """erf(|theta| / (2 sqrt(2) width))."""
        theta = _at(theta)
        if self.width == 0:
            return np.where(theta == 0, 0.0, 1.0), np.zeros_like(theta)
        density = np.exp(-((theta / self.width) ** 2) / 8)
        slope = np.sign(theta) * density / (math.sqrt(2 * math.pi) * self.width)
        return erf(np.abs(theta) / (2 * math.sqrt(2) * self.width)), slope

    def js(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log 2 - E log(1 + exp(-L)), the log ratio L ~ N(KL, 2 KL).

        The one integral without a closed form: the trapezoidal rule over 10 standard deviations,
        exact to rounding for so smooth an integrand.
        """
        theta = _at(theta)
        if self.width == 0:
            return np.where(theta == 0, 0.0, math.log(2)), np.zeros_like(theta)
        z = np.linspace(-10, 10, 2001)
        mass = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
        ratio = theta[:, None] / self.width
        log_ratio = 0.5 * ratio**2 + ratio * z
        value = math.log(2) - np.logaddexp(0, -log_ratio) @ mass
        return value, (expit(-log_ratio) * (ratio + z) / self.width) @ mass

    def ngmg(self, theta: np.ndarray, ngmg: NGMG) -> tuple[np.ndarray, np.ndarray]:
        """sum_k w_k A(s_k) (s_k / sqrt(v_k)) (1 - exp(-theta^2 / 2 v_k)) with v = s^2 + 2 width^2.

        A(s) = E exp(-(Z - Z')^2 / 2 s^2) over two independent uniforms.
        """
        theta, s = _at(theta)[:, None], ngmg.scales.numpy()
        overlap = math.sqrt(2 * math.pi) * s * erf(1 / (math.sqrt(2) * s))
        overlap = overlap + 2 * s**2 * np.expm1(-0.5 / s**2)
        v = s**2 + 2 * self.width**2
        amplitude, exponent = ngmg.weights.numpy() * overlap * s / np.sqrt(v), -0.5 * theta**2 / v
        slope = (theta / v * np.exp(exponent)) @ amplitude
        return -np.expm1(exponent) @ amplitude, slope


@dataclass(frozen=True)
class ParallelLine:
    """The law of (theta + width * N(0, 1), Z), Z ~ U[0, 1], in the plane; for width 0 as in WGAN.

    Raises:
        ValueError: on a width < 0, and of ``sample`` on n < 1.

    Example:
        >>> from gmmdiff import ParallelLine, stream
        >>> ParallelLine(0.5).sample(3, stream(0, "draws"))[:, 0]
        tensor([0.5000, 0.5000, 0.5000], dtype=torch.float64)
    """

    theta: float
    width: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.width < math.inf, "ParallelLine", "width", ">= 0", self.width)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``(n, 2)`` independent draws, float64."""
        n = whole("ParallelLine.sample", "n", n, 1)
        require_generator("ParallelLine.sample", generator)
        z = torch.rand(n, generator=generator, dtype=torch.float64)
        noise = torch.randn(n, generator=generator, dtype=torch.float64)
        return torch.stack([self.theta + self.width * noise, z], 1)
