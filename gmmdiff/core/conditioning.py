"""Gaussian mixture conditioning: attributes -> draws in condition space.

The paper conditions on "distributions rather than fixed values"; how a feature becomes a component
is our reconstruction.  ``GaussianMixtureConditioning`` is the idea, as a layer of anybody's
denoiser; the arms of the study of it are ``gmmdiff.engine.arms``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from gmmdiff.core.checks import (
    array,
    at_least_single,
    floating,
    in_own_precision,
    promoted,
    refuse,
    require,
    require_shape,
    whole,
)
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.streams import random_on


class GaussianMixtureConditioning(Module):
    """Component indices in, draws from the components out: m_k + s_k eps, eps ~ N(0, I).

    The draw is reparameterised (Kingma & Welling 2013, arXiv 1312.6114), so gradients reach means
    and scales.  As in torch's own layers, a ``generator`` that is left out means torch's default
    one; one on the CPU gives the same noise wherever the module is.  ``torch.compile`` takes the
    whole layer, but for the draw where a generator is given.

    Args:
        means: ``(K, ...)``, of the K components: ``(K, dim)``, or ``(K, tokens, dim)`` where a
            component makes several tokens.
        scales: standard deviations, of a shape that broadcasts to that of ``means``; >= 0, or > 0
            where they are learned.  0 is a point, the ordinary fixed embedding.
        learned: whether means, scales and the null condition are parameters; if not, buffers.  A
            part is held fixed as anywhere in torch: ``conditioning.means.requires_grad_(False)``.
        counts: how many of the components each of the tokens chooses among: the first
            ``counts[0]`` are those of token 0, and so on.  Left out, every token has all.

    Attributes:
        means: as above.
        scales: of the shape of ``means``, >= 0; learned ones are exp(``log_scales``), so they never
            turn negative.
        null: a condition's shape; what the index ``NULL`` = -1 gives, a point, at the origin until
            it is learned.

    Raises:
        ValueError: on other shapes, NaN or infinity, a negative scale, or one of 0 to be learned.

    Example:
        >>> import torch
        >>> from gmmdiff import GaussianMixtureConditioning
        >>> noise = torch.Generator().manual_seed(0)
        >>> conditioning = GaussianMixtureConditioning.for_features([2, 2, 10], dim=16)
        >>> index = conditioning.drop(torch.tensor([[0, 1, 7], [1, 1, 3]]), 0.1, noise)
        >>> conditioning(index, generator=noise).shape  # (batch, tokens, dim)
        torch.Size([2, 3, 16])
        >>> index = torch.full_like(index, conditioning.NULL)  # for classifier-free guidance
        >>> conditioning(index).abs().max()
        tensor(0.)
    """

    NULL = -1
    means: Tensor
    log_scales: Tensor  # where they are learned,
    fixed_scales: Tensor  # and where not
    null: Tensor

    def __init__(
        self, means: Any, scales: Any, learned: bool = False, counts: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        means = array(owner, "means", means, "...").detach().clone()
        good = means.ndim >= 2 and len(means) > 0
        require(good, owner, "means", "(K, ..., dim), K >= 1", tuple(means.shape))
        scales = array(owner, "scales", scales, "...", like=means)
        _, scales = promoted(owner, means=means, scales=scales.detach())
        try:
            scales = scales.expand_as(means).clone()
        except RuntimeError:
            allowed = f"of a shape that broadcasts to {tuple(means.shape)}"
            refuse(owner, "scales", allowed, tuple(scales.shape))
        allowed = "> 0 to be learned" if learned else ">= 0"
        require(scales > 0 if learned else scales >= 0, owner, "scales", allowed, scales)
        null = torch.zeros_like(means[0])
        if learned:
            self.means, self.log_scales = Parameter(means), Parameter(scales.log())
            self.null = Parameter(null)
        else:
            for name, value in (("means", means), ("fixed_scales", scales), ("null", null)):
                self.register_buffer(name, value)
        # Plain numbers: of buffers ``AveragedModel`` would make averages, and ``to_empty`` nothing.
        self.first: int | list[int] = 0  # component of every token, and the last, counted from it
        self.last: int | list[int] = len(means) - 1
        if counts is not None:
            counts = [whole(owner, "counts", count) for count in counts]
            allowed = f"{len(means)} as means"
            require(sum(counts) == len(means), owner, "the sum of counts", allowed, sum(counts))
            self.first = [0, *accumulate(counts)][:-1]
            self.last = [count - 1 for count in counts]

    @staticmethod
    def for_features(
        values_per_attribute: Sequence[int],
        dim: int,
        scale: float = 0.1,
        learned: bool = False,
        generator: torch.Generator | None = None,
    ) -> GaussianMixtureConditioning:
        """A token an attribute; every value of an attribute owns a component.

        Made for an index ``(batch, attributes)``, the value of each, in 0 .. its values - 1.

        Args:
            values_per_attribute: how many values each takes, >= 1.
            dim: of a token.
            scale: of every coordinate of a component, >= 0; the means' coordinates are drawn from
                N(0, 1), as those of ``torch.nn.Embedding``.
            generator: of the means.
        """
        owner = "GaussianMixtureConditioning.for_features"
        counts = [whole(owner, "values_per_attribute", n, 1) for n in values_per_attribute]
        require(len(counts) > 0, owner, "values_per_attribute", "at least one number", "none")
        means = _normal([sum(counts), whole(owner, "dim", dim, 1)], generator)
        return GaussianMixtureConditioning(means, scale, learned, counts)

    @staticmethod
    def for_classes(
        n: int,
        dim: int,
        tokens: int,
        scale: float = 0.1,
        learned: bool = False,
        generator: torch.Generator | None = None,
    ) -> GaussianMixtureConditioning:
        """Every one of ``n`` >= 1 classes owns a component that makes ``tokens`` tokens of R^dim.

        Made for an index ``(batch,)``, the class of each, in 0 .. n - 1; a draw is ``(batch,
        tokens, dim)``; scale and generator as in ``for_features``.  With a single token
        cross-attention would have nothing to choose from: its output would be the same everywhere.
        """
        owner = "GaussianMixtureConditioning.for_classes"
        given = {"n": n, "tokens": tokens, "dim": dim}
        shape = [whole(owner, name, value, 1) for name, value in given.items()]
        return GaussianMixtureConditioning(_normal(shape, generator), scale, learned)

    @staticmethod
    def from_sklearn(fitted: Any, learned: bool = False) -> GaussianMixtureConditioning:
        """The components of a fitted ``sklearn.mixture.GaussianMixture``, in its precision.

        Conditions are then components found in data (``fitted.predict(x)``, for ``forward``), or
        shares of them (``fitted.predict_proba(x)``, for ``soft``).  Errors as
        ``GaussianMixture.from_sklearn``.
        """
        law = GaussianMixture.from_sklearn(fitted)
        return GaussianMixtureConditioning(law.means, law.scales, learned)

    @property
    @in_own_precision
    def scales(self) -> Tensor:
        return self.log_scales.exp() if hasattr(self, "log_scales") else self.fixed_scales

    def forward(
        self, index: Any, sample: bool = True, generator: torch.Generator | None = None
    ) -> Tensor:
        """A draw from every component asked for; with ``sample=False`` its mean.

        Args:
            index: whole numbers, ``(batch, tokens)`` where components are ``(K, dim)``,
                ``(batch,)`` where they are ``(K, tokens, dim)``; ``NULL`` for the null condition.

        Returns:
            ``(batch, tokens, dim)``, in the type and place of the means.

        Raises:
            ValueError: on an index that is not there; inside ``torch.compile`` an error of torch's.
        """
        owner, means = f"{type(self).__name__}.forward", self.means
        index = torch.as_tensor(index)
        require(not index.is_floating_point(), owner, "index", "of an integer type", index.dtype)
        first, last = (torch.as_tensor(z, device=means.device) for z in (self.first, self.last))
        if last.ndim:
            require_shape(owner, "index", index, "...", len(last))
        index = index.to(last)
        there = (index >= self.NULL) & (index <= last)
        require(there, owner, "index", f"in 0 .. {self.last}, or {self.NULL} for none", index)
        # Of a null index some row, which is left out in the end; of one that is not there none, so
        # that torch refuses it where values cannot be seen.
        row = (index + first).where(there, len(means))
        scales = self.scales[row] if sample else None
        return self._draw(means[row], scales, index == self.NULL, generator)

    @in_own_precision
    def soft(
        self, weights: Any, sample: bool = True, generator: torch.Generator | None = None
    ) -> Tensor:
        """A draw between components: sum_k r_k m_k + (sum_k r_k s_k) eps.

        That is the Wasserstein-2 barycentre of the components with weights r_k (Agueh & Carlier
        2011, SIAM J. Math. Anal. 43:904; of Gaussians with diagonal covariances their means and
        standard deviations are averaged).  A weight of 1 gives what its index gives.

        Args:
            weights: ``(..., K)``, each >= 0, summing to 1 (to 1e-2 of rounding), e.g.
                responsibilities; all 0 for the null condition.

        Returns:
            ``(..., dim)``, or ``(..., tokens, dim)``, as the means.

        Raises:
            ValueError: on another shape, or weights that are no such shares.
        """
        owner, count = f"{type(self).__name__}.soft", len(self.means)
        weights = floating(owner, "weights", weights, self.means).to(self.means)
        require_shape(owner, "weights", weights, "...", count)
        total, absent = at_least_single(weights).sum(-1), (weights == 0).all(-1)
        good = (weights >= 0).all(-1) & (absent | ((total - 1).abs() < 1e-2))
        require(good, owner, "weights", ">= 0 with sum 1, or all 0", weights)
        means = torch.tensordot(weights, self.means, 1)
        scales = torch.tensordot(weights, self.scales, 1) if sample else None
        return self._draw(means, scales, absent, generator)

    def _draw(
        self, mean: Tensor, scale: Tensor | None, absent: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        if scale is not None:
            noise = random_on(mean.device, torch.randn, mean.shape, generator, mean.dtype)
            mean = mean + scale * noise
        return torch.where(absent.reshape(*absent.shape, *[1] * self.null.ndim), self.null, mean)

    def drop(
        self, index: Any, probability: float, generator: torch.Generator | None = None
    ) -> Tensor:
        """The index with whole conditions made null, each with a probability.

        What classifier-free guidance asks of training (Ho & Salimans 2022, arXiv 2207.12598).

        Args:
            index: as for ``forward``; or weights as for ``soft``.
            probability: of a condition (an element of the first dimension), in [0, 1].

        Returns:
            of the index's shape, with ``NULL`` in place of indices, 0 in place of weights.

        A ValueError on another probability.
        """
        owner = f"{type(self).__name__}.drop"
        require(0 <= probability <= 1, owner, "probability", "in [0, 1]", probability)
        index = torch.as_tensor(index)
        soft = index.is_floating_point()
        drawn = random_on(index.device, torch.rand, index.shape[:1], generator, torch.float32)
        dropped = (drawn < probability).reshape(-1, *[1] * (index.ndim - 1))
        return index.where(~dropped, 0) if soft else index.long().where(~dropped, self.NULL)


def _normal(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """N(0, 1) in torch's default type and place."""
    place, dtype = torch.get_default_device(), torch.get_default_dtype()
    return random_on(place, torch.randn, shape, generator, dtype)
