"""Faces drawn by formula: binary attributes, continuous nuisances, and a judge that reads both.

A data sheet.  *What varies*: up to eight binary attributes, in the order of ``VALUES``, and three
nuisances, uniform: the position of the face, +-0.12 in either direction, and its size, 0.62 to
0.78, in units of half the image.  *Range*: greys from 0 to 1, soft at the edges, and Gaussian
noise of 0.02 on every pixel.  *Frequencies*: Zipf's law over the 2^m combinations, ranks shuffled.
*Judge*: distance to the nearest face without noise, over all combinations and nuisances, exact to
0.003; at most 0.1 % of fresh faces are read wrongly or malformed (tests).  *Licence*: that of this
package; nothing is anybody's face.
"""

from __future__ import annotations

import itertools
import math
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from gmmdiff.core.checks import (
    array,
    floating,
    in_own_precision,
    indices,
    require,
    require_generator,
    whole,
)
from gmmdiff.worlds.world import Judged, Split, World, zipf

CENTRE = 0.4  # about the mean grey of faces, for networks whose data have a mean near 0
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
STRIP = 1000  # images that are judged at once: few calls, in some 30 MiB
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
        attributes = whole("Faces", "attributes", attributes, 2, len(VALUES))
        size = whole("Faces", "size", size, 16)
        require(0 < noise < math.inf, "Faces", "noise", "> 0", noise)
        require_generator("Faces", generator)
        self.combinations = torch.tensor(list(itertools.product((0, 1), repeat=attributes)))
        self.frequencies = zipf(len(self.combinations), generator)
        self.shape, self.noise = (size, size), noise

    @in_own_precision
    def draw(self, combination: Tensor, nuisances: Tensor) -> Tensor:
        """Faces without noise: ``(n,)`` and ``(n, 3)``, right, down and size -> ``(n, *shape)``."""
        combination = indices("Faces.draw", "combination", combination, len(self.combinations))
        nuisances = array("Faces.draw", "nuisances", nuisances, len(combination), 3).float()
        flags = torch.zeros(len(combination), len(VALUES), 1, 1)  # those there are not, 0
        flags[:, : self.combinations.shape[1], 0, 0] = self.combinations[combination].float()
        hair, glasses, smile, beard, hat, ears, mole, bright = flags.unbind(1)
        right, down, size = nuisances.unsqueeze(-1).unsqueeze(-1).unbind(1)
        at = (torch.arange(self.shape[0]).to(nuisances) + 0.5) * (2 / self.shape[0]) - 1
        # In units of the face's size, from its middle, y downwards; a row and a column a face: what
        # depends on one of them alone costs a pixel of each.
        x, y = (at - right) / size, (at.unsqueeze(1) - down) / size
        edge = 2 * self.shape[0] * size  # how steep edges are: about one pixel wide

        def inside(signed: Tensor) -> Tensor:
            """1 where positive, soft at the edge; ``signed`` is a distance, about."""
            return torch.sigmoid(edge * signed)

        def ellipse(cx: float, cy: float, rx: float, ry: float) -> Tensor:
            return inside((1 - (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2).sqrt()) * min(rx, ry))

        def box(left: float, top: float, end: float, bottom: float) -> Tensor:
            return inside(x - left) * inside(end - x) * (inside(y - top) * inside(bottom - y))

        image = (0.2 + 0.65 * bright).expand(-1, *self.shape)

        def paint(shape: Tensor, grey: float) -> None:
            nonlocal image
            image = torch.lerp(image, torch.tensor(grey), shape)

        paint((ellipse(-0.9, 0, 0.28, 0.32) + ellipse(0.9, 0, 0.28, 0.32)) * ears, 0.55)
        head = ellipse(0, 0, 0.84, 1.02)
        paint(head, 0.6)
        cap = ellipse(0, -0.12, 0.98, 1.1) * inside(-0.52 - y)
        sides = box(-0.98, -0.7, -0.68, 0.5) + box(0.68, -0.7, 0.98, 0.5)
        paint(torch.maximum(cap, sides) * hair, 0.0)
        paint(head * (inside(y - 0.38) * beard), 0.3)
        paint(ellipse(-0.36, -0.1, 0.13, 0.13) + ellipse(0.36, -0.1, 0.13, 0.13), 0.0)
        frames = box(-0.74, -0.4, 0.74, -0.26) + box(-0.74, 0.06, 0.74, 0.2)
        paint((frames + box(-0.08, -0.3, 0.08, 0.1)).clamp(0, 1) * glasses, 1.0)
        paint(box(-0.32, 0.52, 0.32, 0.66) * (1 - smile), 0.05)
        paint(ellipse(0, 0.44, 0.5, 0.42) * (inside(y - 0.44) * smile), 1.0)
        if mole.any():  # no face of six attributes or fewer has one
            paint(ellipse(0.52, 0.3, 0.13, 0.13) * mole, 0.05)
        brim = box(-1.1, -0.72, 1.1, -0.54)
        paint(torch.maximum(box(-0.6, -1.4, 0.6, -0.6), brim) * hat, 1.0)
        paint(box(-0.6, -0.86, 0.6, -0.72) * hat, 0.1)
        return image

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
        """Faces ``(k, pixels)`` and their slopes in the nuisances ``(k, 3, pixels)``."""
        here = self.draw(combination, nuisances).flatten(1)
        ahead = (self.draw(combination, nuisances + STEP * axis) for axis in torch.eye(3))
        return here, torch.stack([(one.flatten(1) - here) / STEP for one in ahead], 1)

    @in_own_precision
    def judge(self, z: Tensor) -> Judged:
        """As ``World.judge``; malformed, farther from the nearest face than ``spacing``.

        The nearest face is sought on a grid of nuisances for every combination; of the nearest
        combinations the planes tangent to the grid's faces are compared, and of the nearest of
        these the faces themselves, by Gauss-Newton steps within the nuisances' range.
        """
        strips = [self._nearest(strip) for strip in self._flat("judge", z).split(STRIP)]
        combination, distance = (torch.cat(part) for part in zip(*strips, strict=True))
        malformed = ~(distance <= self.spacing)
        return Judged(combination, self.combinations[combination], distance, malformed)

    @in_own_precision
    def clean(self, z: Tensor, combination: Tensor) -> Tensor:
        """As ``World.clean``: from the grid's nearest face on, as the judge."""
        combination = indices("Faces.clean", "combination", combination, len(self.combinations))
        flat = self._flat("clean", z, len(combination))
        faces, slopes, grid = _templates(self.combinations.shape[1], self.shape[0])
        own, place = faces.unflatten(0, (-1, len(grid))), torch.empty_like(combination)
        for c in combination.unique().tolist():
            asked = combination == c
            squares = torch.addmm(own[c].square().sum(1), flat[asked], own[c].T, alpha=-2)
            place[asked] = squares.argmin(1)
        found = []
        for image, c, at in zip(*(x.split(STRIP) for x in (flat, combination, place)), strict=True):
            template = c * len(grid) + at
            start, _ = _step(image, faces[template], slopes[template], grid[at])
            found.append(self._refined(image, c, start))
        return torch.cat(found).unflatten(1, self.shape).to(floating("Faces.clean", "z", z).dtype)

    @in_own_precision
    def distance(self, z: Tensor, combination: Tensor) -> Tensor:
        """As ``World.distance``: to the ``clean`` face."""
        z = floating("Faces.distance", "z", z)
        return (z - self.clean(z, combination)).flatten(1).norm(dim=1)

    @cached_property
    def spacing(self) -> float:
        """As ``World.spacing``, of faces in the middle of the nuisances' ranges.

        At their ends, where the image's edge cuts off a beard, or between pixels, two combinations
        can be less far apart than noise alone reaches: 0.33 instead of 0.48.
        """
        combination = torch.arange(len(self.combinations))
        middle = ((LEAST + MOST) / 2).expand(len(combination), 3)
        return float(torch.pdist(self.draw(combination, middle).flatten(1)).min())

    def _flat(self, function: str, z: Tensor, n: int | str = "n") -> Tensor:
        """Images ``(n, *shape)`` as ``(n, pixels)``, float32."""
        z = array(f"Faces.{function}", "z", z, n, *self.shape)
        return z.float().flatten(1)

    def _nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest combination to each image ``(n, pixels)``, and the distance to it."""
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
        clean = self._refined(wanted, combination.flatten(), start.flatten(0, 1))
        nearest = (wanted - clean).norm(dim=1).unflatten(0, combination.shape).min(1)
        return combination.gather(1, nearest.indices.unsqueeze(1)).squeeze(1), nearest.values

    def _refined(self, z: Tensor, combination: Tensor, nuisances: Tensor) -> Tensor:
        """The nearest faces to z, both ``(k, pixels)``, from nuisances ``(k, 3)`` on."""
        here, slopes = self._tangents(combination, nuisances)
        moved, _ = _step(z, here, slopes, nuisances)
        there = self.draw(combination, moved).flatten(1)
        closer = (z - there).norm(dim=1) < (z - here).norm(dim=1)
        return torch.where(closer.unsqueeze(1), there, here)


@lru_cache(maxsize=4)  # alike for every generator
def _templates(attributes: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every combination at every point of the grid: faces ``(C g, pixels)``, their slopes
    ``(C g, 3, pixels)``, and the grid ``(g, 3)``.
    """
    world = Faces(attributes, size, generator=torch.Generator())
    axes = [
        low + (high - low) * (torch.arange(count) + 0.5) / count
        for low, high, count in zip(LEAST, MOST, GRID, strict=True)
    ]
    grid, count = torch.cartesian_prod(*axes), len(world.combinations)
    every = [world._tangents(torch.full((len(grid),), c), grid) for c in range(count)]
    faces, slopes = (torch.cat(part) for part in zip(*every, strict=True))
    return faces, slopes, grid


def _step(z: Tensor, faces: Tensor, slopes: Tensor, nuisances: Tensor) -> tuple[Tensor, Tensor]:
    """A Gauss-Newton step within the nuisances' range: where to, and z's squared distance to the
    tangent plane there.
    """
    away = z - faces
    pull = (slopes @ away.unsqueeze(2)).squeeze(2)
    normal = slopes @ slopes.mT
    moved = (nuisances + torch.linalg.solve(normal, pull)).clamp(LEAST, MOST)
    move = (moved - nuisances).unsqueeze(2)
    gain = 2 * pull - (normal @ move).squeeze(2)
    return moved, away.square().sum(1) - (move.squeeze(2) * gain).sum(1)
