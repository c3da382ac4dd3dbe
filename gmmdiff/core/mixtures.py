"""Gaussian mixtures, whose diffusion, score and posterior are closed forms: the oracle here."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gmmdiff.core.checks import require, require_finite

Scalar = float | Tensor
BLOCK = 2**18  # points times components times D at once: 2 MiB in float64, about one cache


class GaussianMixture:
    """G(x) = sum_k w_k N(x; m_k, diag(s_k^2)) in R^D.

    Args:
        weights: ``(K,)``, each >= 0, sum 1 (to 1e-4 of rounding; normalised on the way in).
        means: ``(K, D)``.
        scales: ``(K, D)``, standard deviations, each > 0.

    Raises:
        ValueError: on mismatched shapes, NaN, a negative weight, a sum other than 1, a scale <= 0.
    """

    def __init__(self, weights: Tensor, means: Tensor, scales: Tensor) -> None:
        owner = "GaussianMixture"
        require(
            weights.ndim == 1 and len(weights) > 0,
            owner,
            "weights",
            "(K,), K >= 1",
            tuple(weights.shape),
        )
        require(
            means.ndim == 2 and len(means) == len(weights),
            owner,
            "means",
            f"(K, D) with K = {len(weights)} as weights",
            tuple(means.shape),
        )
        require(
            scales.shape == means.shape,
            owner,
            "scales",
            f"{tuple(means.shape)} as means",
            tuple(scales.shape),
        )
        for name, value in (("weights", weights), ("means", means), ("scales", scales)):
            require_finite(owner, name, value)
        require(bool((weights >= 0).all()), owner, "weights", ">= 0", float(weights.min()))
        require(
            abs(float(weights.sum()) - 1) < 1e-4,
            owner,
            "the sum of weights",
            "1",
            float(weights.sum()),
        )
        require(bool((scales > 0).all()), owner, "scales", "> 0", float(scales.min()))
        self.weights = weights / weights.sum()
        self.means = means
        self.scales = scales

    def log_joint(self, x: Tensor) -> Tensor:
        """log w_k + log N(x; m_k, diag(s_k^2)), ``(..., K)``."""
        dim = self.means.shape[1]
        require(
            x.shape[-1] == dim, "GaussianMixture", "the last dimension of x", str(dim), x.shape[-1]
        )
        blocks = x.reshape(-1, dim).split(max(1, BLOCK // self.means.numel()))
        squares = torch.cat(
            [
                ((block.unsqueeze(-2) - self.means) / self.scales).square().sum(-1)
                for block in blocks
            ]
        )
        log_height = (
            self.weights.log() - self.scales.log().sum(-1) - 0.5 * dim * math.log(2 * math.pi)
        )
        return (log_height - 0.5 * squares).reshape(*x.shape[:-1], len(self.weights))

    def log_prob(self, x: Tensor) -> Tensor:
        """log G(x) in nats; x ``(..., D)`` -> ``(...)``."""
        return torch.logsumexp(self.log_joint(x), -1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """P(component k | x); x ``(..., D)`` -> ``(..., K)``, summing to 1."""
        return torch.softmax(self.log_joint(x), -1)

    def score(self, x: Tensor) -> Tensor:
        """grad log G(x) = sum_k r_k(x) (m_k - x) / s_k^2; x ``(..., D)`` -> ``(..., D)``."""
        pull = (self.means - x.unsqueeze(-2)) / self.scales.square()
        return (self.responsibilities(x).unsqueeze(-1) * pull).sum(-2)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` independent draws, ``(n, D)``."""
        require(n >= 1, "GaussianMixture.sample", "n", ">= 1", n)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(
            n, self.means.shape[1], generator=generator, dtype=self.means.dtype, device=k.device
        )
        return self.means[k] + self.scales[k] * noise

    def diffuse(self, alpha: Scalar, sigma: Scalar) -> GaussianMixture:
        """The law of alpha x_0 + sigma eps: m -> alpha m, s^2 -> alpha^2 s^2 + sigma^2."""
        scales = ((alpha * self.scales).square() + sigma**2).sqrt()
        return GaussianMixture(self.weights, alpha * self.means, scales)

    def posterior_mean(self, x_t: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """E[x_0 | x_t] with x_t = alpha x_0 + sigma eps; x_t ``(..., D)`` -> ``(..., D)``.

        Each component's conjugate posterior mean, m + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t -
        alpha m), weighted by the diffused mixture's responsibilities.
        """
        diffused = self.diffuse(alpha, sigma)
        gain = alpha * self.scales.square() / diffused.scales.square()
        means = self.means + gain * (x_t.unsqueeze(-2) - diffused.means)
        return (diffused.responsibilities(x_t).unsqueeze(-1) * means).sum(-2)
