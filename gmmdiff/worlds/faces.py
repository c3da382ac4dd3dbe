"""Faces drawn by formula: binary attributes, continuous nuisances, and a judge that reads both.

A data sheet.  *What varies*: up to eight binary attributes, in the order of ``VALUES``, and three
nuisances, uniform: the position of the face, +-0.12 in either direction, and its size, 0.62 to
0.78, in units of half the image.  *Range*: greys from 0 to 1, soft at the edges, and Gaussian
noise of 0.02 on every pixel.  *Frequencies*: Zipf's law over the 2^m combinations, ranks shuffled.
*Judge*: distance to the nearest face without noise, over all combinations and nuisances, exact to
0.003; at most 0.1 % of fresh faces are read wrongly (tests).  *Licence*: that of this package;
nothing is anybody's face.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import torch
from scipy.stats import chi2
from torch import Tensor

from gmmdiff.core.checks import (
    floating,
    in_own_precision,
    indices,
    require,
    require_finite,
    require_generator,
    whole,
)
from gmmdiff.worlds.world import Judged, Split, World, zipf

VALUES = (
    ("bald", "hair"),
    ("bare eyes", "glasses"),
    ("serious", "smile"),
    ("shaved", "beard"),
    ("no hat", "hat"),
    ("no ears", "ears"),
    ("no mole", "mole"),
    ("dark background", "bright background"),
)
LEAST = torch.tensor([-0.12, -0.12, 0.62])  # of the nuisances: right, down, size
MOST = torch.tensor([0.12, 0.12, 0.78])
STEP = 0.01  # of the nuisances, for slopes
GRID = (5, 5, 4)  # of nuisances, from which the judge starts
NEAREST = 8  # combinations, by that grid, of which it looks at the tangent planes
REFINED = 2  # of these, by their tangent planes, that it draws


class Faces(World):
    """2^m combinations of binary attributes as grey images of size x size.

    Args:
        attributes: m, in 2..8.
        size: pixels of a side, >= 16 (below, a mole is lost).
        noise: standard deviation of every pixel's noise, > 0.
        generator: shuffles the frequencies.

    Raises:
        ValueError: on values out of range.

    Example:
        >>> from gmmdiff import Faces, stream
        >>> world = Faces(attributes=3, generator=stream(0, "faces"))
        >>> world.judge(world.sample([5, 2], stream(0, "draws"))).attributes
        tensor([[1, 0, 1],
                [0, 1, 0]])
        >>> world.describe(5)
        'hair, bare eyes, smile'
    """

    values = VALUES

    def __init__(
        self,
        attributes: int = 6,
        size: int = 16,
        *,
        generator: torch.Generator,
        noise: float = 0.02,
    ) -> None:
        attributes, size = whole("Faces", "attributes", attributes), whole("Faces", "size", size)
        require(2 <= attributes <= 8, "Faces", "attributes", "in 2..8", attributes)
        require(size >= 16, "Faces", "size", ">= 16", size)
        require(0 < noise < math.inf, "Faces", "noise", "> 0", noise)
        require_generator("Faces", generator)
        self.combinations = torch.tensor(list(itertools.product((0, 1), repeat=attributes)))
        self.frequencies = zipf(len(self.combinations), generator)
        self.shape, self.noise = (size, size), noise

    @in_own_precision
    def draw(self, combination: Tensor, nuisances: Tensor) -> Tensor:
        """Faces without noise: ``(n,)`` and ``(n, 3)``, right, down and size -> ``(n, *shape)``."""
        combination = indices("Faces.draw", "combination", combination, len(self.combinations))
        nuisances = floating("Faces.draw", "nuisances", nuisances).float()
        good, wanted = nuisances.shape == (len(combination), 3), f"({len(combination)}, 3)"
        require(good, "Faces.draw", "nuisances", wanted, tuple(nuisances.shape))
        require_finite("Faces.draw", "nuisances", nuisances)
        hair, glasses, smile, beard, hat, ears, mole, bright = self._flags(combination)
        right, down, size = nuisances.unsqueeze(-1).unsqueeze(-1).unbind(1)
        at = (torch.arange(self.shape[0]).to(nuisances) + 0.5) * (2 / self.shape[0]) - 1
        # In units of the face's size, from its middle, y downwards.
        x, y = (at - right) / size, (at.unsqueeze(1) - down) / size
        x, y = torch.broadcast_tensors(x, y)
        edge = self.shape[0] * size  # how steep edges are: about one pixel wide

        def inside(signed: Tensor) -> Tensor:
            """1 where positive, soft at the edge; ``signed`` is a distance, about."""
            return torch.sigmoid(2 * edge * signed)

        def ellipse(cx: float, cy: float, rx: float, ry: float) -> Tensor:
            return inside((1 - (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2).sqrt()) * min(rx, ry))

        def box(left: float, top: float, end: float, bottom: float) -> Tensor:
            return inside(x - left) * inside(end - x) * inside(y - top) * inside(bottom - y)

        image = (0.2 + 0.65 * bright).expand_as(x)

        def paint(shape: Tensor, grey: float, where: Tensor | float = 1.0) -> None:
            nonlocal image
            image = torch.lerp(image, torch.full_like(image, grey), shape * where)

        paint(ellipse(-0.9, 0, 0.28, 0.32) + ellipse(0.9, 0, 0.28, 0.32), 0.55, ears)
        head = ellipse(0, 0, 0.84, 1.02)
        paint(head, 0.6)
        cap = ellipse(0, -0.12, 0.98, 1.1) * inside(-0.52 - y)
        sides = box(-0.98, -0.7, -0.68, 0.5) + box(0.68, -0.7, 0.98, 0.5)
        paint(torch.maximum(cap, sides), 0.0, hair)
        paint(head * inside(y - 0.38), 0.3, beard)
        paint(ellipse(-0.36, -0.1, 0.13, 0.13) + ellipse(0.36, -0.1, 0.13, 0.13), 0.0)
        frames = box(-0.74, -0.4, 0.74, -0.26) + box(-0.74, 0.06, 0.74, 0.2)
        paint((frames + box(-0.08, -0.3, 0.08, 0.1)).clamp(0, 1), 1.0, glasses)
        paint(box(-0.32, 0.52, 0.32, 0.66), 0.05, 1 - smile)
        paint(ellipse(0, 0.44, 0.5, 0.42) * inside(y - 0.44), 1.0, smile)
        paint(ellipse(0.52, 0.3, 0.13, 0.13), 0.05, mole)
        brim = box(-1.1, -0.72, 1.1, -0.54)
        paint(torch.maximum(box(-0.6, -1.4, 0.6, -0.6), brim), 1.0, hat)
        paint(box(-0.6, -0.86, 0.6, -0.72), 0.1, hat)
        return image

    def _flags(self, combination: Tensor) -> list[Tensor]:
        """Each of the eight attributes as ``(n, 1, 1)`` in {0, 1}; those there are not, 0."""
        flags = torch.zeros(len(combination), len(VALUES), 1, 1)
        flags[:, : self.combinations.shape[1], 0, 0] = self.combinations[combination].float()
        return list(flags.unbind(1))

    def sample(
        self, combination: Tensor, generator: torch.Generator, split: Split = "train"
    ) -> Tensor:
        """One noisy face for each combination, as ``World.sample``; all splits are one law."""
        require_generator("Faces.sample", generator)
        n = len(indices("Faces.sample", "combination", combination, len(self.combinations)))
        nuisances = LEAST + (MOST - LEAST) * torch.rand(n, 3, generator=generator)
        noise = torch.randn(n, *self.shape, generator=generator)
        return self.draw(combination, nuisances) + self.noise * noise

    def _tangents(self, combination: Tensor, nuisances: Tensor) -> tuple[Tensor, Tensor]:
        """Faces ``(k, pixels)`` and their slopes in the nuisances ``(k, pixels, 3)``."""
        here = self.draw(combination, nuisances).flatten(1)
        ahead = (self.draw(combination, nuisances + STEP * axis) for axis in torch.eye(3))
        return here, torch.stack([(one.flatten(1) - here) / STEP for one in ahead], 2)

    @property
    def tau(self) -> float:
        """The distance to the nearest face that one in a thousand fresh ones exceeds.

        Noise has all directions but the nuisances', so its square is noise^2 chi^2_{pixels - 3}.
        """
        return self.noise * math.sqrt(float(chi2.ppf(0.999, self.shape[0] ** 2 - 3)))

    @in_own_precision
    def judge(self, z: Tensor) -> Judged:
        """What images ``(n, *shape)`` show, as ``World.judge``.

        The nearest face is sought on a grid of nuisances for every combination; of the nearest
        combinations the planes tangent to the grid's faces are compared, and of the nearest of
        these the faces themselves, by Gauss-Newton steps within the nuisances' range.
        """
        z = floating("Faces.judge", "z", z)
        allowed = f"(n, {self.shape[0]}, {self.shape[1]})"
        require(z.shape[1:] == self.shape, "Faces.judge", "z", allowed, tuple(z.shape))
        require_finite("Faces.judge", "z", z)
        combination, distance = self._nearest(z)
        attributes = self.combinations[combination]
        return Judged(combination, attributes, distance, ~(distance <= self.tau))

    @in_own_precision
    def distance(self, z: Tensor, combination: Tensor) -> Tensor:
        """As ``World.distance``: from the nearest face of the grid, by two Gauss-Newton steps."""
        z = floating("Faces.distance", "z", z).float().flatten(1)
        combination = indices("Faces.distance", "combination", combination, len(self.combinations))
        faces, _, grid = _templates(self.combinations.shape[1], self.shape[0])
        own = faces.unflatten(0, (-1, len(grid)))
        found = []
        for image, c in zip(z.split(500), combination.split(500), strict=True):
            place = (own[c] - image.unsqueeze(1)).norm(dim=2).argmin(1)
            here, slopes = self._tangents(c, grid[place])
            moved, _ = _step(image, here, slopes, grid[place])
            found.append(self._refined(image, c, moved))
        return torch.cat(found)

    def _nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest combination ``(n,)`` and the distance to it ``(n,)``, in strips of images."""
        strips = [self._nearest_strip(strip) for strip in z.float().flatten(1).split(1000)]
        combination, distance = (torch.cat(part) for part in zip(*strips, strict=True))
        return combination, distance

    def _nearest_strip(self, z: Tensor) -> tuple[Tensor, Tensor]:
        faces, slopes, grid = _templates(self.combinations.shape[1], self.shape[0])
        count = min(NEAREST, len(self.combinations))
        squares = torch.addmm(faces.square().sum(1), z, faces.T, alpha=-2)
        best = squares.unflatten(1, (-1, len(grid))).min(2)
        combination = best.values.topk(count, 1, largest=False).indices
        place = best.indices.gather(1, combination)
        template = (combination * len(grid) + place).flatten()
        wanted = z.repeat_interleave(count, 0)
        moved, left = _step(wanted, faces[template], slopes[template], grid[place.flatten()])
        close = left.unflatten(0, place.shape).topk(min(REFINED, count), 1, largest=False).indices
        combination = combination.gather(1, close)
        start = moved.unflatten(0, place.shape).gather(1, close.unsqueeze(2).expand(-1, -1, 3))
        wanted = z.repeat_interleave(combination.shape[1], 0)
        distance = self._refined(wanted, combination.flatten(), start.flatten(0, 1))
        nearest = distance.unflatten(0, combination.shape).min(1)
        return combination.gather(1, nearest.indices.unsqueeze(1)).squeeze(1), nearest.values

    def _refined(self, z: Tensor, combination: Tensor, nuisances: Tensor) -> Tensor:
        """The distance of z ``(k, pixels)`` to the nearest face, from nuisances ``(k, 3)`` on."""
        here, slopes = self._tangents(combination, nuisances)
        moved, _ = _step(z, here, slopes, nuisances)
        there = self.draw(combination, moved).flatten(1)
        return torch.minimum((z - here).norm(dim=1), (z - there).norm(dim=1))


