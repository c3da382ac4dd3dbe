"""The two arms: the U-Net of ``gmmdiff.study.unet`` with conditions by features or by classes."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import normalize

from gmmdiff.core.checks import require
from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.streams import stream
from gmmdiff.study.unet.networks import DISCRETE, DDPMScheduler, denoising_loss, unet
from gmmdiff.study.unet.sampling import sample
from gmmdiff.worlds.celeba import CelebA

CENTRE = 0.5  # of the images' range
MEASURED = 1000  # training images, at most, of which the spread about it is taken


class Arm:
    """One arm's conditions and network for one seed, and what it needs of the data.

    Both arms' conditions are as many tokens as there are attributes, with means of norm
    sqrt(dim), fixed; the scale of the components is, in either arm, ``s_c`` times the smallest
    distance of two of the *feature* arm's conditions.

    Args:
        granularity: "feature" or "class".
        widths, layers: of the U-Net, see ``unet``. dim: of a token.

    Raises:
        ValueError: on another granularity.
    """

    def __init__(
        self,
        data: CelebA,
        granularity: str,
        s_c: float,
        seed: int,
        dim: int,
        widths: list[int],
        layers: int,
    ) -> None:
        allowed = '"feature" or "class"'
        require(granularity in ("feature", "class"), "Arm", "granularity", allowed, granularity)
        self.data, self.granularity, self.seed = data, granularity, seed
        count, tokens = data.combinations.shape
        features, drawn = granularity == "feature", stream(seed, "condition means")
        values, classes = (
            dim**0.5 * normalize(torch.randn(shape, generator=drawn), dim=-1)
            for shape in ((2 * tokens, dim), (count, tokens, dim))
        )
        # Conditions that differ in one attribute are the nearest.
        gap = float((values[::2] - values[1::2]).norm(dim=1).min())
        means, counts = (values, [2] * tokens) if features else (classes, None)
        self.conditioning = GaussianMixtureConditioning(means, s_c * gap, counts=counts)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, "weights").initial_seed())
            self.network = unet(data.shape[-1], dim, data.shape[0], widths, layers)
        self._schedule = DDPMScheduler(**DISCRETE)

    @cached_property
    def spread(self) -> float:
        """Of the training images about the middle of their range, root mean square."""
        rows, _ = self.data.part("train")
        some = rows[:: max(1, len(rows) // MEASURED)]
        return float((self.data.load(some) - CENTRE).square().mean().sqrt())

    def tokens(self, combination: Tensor, generator: torch.Generator) -> Tensor:
        """One condition drawn for each of the combinations ``(n,)``: ``(n, tokens, dim)``."""
        shown = self.data.combinations[combination]
        index = shown if self.granularity == "feature" else combination
        return self.conditioning(index, generator=generator)

    def loss(
        self, network: Module, rows: Tensor, combination: Tensor, generator: torch.Generator
    ) -> Tensor:
        """As ``denoising_loss``, of training images by their rows and combinations ``(n,)``."""
        place = next(network.parameters()).device
        x_0 = ((self.data.load(rows) - CENTRE) / self.spread).to(place)
        tokens = self.tokens(combination, generator).to(place)
        return denoising_loss(network, x_0, tokens, self._schedule, generator)

    def generate(
        self, network: Module, combination: Tensor, evaluations: int, chunk: int
    ) -> Tensor:
        """One image for each of the combinations ``(n,)``: ``(n, 3, size, size)`` in [0, 1].

        Args:
            network: trained, in evaluation mode; of one that diverged the images are NaN.
            evaluations: of the network, for one image. chunk: images made at once.

        Raises:
            ValueError: where another one's images are not finite.
        """
        if not all(weight.isfinite().all() for weight in network.parameters()):
            return torch.full((len(combination), *self.data.shape), torch.nan)
        place, made = next(network.parameters()).device, []
        noise, blur = (stream(self.seed, f"generation{of}") for of in ("", " condition"))
        for some in combination.split(chunk):
            tokens = self.tokens(some, blur).to(place)
            null = self.conditioning.null.to(place)
            made.append(sample(network, tokens, null, noise, steps=evaluations).cpu())
        return (torch.cat(made) * self.spread + CENTRE).clamp(0, 1)
