"""The negative Gaussian mixture gradient (NGMG), as a loss and as a distance between laws.

The paper's own formula is not public; this is our reconstruction.  For a discrepancy e (prediction
minus target),

    potential  psi(e) = sum_k w_k (1 - exp(-|e|^2 / 2 s_k^2)),
    NGMG(e)    = grad psi(e) = sum_k w_k e / s_k^2 exp(-|e|^2 / 2 s_k^2),
    cost(P, Q) = E psi(X - Y) - E psi(X - X') / 2 - E psi(Y - Y') / 2:

the gradient of the *negative* Gaussian mixture, whose components are not normalised: w_k is an
amplitude.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gmmdiff.core.checks import (
    DOUBLE,
    array,
    at_least_single,
    floating,
    in_own_precision,
    promoted,
    recomputed,
    require,
    require_shape,
    whole,
)

BLOCK = 2**19  # pairs times scales held at once by ``cost``: 4 MiB in float64, a cache or two
STRIP = 64  # points paired with all that follow at once: so nearly every pair is made once


class NGMG:
    """Potential, gradient and law-level cost of one negative Gaussian mixture.

    Results have the precision of what they are computed from, also under ``torch.autocast``.

    Args:
        scales: K scales s_k > 0, in units of e.
        weights: K amplitudes w_k > 0; default 1 / K each.

    Raises:
        ValueError: on a scale or weight that is not > 0, or on counts that differ.

    Example:
        >>> import torch
        >>> from gmmdiff import NGMG
        >>> error = torch.tensor([[1.0, 1.0]])
        >>> NGMG([1.0]).potential(error)  # 1 - exp(-2 / 2)
        tensor([0.6321])
        >>> NGMG([1.0]).gradient(error)  # e exp(-2 / 2)
        tensor([[0.3679, 0.3679]])
    """

    def __init__(
        self, scales: Sequence[float] | Tensor, weights: Sequence[float] | Tensor | None = None
    ) -> None:
        self.scales = floating("NGMG", "scales", scales, DOUBLE).double().reshape(-1)
        require_shape("NGMG", "scales", self.scales, "n", least=1)
        if weights is None:
            weights = torch.full_like(self.scales, 1 / len(self.scales))
        self.weights = floating("NGMG", "weights", weights, DOUBLE).double().reshape(-1)
        require_shape("NGMG", "weights", self.weights, len(self.scales))
        for name, value in (("scales", self.scales), ("weights", self.weights)):
            require((value > 0) & value.isfinite(), "NGMG", name, "> 0 and finite", value.tolist())

    @classmethod
    def scale_mixture(cls, s_min: float, s_max: float, n_scales: int) -> NGMG:
        """Log-spaced scales, w_k proportional to s_k: psi(e) near |e| for s_min << |e| << s_max.

        The trapezoidal rule in log s on |e| = sqrt(2 / pi) * integral over s > 0 of (1 - exp(-e^2 /
        2 s^2)), so psi grows with slope 1.

        Raises:
            ValueError: unless 0 < s_min < s_max and n_scales >= 2.
        """
        owner = "NGMG.scale_mixture"
        good = 0 < s_min < s_max < math.inf
        require(good, owner, "s_min, s_max", "0 < s_min < s_max", (s_min, s_max))
        n_scales = whole(owner, "n_scales", n_scales, 2)
        log_scales = torch.linspace(
            math.log(s_min), math.log(s_max), n_scales, dtype=torch.float64, device="cpu"
        )
        scales, step = log_scales.exp(), float(log_scales[1] - log_scales[0])
        return cls(scales, math.sqrt(2 / math.pi) * step * scales)

    def _exponents(self, e: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """e; -|e|^2 / 2 s_k^2 ``(..., K)``, at least in single; scales and weights ``(K,)``."""
        e = array("NGMG", "e", e, "...", "D")
        precise = at_least_single(e)
        scales, weights = self.scales.to(precise), self.weights.to(precise)
        return e, -0.5 * precise.square().sum(-1, keepdim=True) / scales**2, scales, weights

    @in_own_precision
    def potential(self, e: Tensor) -> Tensor:
        """psi(e) in [0, sum_k w_k), differentiable; e ``(..., D)`` -> ``(...)``.

        n scalar errors are ``(n, 1)``; ``(D,)`` is one error in R^D.

        Raises:
            ValueError: on NaN or infinity.
        """
        e, exponents, _, weights = self._exponents(e)
        return (-torch.expm1(exponents) @ weights).to(e.dtype)

    @in_own_precision
    def gradient(self, e: Tensor) -> Tensor:
        """NGMG(e) = grad psi(e), in closed form; e and errors as ``potential``, ``(..., D)``."""
        e, exponents, scales, weights = self._exponents(e)
        pull = weights / scales**2 * torch.exp(exponents)
        return (pull.sum(-1, keepdim=True) * at_least_single(e)).to(e.dtype)

    def _total(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of psi(x_i - y_j) over all pairs of a block."""
        squares = squared_distances(x, y).unsqueeze(-3)
        scales, weights = self.scales.to(x), self.weights.to(x)
        return -((squares * (-0.5 / scales**2)[:, None, None]).expm1_().sum((-2, -1)) @ weights)

    def _sum_over_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """``_total`` block by block, made anew in a backward pass: memory stays bounded."""
        batch = max(1, *(z.shape[:-2].numel() for z in (x, y)))
        blocks = x.split(max(1, BLOCK // (batch * y.shape[-2] * len(self.scales))), -2)
        total = recomputed(self._total, x, y) if len(blocks) > 1 else self._total
        return sum((total(block, y) for block in blocks), start=x.new_zeros(()))

    @in_own_precision
    def mean_potential(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Mean of psi(x_i - y_j) over all pairs; without y of psi(x_i - x_j) over all i != j.

        Differentiable in x and y; leading dimensions are a batch: x ``(..., n, D)``, y ``(..., m,
        D)`` -> ``(...)``.

        Raises:
            ValueError: on an empty sample, one point without y, other shapes, NaN or infinity.
        """
        owner = "NGMG.mean_potential"
        x = array(owner, "x", x, "...", "n", "D", least=2 if y is None else 1)
        if y is None:
            return self._mean_within(at_least_single(x)).to(x.dtype)
        x, y = promoted(owner, x=x, y=array(owner, "y", y, "...", "n", x.shape[-1], least=1))
        total = self._sum_over_pairs(at_least_single(x), at_least_single(y))
        return (total / (x.shape[-2] * y.shape[-2])).to(x.dtype)

    def _mean_within(self, x: Tensor) -> Tensor:
        n = x.shape[-2]
        strips = [(x[..., i : i + STRIP, :], x[..., i + STRIP :, :]) for i in range(0, n, STRIP)]
        zero = x.new_zeros(())
        total = sum((self._sum_over_pairs(strip, strip) for strip, _ in strips), start=zero)
        across = (self._sum_over_pairs(strip, later) for strip, later in strips[:-1])
        return (total + 2 * sum(across, start=zero)) / (n * (n - 1))  # psi(0) = 0

    @in_own_precision
    def cost(self, x: Tensor, y: Tensor) -> Tensor:
        """E psi(X - Y) - E psi(X - X') / 2 - E psi(Y - Y') / 2, from samples, without bias.

        Half the squared maximum mean discrepancy with kernel sum_k w_k exp(-|.|^2 / 2 s_k^2), in
        its unbiased form (Gretton et al. 2012, JMLR 13, eq. 3), so it may fall slightly below 0
        between equal laws.  Differentiable in x and y.  Time O((n + m)^2 K); memory O(block), with
        gradients that of all pairs within x and within y.

        Args:
            x: ``(n, D)``, n >= 2. y: ``(m, D)``, m >= 2.

        Raises:
            ValueError: on other shapes, NaN or infinity.
        """
        owner = "NGMG.cost"
        x = array(owner, "x", x, "n", "D", least=2)
        x, y = promoted(owner, x=x, y=array(owner, "y", y, "n", x.shape[1], least=2))
        a, b = at_least_single(x), at_least_single(y)
        across = self.mean_potential(a, b)
        return (across - 0.5 * self.mean_potential(a) - 0.5 * self.mean_potential(b)).to(x.dtype)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 by one matrix product, ``(..., n, D)``, ``(..., m, D)`` -> ``(..., n, m)``.

    The product runs in float64 and near the origin, where |x|^2 + |y|^2 - 2 x y loses nothing that
    float32 would keep; the result has x's precision.
    """
    a, b = x.double(), y.double()
    middle = b.detach().mean(-2, keepdim=True)
    a, b = a - middle, b - middle
    norms = a.square().sum(-1, keepdim=True) + b.square().sum(-1).unsqueeze(-2)
    return (norms - 2 * (a @ b.mT)).clamp_min(0).to(x.dtype)