@lru_cache(maxsize=4)  # alike for every generator
def _templates(attributes: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every combination at every point of the grid: faces ``(C g, pixels)``, their slopes
    ``(C g, pixels, 3)``, and the grid ``(g, 3)``.
    """
    world = Faces(attributes, size, generator=torch.Generator())
    axes = [
        low + (high - low) * (torch.arange(count) + 0.5) / count
        for low, high, count in zip(LEAST, MOST, GRID, strict=True)
    ]
    grid, count = torch.cartesian_prod(*axes), len(world.combinations)
    combination = torch.arange(count).repeat_interleave(len(grid))
    faces, slopes = world._tangents(combination, grid.repeat(count, 1))
    return faces, slopes, grid


def _step(z: Tensor, faces: Tensor, slopes: Tensor, nuisances: Tensor) -> tuple[Tensor, Tensor]:
    """A Gauss-Newton step within the nuisances' range: where to, and z's distance to the plane."""
    away = (z - faces).unsqueeze(2)
    normal = slopes.mT @ slopes
    move = torch.linalg.solve(normal, slopes.mT @ away).squeeze(2)
    moved = (nuisances + move).clamp(LEAST, MOST)
    left = away - slopes @ (moved - nuisances).unsqueeze(2)
    return moved, left.squeeze(2).norm(dim=1)
