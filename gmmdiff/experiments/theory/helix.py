"""A curved one-dimensional manifold, to be found by gradient descent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gmmdiff.core.checks import floating, require, require_finite, require_generator, whole
from gmmdiff.core.streams import orthonormal_frame


class Helix:
    """A curved 1-D manifold in R^D: three quarters of a rising turn, radius 1, carried by a frame.

    Without symmetry, so a translation, a rotation in its plane and a scale are each identifiable.

    Example:
        >>> from gmmdiff import Helix, stream
        >>> helix = Helix(5, stream(0, "frame"))
        >>> helix.points(helix.stratified(100, stream(0, "places"))).shape
        torch.Size([100, 5])
    """

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        require(whole("Helix", "dim", dim) >= 3, "Helix", "dim", ">= 3", dim)
        self.frame = orthonormal_frame(dim, 3, generator)

    def points(self, u: Tensor, turn: Tensor | float = 0.0) -> Tensor:
        """The curve ``(n, D)`` at u ``(n,)`` in [0, 1], turned by an angle in radians.

        For several turns ``(turns, 1)``: ``(turns, n, D)``.
        """
        u = floating("Helix.points", "u", u, self.frame).double()
        turn = floating("Helix.points", "turn", turn, self.frame).double()
        require_finite("Helix.points", "u", u)
        angle = 1.5 * math.pi * u + turn
        flat = torch.stack([torch.cos(angle), torch.sin(angle), u.expand_as(angle)], -1)
        return flat @ self.frame.T

    def stratified(self, n: int, generator: torch.Generator) -> Tensor:
        """``(n,)`` positions u, one drawn uniformly in each of n equal strata of [0, 1]."""
        n = whole("Helix.stratified", "n", n, 1)
        require_generator("Helix.stratified", generator)
        return (torch.arange(n) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
