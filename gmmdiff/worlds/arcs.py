"""Sixteen arcs, one for each combination of four attributes: every law and distance is known."""

from __future__ import annotations

import itertools
import math
from functools import cached_property

import torch
from torch import Tensor

from gmmdiff.core.checks import (
    array,
    at_least_single,
    floating,
    in_own_precision,
    indices,
    require,
    require_generator,
    whole,
)
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.streams import orthonormal_frame
from gmmdiff.worlds.world import Judged, Split, World, zipf

VALUES = (  # of radius, half, side and wave
    ("inner", "outer"),
    ("upper", "lower"),
    ("right", "left"),
    ("plain", "rippled"),
)
NODES = 256  # points of an arc, for distances to it


class Arcs(World):
    """2^4 arcs in the plane, one for each combination of four binary attributes, lifted to R^D.

    radius (inner / outer) and wave (plain / rippled) choose one of four concentric circles, half
    and side the quadrant.  One orthonormal frame carries the plane and three smooth curvature
    coordinates into R^D; isotropic Gaussian noise is added there.

    Args:
        dim: D >= 5.
        generator: orients the frame.
        noise: standard deviation of the noise, >= 0.

    Attributes:
        combinations: ``(16, 4)`` in {0, 1}; row c owns arc c.
        frequencies: ``(16,)``, summing to 1.

    Example:
        >>> from gmmdiff import Arcs, stream
        >>> world = Arcs(8, stream(0, "frame"))
        >>> z = world.sample([3, 10], stream(0, "draws"))
        >>> z.shape, world.judge(z).combination, world.describe(3)
        (torch.Size([2, 8]), tensor([ 3, 10]), 'inner, upper, left, rippled')
    """

    values = VALUES

    def __init__(self, dim: int, generator: torch.Generator, noise: float = 0.01) -> None:
        dim = whole("Arcs", "dim", dim, 5)
        require(0 <= noise < math.inf, "Arcs", "noise", ">= 0", noise)
        require_generator("Arcs", generator)
        self.dim, self.noise = dim, noise
        self.combinations = torch.tensor(list(itertools.product((0, 1), repeat=4)))
        self.frequencies, self.shape = zipf(16, generator), (dim,)
        self.frame = orthonormal_frame(dim, 5, generator)

    @in_own_precision
    def points(self, combination: Tensor, u: Tensor) -> Tensor:
        """Points ``(n, D)`` of arcs ``(n,)`` in 0..15, without noise, at u ``(n,)`` in [0, 1]."""
        combination = indices("Arcs.points", "combination", combination, 16)
        u = array("Arcs.points", "u", u, len(combination), like=self.frame).double()
        outer, lower, left, rippled = self.combinations[combination].double().unbind(-1)
        start, sweep = 0.2, math.pi / 2 - 0.4  # of each quadrant, in radians; the rest is gap
        angle = (2 * lower + (left + lower) % 2) * (math.pi / 2) + start + sweep * u
        radius = 0.6 + 0.3 * (2 * outer + rippled) + 0.03 * rippled * torch.sin(4 * math.pi * u)
        x, y = radius * torch.cos(angle), radius * torch.sin(angle)
        curvature = [0.3 * torch.sin(2 * x), 0.3 * torch.sin(2 * y), 0.3 * x * y]
        return torch.stack([x, y, *curvature], -1) @ self.frame.T

    def sample(
        self, combination: Tensor, generator: torch.Generator, split: Split = "train"
    ) -> Tensor:
        """As ``World.sample``: noisy points ``(n, D)``, float64; all splits are one law."""
        combination = indices("Arcs.sample", "combination", combination, 16)
        require_generator("Arcs.sample", generator)
        n = len(combination)
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        noise = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
        return self.points(combination, u) + self.noise * noise

    def with_attribute(self, attribute: int, value: int) -> Tensor:
        """Indices of the 8 combinations whose attribute (0..3) has the value (0 or 1)."""
        attribute = whole("Arcs.with_attribute", "attribute", attribute, most=3)
        value = whole("Arcs.with_attribute", "value", value, most=1)
        return (self.combinations[:, attribute] == value).nonzero().squeeze(1)

    def density(self, combinations: Tensor, nodes: int = 256) -> GaussianMixture:
        """The law of z_0 on these combinations, each arc a mixture of ``nodes`` equal midpoints.

        Weighted by frequency; exact up to the midpoint rule, whose error falls faster than any
        power of 1 / nodes once the nodes lie closer than the noise (or the diffusion's sigma_t).
        """
        require(self.noise > 0, "Arcs.density", "noise", "> 0", self.noise)
        combinations = indices("Arcs.density", "combinations", combinations, 16)
        require(len(combinations) > 0, "Arcs.density", "combinations", "at least one", "none")
        nodes = whole("Arcs.density", "nodes", nodes, 1)
        u = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
        means = self.points(combinations.repeat_interleave(nodes), u.repeat(len(combinations)))
        weights = self.frequencies[combinations].repeat_interleave(nodes)
        return GaussianMixture(weights / weights.sum(), means, torch.full_like(means, self.noise))

    @in_own_precision
    def distances(self, z: Tensor) -> Tensor:
        """Distance of z ``(n, D)`` to every arc, ``(n, 16)``: to the nearest two of the segments
        through ``NODES`` of its points (chord error below 1e-4).
        """
        given = array("Arcs.distances", "z", z, "n", self.dim, like=self.frame)
        z = at_least_single(given)
        every = [(z - self._foot(z, arc)).norm(dim=1) for arc in range(16)]
        return torch.stack(every, 1).to(given.dtype)

    def _foot(self, z: Tensor, combination: int) -> Tensor:
        """The nearest point of one arc to each z: ``(n, D)``, both."""
        frame = self.frame.to(z)
        within = z @ frame  # what lies outside of it is orthogonal to every arc
        u = torch.linspace(0, 1, NODES, dtype=torch.float64)
        vertices = self.points(torch.full((NODES,), combination), u).to(z) @ frame
        # Single precision may move the pick among close vertices by one, where both segments are
        # near.
        picture = vertices.float()
        squares = picture.square().sum(1)
        nearest = torch.addmm(squares, within.float(), picture.T, alpha=-2).argmin(1)
        sides = (nearest - 1).clamp_min(0), nearest.clamp_max(NODES - 2)  # segments' first vertices
        first, second = (_on_segment(within, vertices[i], vertices[i + 1]) for i in sides)
        closer = (within - first).norm(dim=1) <= (within - second).norm(dim=1)
        return torch.where(closer.unsqueeze(1), first, second) @ frame.T

    def judge(self, z: Tensor) -> Judged:
        """As ``World.judge``: the nearest arc; malformed, farther from it than ``spacing``."""
        distance, combination = self.distances(z).min(1)
        malformed = ~(distance <= self.spacing)
        return Judged(combination, self.combinations[combination], distance, malformed)

    @in_own_precision
    def clean(self, z: Tensor, combination: Tensor) -> Tensor:
        """As ``World.clean``: the nearest point of the arc of that combination."""
        combination = indices("Arcs.clean", "combination", combination, 16)
        given = array("Arcs.clean", "z", z, len(combination), self.dim)
        z = at_least_single(given)
        feet = torch.empty_like(z)
        for arc in combination.unique().tolist():
            feet[combination == arc] = self._foot(z[combination == arc], arc)
        return feet.to(given.dtype)

    def distance(self, z: Tensor, combination: Tensor) -> Tensor:
        """As ``World.distance``: to the arc of that combination."""
        z = floating("Arcs.distance", "z", z)
        return (z - self.clean(z, combination)).norm(dim=1)

    @cached_property
    def spacing(self) -> float:
        """As ``World.spacing``: from every arc's vertices to every other arc."""
        u = torch.linspace(0, 1, NODES, dtype=torch.float64)
        arc = torch.arange(16).repeat_interleave(NODES)
        away = self.distances(self.points(arc, u.repeat(16)))
        return float(away.scatter(1, arc.unsqueeze(1), torch.inf).min())


def _on_segment(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The nearest points to z of the segments from a to b, all ``(n, D)``."""
    along = b - a
    share = (((z - a) * along).sum(1) / along.square().sum(1)).clamp(0, 1)
    return a + share.unsqueeze(1) * along
