"""Two real handwritten digits side by side: two features of ten values, a hundred classes.

A data sheet.  *Source*: the 1,797 images of ``sklearn.datasets.load_digits`` (8 x 8, the test part
of UCI's optical recognition of handwritten digits; Alpaydin & Kaynak 1998, CC BY 4.0), greys
scaled to [0, 1].  *What varies*: which digit stands left and which right, and the hands that wrote
them.  An image recurs in many pairs.  *Splits*: of every digit's images 45 % for training, 5 %
for validation, 40 % for the judge, the rest for the test, drawn anew by the generator.
*Frequencies*: Zipf's law over the pairs, ranks shuffled.  *Judge*: a support vector machine for
each half, taught by the judge's images and these shifted by a pixel; of fresh test pairs it reads
about one in forty wrongly (tests), the floor of every measurement.
"""

from __future__ import annotations

import itertools
from functools import cache, cached_property, partial

import torch
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC
from torch import Tensor

from gmmdiff.core.checks import array, in_own_precision, indices, require, require_generator
from gmmdiff.core.streams import stream
from gmmdiff.worlds.world import Judged, Split, World, zipf

SIDE, DIGITS = 8, 10
SPLITS = ("train", "validation", "judge", "test")
SHARES = (0.45, 0.05, 0.4)  # of every digit's images, of all splits but the last
TESTED = 2000  # test pairs, of which one in a hundred may lie outside the manifold
NEIGHBOURS = 5  # k of the k-nearest-neighbour manifold (Kynkaanniemi et al. 2019)


class Digits(World):
    """Pairs of real digits, 8 x 16 greys in [0, 1].

    Args:
        generator: splits the images and shuffles the frequencies.

    Example:
        >>> from gmmdiff import Digits, stream
        >>> world = Digits(generator=stream(0, "digits"))
        >>> pairs = world.sample([42, 7], stream(0, "draws"), split="judge")
        >>> pairs.shape, world.describe(42)
        (torch.Size([2, 8, 16]), '4, 2')
    """

    values = [[str(digit) for digit in range(DIGITS)]] * 2
    shape = (SIDE, 2 * SIDE)

    def __init__(self, *, generator: torch.Generator) -> None:
        require_generator("Digits", generator)
        self.combinations = torch.tensor(list(itertools.product(range(DIGITS), repeat=2)))
        self.frequencies = zipf(len(self.combinations), generator)
        images, digits = _data()
        self._images: dict[str, list[Tensor]] = {name: [] for name in SPLITS}  # by digit
        for digit in range(DIGITS):
            own = images[digits == digit]
            own = own[torch.randperm(len(own), generator=generator)]
            counts = [round(share * len(own)) for share in SHARES]
            counts.append(len(own) - sum(counts))
            for name, part in zip(SPLITS, own.split(counts), strict=True):
                self._images[name].append(part)

    def sample(
        self, combination: Tensor, generator: torch.Generator, split: Split = "train"
    ) -> Tensor:
        """As ``World.sample``: two random images of each combination's digits."""
        owner = "Digits.sample"
        require(split in SPLITS, owner, "split", f"one of {', '.join(SPLITS)}", repr(split))
        require_generator(owner, generator)
        combination = indices(owner, "combination", combination, len(self.combinations))
        counts = torch.tensor([len(part) for part in self._images[split]])
        starts, images = counts.cumsum(0) - counts, torch.cat(self._images[split])
        digits = self.combinations[combination]
        place = torch.rand(digits.shape, generator=generator, dtype=torch.float64)
        chosen = starts[digits] + (place * counts[digits]).long()
        return images[chosen].movedim(1, 2).flatten(2)

    @in_own_precision
    def judge(self, z: Tensor) -> Judged:
        """As ``World.judge``; *distance*, to the nearest pair of the judge's images, any with any.

        *malformed*, a half outside the k-nearest-neighbour sphere of every such image
        (Kynkaanniemi et al. 2019, arXiv 1904.06991), all radii widened by the one factor with which
        a half of one in a hundred test pairs is.
        """
        z = array("Digits.judge", "z", z, "n", *self.shape)
        flat = self._halves(z).flatten(0, 1)
        read = torch.tensor(self._reader.predict(flat.numpy())).unflatten(0, (-1, 2))
        real, radius = self._manifold
        # Here and below by matrix products, which on greys in [0, 1] err by 1e-7 at most.
        away = torch.cdist(flat, real)
        outside = ~(away <= radius).any(1).unflatten(0, (-1, 2)).all(1)
        distance = away.min(1).values.unflatten(0, (-1, 2)).norm(dim=1)
        return Judged(read @ torch.tensor([DIGITS, 1]), read, distance, outside)

    @in_own_precision
    def distance(self, z: Tensor, combination: Tensor) -> Tensor:
        """As ``World.distance``: to the nearest pair of the judge's images of these digits."""
        combination = indices("Digits.distance", "combination", combination, DIGITS**2)
        away = torch.cdist(self._halves(z).flatten(0, 1), self._manifold[0])
        other = self._digits("judge") != self.combinations[combination].flatten().unsqueeze(1)
        return away.masked_fill(other, torch.inf).min(1).values.unflatten(0, (-1, 2)).norm(dim=1)

    def _halves(self, z: Tensor) -> Tensor:
        """Pairs ``(n, 8, 16)`` as ``(n, 2, 64)``, float64."""
        return z.double().unflatten(2, (2, SIDE)).movedim(2, 1).flatten(2)

    def _digits(self, split: Split) -> Tensor:
        """What every image of a split shows, digit by digit."""
        counts = torch.tensor([len(part) for part in self._images[split]])
        return torch.arange(DIGITS).repeat_interleave(counts)

    @cached_property
    def _reader(self) -> SVC:
        """Reads one half; taught by the judge's images, as they are and shifted by a pixel."""
        images = torch.cat(self._images["judge"])
        wide = torch.nn.functional.pad(images, (1, 1, 1, 1))
        shifts = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
        seen = torch.cat([wide[:, y : y + SIDE, x : x + SIDE] for y, x in shifts])
        digits = self._digits("judge").repeat(len(shifts))
        # scikit-learn's kernel by matrix products; its SVC's own goes pair by pair.
        machine = SVC(kernel=partial(rbf_kernel, gamma=0.3), C=10.0)
        return machine.fit(seen.flatten(1).numpy(), digits.numpy())

    @cached_property
    def _manifold(self) -> tuple[Tensor, Tensor]:
        """The judge's images ``(n, pixels)``, and the radius of each one's sphere."""
        real = torch.cat(self._images["judge"]).flatten(1)
        radius = torch.cdist(real, real).kthvalue(NEIGHBOURS + 1, 1).values  # itself aside
        generator = stream(0, "Digits: spheres")
        combination = self.sample_combinations(TESTED, generator)
        halves = self._halves(self.sample(combination, generator, "test")).flatten(0, 1)
        wanted = (torch.cdist(halves, real) / radius).min(1).values.unflatten(0, (-1, 2))
        inside = TESTED - TESTED // 100
        return real, radius * wanted.amax(1).kthvalue(inside).values


@cache
def _data() -> tuple[Tensor, Tensor]:
    """All images ``(n, 8, 8)`` in [0, 1], float64, and what they show; from disk once."""
    data = load_digits()
    return torch.tensor(data.images) / 16, torch.tensor(data.target)
