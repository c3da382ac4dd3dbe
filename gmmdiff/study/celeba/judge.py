"""What an image shows: a classifier trained on the training split, measured on the test split."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor
from torch.nn import Conv2d, GroupNorm, Linear, Module, ModuleList, Sequential, SiLU
from torch.nn.functional import binary_cross_entropy_with_logits

from gmmdiff.core.checks import require, require_finite
from gmmdiff.core.distances import pairwise_distances
from gmmdiff.study.unet.shapes import NORM_GROUPS
from gmmdiff.worlds.celeba import CelebA
from gmmdiff.worlds.digits import NEIGHBOURS
from gmmdiff.worlds.world import Judged

SMALLEST = 4  # pixels of a side to which images are halved
CHUNK = 500  # images seen at once
REFUSED = 0.01  # share of real images that are called malformed
SMALLEST_UNIT = 0.01  # of a feature, in units of the average one: what hardly varies stays small


class Reader(Module):
    """Images ``(n, 3, size, size)`` in [0, 1] -> logits ``(n, m)``, one an attribute.

    Stages of convolutions that halve the image until its side is at most 4, with as many channels
    more; the attributes are read on the means over places of the last one.

    Args:
        width: of the first convolution, a multiple of 8; at most eight times as many later.

    Raises:
        ValueError: on another width.
    """

    def __init__(self, size: int, attributes: int, width: int) -> None:
        super().__init__()
        good = width > 0 and width % NORM_GROUPS == 0
        require(good, "celeba", "judge_width", f"a multiple of {NORM_GROUPS}", width)
        self.stages, channels = ModuleList(), 3
        for k in range(max(1, math.ceil(math.log2(size / SMALLEST)))):
            out, layers = width * 2 ** min(k, 3), []
            for channels_in, stride in ((channels, 1), (out, 2)):
                convolution = Conv2d(channels_in, out, 3, stride, padding=1)
                layers += [convolution, GroupNorm(NORM_GROUPS, out), SiLU()]
            self.stages.append(Sequential(*layers))
            channels = out
        self.head = Linear(channels, attributes)

    def seen(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(n, m)``, and features ``(n, f)``: every channel's mean and standard deviation
        over places, of all stages.

        The last one's means alone would not do: they know of an image what tells its attributes,
        and noise may have just these.
        """
        z, found = 2 * z - 1, []
        for stage in self.stages:
            z = stage(z)
            found += [z.mean((2, 3)), z.std((2, 3))]
        return self.head(z.mean((2, 3))), torch.cat(found, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.seen(z)[0]


def reading_loss(network: Module, data: CelebA, rows: Tensor, combination: Tensor) -> Tensor:
    """Binary cross entropy of attributes, a number.

    Args:
        network: a ``Reader``, also wrapped. rows, combination: ``(n,)``, as of ``CelebA.part``.
    """
    place = next(network.parameters()).device
    logits = network(data.load(rows).to(place)).float()
    return binary_cross_entropy_with_logits(
        logits, data.combinations[combination].to(place, torch.float32)
    )


class Judge:
    """Reads images, and says which are malformed.

    Args:
        reader: trained, in evaluation mode.
        references: the real images, of the judge's split, that stand for the manifold: at most so
            many, the first of a shuffle by the generator.  No reader and no denoiser has trained on
            them.

    Raises:
        ValueError: on a reader that diverged.
    """

    def __init__(
        self, data: CelebA, reader: Reader, references: int, generator: torch.Generator
    ) -> None:
        self.data, self.reader = data, reader
        rows, _ = data.part("judge")
        rows = rows[torch.randperm(len(rows), generator=generator)[:references]]
        real = self._read_rows(rows)[1]
        self._unit = real.std(0).clamp_min(real.std(0).mean() * SMALLEST_UNIT)
        self._real = real / self._unit
        away = [pairwise_distances(some, self._real) for some in self._real.split(CHUNK)]
        # The nearest is the image itself.
        nearest = [strip.kthvalue(NEIGHBOURS + 1, 1).values for strip in away]
        self._radius = torch.cat(nearest)
        self._test, features = self._read_rows(data.part("test")[0])
        for some in (real, features):
            require_finite("celeba", "what the judge sees in real images", some)
        self._radius *= self._reach(features).quantile(1 - REFUSED)

    def _reach(self, features: Tensor) -> Tensor:
        """By what the radii must be multiplied for a sphere to hold each of the features."""
        return torch.cat(
            [
                (pairwise_distances(some, self._real) / self._radius).min(1).values
                for some in (features / self._unit).split(CHUNK)
            ]
        )

    def _read_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        read = [self._read(self.data.load(some)) for some in rows.split(CHUNK)]
        logits, features = map(torch.cat, zip(*read, strict=True))
        return logits, features

    @torch.no_grad()
    def _read(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of a few images, in double precision on the CPU."""
        logits, features = self.reader.seen(z.to(next(self.reader.parameters())))
        return logits.double().cpu(), features.double().cpu()

    def judge(self, z: Tensor) -> Judged:
        """What images ``(n, 3, size, size)`` in [0, 1] show.

        *combination*: the most probable of those in the data. *distance*: to the nearest real
        image, between features, each in units of its standard deviation over the real images.
        *malformed*: outside the k-nearest-neighbour sphere of every real image in that distance
        (Kynkaanniemi et al. 2019, arXiv 1904.06991), all radii multiplied by the one factor with
        which one in a hundred images of the test split lies outside.
        """
        return Judged(*map(torch.cat, zip(*self._judged(z), strict=True)))

    def _judged(self, z: Tensor) -> Iterator[tuple[Tensor, ...]]:
        table = self.data.combinations
        for some in z.split(CHUNK):
            logits, features = self._read(some)
            # Of independent attributes log p(combination) is this and what all of them share.
            combination = (logits @ table.double().T).argmax(1)
            away = pairwise_distances(features / self._unit, self._real)
            outside = ~(away <= self._radius).any(1)
            yield combination, table[combination], away.min(1).values, outside

    def errors(self) -> pd.DataFrame:
        """On the test split, where the reader has seen nobody: one row an attribute.

        Columns: attribute, images, error (share read wrongly), present (share that has it).
        """
        shown = self.data.combinations[self.data.part("test")[1]].bool()
        wrong, present = (flags.double().mean(0) for flags in ((self._test > 0) != shown, shown))
        names = [present for _, present in self.data.values]
        told = {"attribute": names, "images": len(shown), "error": wrong, "present": present}
        return pd.DataFrame(told)
