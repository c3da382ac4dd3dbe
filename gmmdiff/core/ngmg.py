"""The negative Gaussian mixture gradient (NGMG), as a loss and as a distance between laws.

The paper's own formula is not public; this is our reconstruction.  For a discrepancy e (prediction
minus target),

    potential  psi(e) = sum_k w_k (1 - exp(-|e - m_k|^2 / 2 s_k^2)),
    NGMG(e)    = grad psi(e) = sum_k w_k (e - m_k) / s_k^2 exp(-|e - m_k|^2 / 2 s_k^2),

the gradient of the *negative* Gaussian mixture, whose components are not normalised: w_k is an
amplitude.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gmmdiff.core.checks import require, require_finite, require_points

BLOCK = (
    2**19
)  # terms (pairs times scales) held at once by ``cost``: 4 MiB in float64, a cache or two
# Points of a sample that are paired with all that follow: the pairs of one sample, but for few,
# once.
STRIP = 64


class NGMG:
    """Potential, gradient and law-level cost of one negative Gaussian mixture.

    Args:
        scales: K scales s_k > 0, in units of e.
        weights: K amplitudes w_k > 0; default 1 / K each.
        centres: ``(K, D)`` centres m_k in the space of e; default the origin, for any D.

    Raises:
        ValueError: on a scale or weight that is not > 0, or on counts that differ.
    """

    def __init__(
        self,
        scales: Sequence[float] | Tensor,
        weights: Sequence[float] | Tensor | None = None,
        centres: Tensor | None = None,
    ) -> None:
        self.scales = torch.as_tensor(scales, dtype=torch.float64).reshape(-1)
        count = len(self.scales)
        require(count >= 1, "NGMG", "scales", "at least one", "none")
        self.weights = (
            torch.full((count,), 1 / count, dtype=torch.float64)
            if weights is None
            else torch.as_tensor(weights, dtype=torch.float64).reshape(-1)
        )
        require(
            len(self.weights) == count,
            "NGMG",
            "weights",
            f"{count} values, one a scale",
            len(self.weights),
        )
        for name, value in (("scales", self.scales), ("weights", self.weights)):
            require(
                bool(((value > 0) & value.isfinite()).all()),
                "NGMG",
                name,
                "> 0 and finite",
                value.tolist(),
            )
        if centres is not None:
            good = centres.ndim == 2 and len(centres) == count
            require(good, "NGMG", "centres", f"(K, D) with K = {count}", tuple(centres.shape))
            require_finite("NGMG", "centres", centres)
        self.centres = centres

    @classmethod
    def scale_mixture(cls, s_min: float, s_max: float, n_scales: int) -> NGMG:
        """Log-spaced scales, w_k proportional to s_k: psi(e) near |e| for s_min << |e| << s_max.

        The trapezoidal rule in log s on |e| = sqrt(2 / pi) * integral over s > 0 of (1 - exp(-e^2 /
        2 s^2)), so psi grows with slope 1.

        Raises:
            ValueError: unless 0 < s_min < s_max and n_scales >= 2.
        """
        require(
            0 < s_min < s_max,
            "NGMG.scale_mixture",
            "s_min, s_max",
            "0 < s_min < s_max",
            (s_min, s_max),
        )
        require(n_scales >= 2, "NGMG.scale_mixture", "n_scales", ">= 2", n_scales)
        log_scales = torch.linspace(math.log(s_min), math.log(s_max), n_scales, dtype=torch.float64)
        scales = log_scales.exp()
        return cls(scales, math.sqrt(2 / math.pi) * float(log_scales[1] - log_scales[0]) * scales)

    def _components(self, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """e - m_k ``(..., K or 1, D)``, scales and weights ``(K,)`` in e's precision and place."""
        offset = e.unsqueeze(-2)
        if self.centres is not None:
            dim = self.centres.shape[1]
            require(
                e.shape[-1] == dim,
                "NGMG",
                "the last dimension of e",
                f"{dim} as the centres",
                e.shape[-1],
            )
            offset = offset - self.centres.to(e)
        return offset, self.scales.to(e), self.weights.to(e)

    def potential(self, e: Tensor) -> Tensor:
        """psi(e) in [0, sum_k w_k), differentiable; e ``(..., D)`` -> ``(...)``, so n scalar errors
        are ``(n, 1)``.
        """
        offset, scales, weights = self._components(e)
        return -torch.expm1(-0.5 * offset.square().sum(-1) / scales**2) @ weights

    def gradient(self, e: Tensor) -> Tensor:
        """NGMG(e) = grad psi(e), in closed form; e ``(..., D)`` -> ``(..., D)``."""
        offset, scales, weights = self._components(e)
        pull = weights / scales**2 * torch.exp(-0.5 * offset.square().sum(-1) / scales**2)
        return (pull.unsqueeze(-1) * offset).sum(-2)

    def _total(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of psi(x_i - y_j) over all pairs of a block."""
        if self.centres is None:
            squares = squared_distances(x, y).unsqueeze(-3)
        else:
            squares = torch.stack([squared_distances(x - m, y) for m in self.centres.to(x)], -3)
        scales, weights = self.scales.to(x), self.weights.to(x)
        return -((squares * (-0.5 / scales**2)[:, None, None]).expm1_().sum((-2, -1)) @ weights)

    def _sum_over_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """``_total`` block by block, recomputing each block in a backward pass: memory stays
        bounded.
        """
        batch = max(z.shape[:-2].numel() for z in (x, y))
        blocks = x.split(max(1, BLOCK // (batch * y.shape[-2] * len(self.scales))), -2)
        backward = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
        if len(blocks) == 1 or not backward:
            return sum(self._total(block, y) for block in blocks)
        return sum(checkpoint(self._total, block, y, use_reentrant=False) for block in blocks)

    def mean_potential(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Mean of psi(x_i - y_j) over all pairs; without y of psi(x_i - x_j) over all i != j.

        Differentiable in x and y; leading dimensions are a batch: x ``(..., n, D)``, y ``(..., m,
        D)`` -> ``(...)``.
        """
        n = x.shape[-2]
        if y is not None:
            return self._sum_over_pairs(x, y) / (n * y.shape[-2])
        own = self.potential(torch.zeros_like(x[..., 0, :]))  # psi(0), the excluded diagonal
        if self.centres is not None:  # psi(e) is not psi(-e)
            return (self._sum_over_pairs(x, x) - n * own) / (n * (n - 1))
        strips = [(x[..., i : i + STRIP, :], x[..., i + STRIP :, :]) for i in range(0, n, STRIP)]
        total = sum(self._sum_over_pairs(strip, strip) for strip, _ in strips)
        total = total + 2 * sum(self._sum_over_pairs(strip, later) for strip, later in strips[:-1])
        return (total - n * own) / (n * (n - 1))

    def cost(self, x: Tensor, y: Tensor) -> Tensor:
        """E psi(X - Y) - E psi(X - X') / 2 - E psi(Y - Y') / 2, from samples, without bias.

        Half the squared maximum mean discrepancy with kernel sum_k w_k exp(-|.|^2 / 2 s_k^2), in
        its unbiased form (Gretton et al. 2012, JMLR 13, eq. 3), so it may fall slightly below 0
        between equal laws.  Differentiable in x and y; time O(n m K), memory O(block).

        Args:
            x: ``(n, D)``, n >= 2. y: ``(m, D)``, m >= 2.

        Raises:
            ValueError: on other shapes, NaN or infinity.
        """
        require_points("NGMG.cost", "x", x)
        require_points("NGMG.cost", "y", y, x.shape[1])
        n, m = len(x), len(y)
        require(n >= 2 and m >= 2, "NGMG.cost", "the sample sizes", ">= 2", (n, m))
        return (
            self.mean_potential(x, y) - 0.5 * self.mean_potential(x) - 0.5 * self.mean_potential(y)
        )


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 by one matrix product, ``(..., n, D)``, ``(..., m, D)`` -> ``(..., n, m)``, in
    x's precision.

    The product runs in float64, where |x|^2 + |y|^2 - 2 x y loses nothing that float32 would keep.
    """
    a, b = x.double(), y.double()
    norms = a.square().sum(-1, keepdim=True) + b.square().sum(-1).unsqueeze(-2)
    return (norms - 2 * (a @ b.mT)).clamp_min(0).to(x.dtype)
