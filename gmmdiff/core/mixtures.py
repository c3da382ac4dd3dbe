"""Gaussian mixtures, whose diffusion, score and posterior are closed forms: the oracle here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gmmdiff.core.checks import array, promoted, recomputed, require, require_generator, whole
from gmmdiff.core.streams import random_on

Scalar = float | Tensor
BLOCK = 2**18  # points times components times D at once: 2 MiB in float64, about one cache


class GaussianMixture:
    """G(x) = sum_k w_k N(x; m_k, diag(s_k^2)) in R^D.

    Densities take points x ``(..., D)``; their memory is that of the points and of one block of
    ``BLOCK`` numbers, in backward passes too.

    Args:
        weights: ``(K,)``, each >= 0, sum 1 (to 1e-4 of rounding; normalised on the way in).
        means: ``(K, D)``.
        scales: ``(K, D)``, standard deviations, each > 0.

    Raises:
        ValueError: on mismatched shapes, NaN, a negative weight, a sum other than 1, a scale <= 0.

    Example:
        >>> import torch
        >>> from gmmdiff import GaussianMixture
        >>> law = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
        >>> law.score(torch.tensor([[0.0], [1.0]]))  # 0 and (exp(-2) / (1 + exp(-2))) * -2
        tensor([[ 0.0000],
                [-0.2384]])
    """

    def __init__(self, weights: Any, means: Any, scales: Any) -> None:
        owner = "GaussianMixture"
        weights = array(owner, "weights", weights, "n", least=1)
        means = array(owner, "means", means, len(weights), "D")
        scales = array(owner, "scales", scales, *means.shape)
        weights, means, scales = promoted(owner, weights=weights, means=means, scales=scales)
        total = weights.sum()
        require(weights >= 0, owner, "weights", ">= 0", weights)
        require((total - 1).abs() < 1e-4, owner, "the sum of weights", "1", total)
        require(scales > 0, owner, "scales", "> 0", scales)
        self.weights, self.means, self.scales = weights / total, means, scales

    @classmethod
    def from_sklearn(cls, fitted: Any) -> GaussianMixture:
        """The same law as a fitted ``sklearn.mixture.GaussianMixture``, in its own precision.

        Raises:
            ValueError: on something else, one not fitted, or with another ``covariance_type`` than
                "diag" and "spherical".
        """
        from sklearn.mixture import GaussianMixture as Fitted  # loaded only where it is used

        owner, kind = "GaussianMixture.from_sklearn", getattr(fitted, "covariance_type", None)
        good = isinstance(fitted, Fitted) and hasattr(fitted, "means_")
        require(good, owner, "fitted", "a fitted sklearn.mixture.GaussianMixture", fitted)
        good = kind in ("diag", "spherical")
        require(good, owner, "covariance_type", "diag or spherical", kind)
        means = torch.as_tensor(fitted.means_)
        variances = torch.as_tensor(fitted.covariances_).reshape(len(means), -1)
        return cls(fitted.weights_, means, variances.sqrt().expand_as(means))

    def to_sklearn(self) -> Any:
        """A fitted ``sklearn.mixture.GaussianMixture`` of the same law, float64, type "diag".

        Raises:
            ValueError: where scikit-learn has no exact equal: a weight of 0, or a variance beyond
                float64.
        """
        from sklearn.mixture import GaussianMixture as Fitted

        owner = "GaussianMixture.to_sklearn"
        weights, means, scales = (
            z.detach().cpu().double() for z in (self.weights, self.means, self.scales)
        )
        variances = scales.square()
        require(weights > 0, owner, "weights", "> 0", weights)
        good = (variances > 0) & variances.isfinite() & (1 / variances).isfinite()
        require(good, owner, "variances", "> 0 and finite, and 1 / variances", variances)
        fitted = Fitted(len(weights), covariance_type="diag")
        fitted.weights_, fitted.means_ = weights.numpy(), means.numpy()
        fitted.covariances_, fitted.precisions_ = variances.numpy(), (1 / variances).numpy()
        fitted.precisions_cholesky_, fitted.n_features_in_ = (1 / scales).numpy(), means.shape[1]
        return fitted

    def _blockwise(self, of_block: Callable[[Tensor], Tensor], x: Any) -> Tensor:
        """What a function of points ``(n, D)`` makes of x ``(..., D)``, block by block."""
        dim = self.means.shape[1]
        x = array("GaussianMixture", "x", x, "...", dim, like=self.means)
        x, _ = promoted("GaussianMixture", x=x, means=self.means)
        blocks = x.reshape(-1, dim).split(max(1, BLOCK // self.means.numel()))
        call = recomputed(of_block, x, self.means, self.scales) if len(blocks) > 1 else of_block
        found = torch.cat([call(block) for block in blocks])
        return found.reshape((*x.shape[:-1], *found.shape[1:]))

    def _log_joint(self, x: Tensor) -> Tensor:
        squares = ((x.unsqueeze(-2) - self.means) / self.scales).square().sum(-1)
        height = 0.5 * self.means.shape[1] * math.log(2 * math.pi) + self.scales.log().sum(-1)
        present = self.weights > 0  # the logarithm of 0 would have an infinite gradient
        log_weights = self.weights.where(present, 1).log().where(present, -math.inf)
        return log_weights - height - 0.5 * squares

    def _expected(self, x: Tensor, values: Tensor) -> Tensor:
        """sum_k r_k(x) values_k, of values ``(n, K, D)``."""
        return (torch.softmax(self._log_joint(x), -1).unsqueeze(-1) * values).sum(-2)

    def log_joint(self, x: Tensor) -> Tensor:
        """log w_k + log N(x; m_k, diag(s_k^2)), ``(..., K)``."""
        return self._blockwise(self._log_joint, x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log G(x) in nats, ``(...)``."""
        return self._blockwise(lambda block: torch.logsumexp(self._log_joint(block), -1), x)

    def responsibilities(self, x: Tensor) -> Tensor:
        """r_k(x) = P(component k | x), ``(..., K)``, summing to 1."""
        return torch.softmax(self.log_joint(x), -1)

    def score(self, x: Tensor) -> Tensor:
        """grad log G(x) = sum_k r_k(x) (m_k - x) / s_k^2, ``(..., D)``."""

        def of_block(x: Tensor) -> Tensor:
            return self._expected(x, (self.means - x.unsqueeze(-2)) / self.scales.square())

        return self._blockwise(of_block, x)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` >= 1 independent draws, ``(n, D)``."""
        n = whole("GaussianMixture.sample", "n", n, 1)
        require_generator("GaussianMixture.sample", generator)
        # Where the generator is; and half precision cannot be drawn from.
        weights = self.weights.to(generator.device, torch.float64)
        k = torch.multinomial(weights, n, replacement=True, generator=generator)
        k, shape = k.to(self.means.device), (n, self.means.shape[1])
        noise = random_on(k.device, torch.randn, shape, generator, self.means.dtype)
        return self.means[k] + self.scales[k] * noise

    def diffuse(self, alpha: Scalar, sigma: Scalar) -> GaussianMixture:
        """The law of alpha x_0 + sigma eps: m -> alpha m, s^2 -> alpha^2 s^2 + sigma^2.

        Raises:
            ValueError: on more than one alpha or sigma, which make more than one law; of one a
                sample ``torch.vmap(law.posterior_mean)(x_t, alpha, sigma)`` takes care.
        """
        for name, rate in (("alpha", alpha), ("sigma", sigma)):
            shape = tuple(torch.as_tensor(rate).shape)
            allowed = "a number (torch.vmap takes one a sample)"
            require(math.prod(shape) == 1, "GaussianMixture", name, allowed, shape)
        scales = ((alpha * self.scales).square() + sigma**2).sqrt()
        return GaussianMixture(self.weights, alpha * self.means, scales)

    def posterior_mean(self, x_t: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """E[x_0 | x_t] with x_t = alpha x_0 + sigma eps, ``(..., D)``; errors as ``diffuse``.

        Each component's conjugate posterior mean, m + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t -
        alpha m), weighted by the diffused mixture's responsibilities.
        """
        diffused = self.diffuse(alpha, sigma)
        gain = alpha * self.scales.square() / diffused.scales.square()

        def of_block(x: Tensor) -> Tensor:
            return diffused._expected(x, self.means + gain * (x.unsqueeze(-2) - diffused.means))

        return diffused._blockwise(of_block, x_t)
