"""What all worlds share: data with attributes, and a judge that measures what a sample shows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from gmmdiff.core.checks import indices, refuse, require, require_generator, whole

Split = Literal["train", "validation", "judge", "test"]


class Judged(NamedTuple):
    """What samples show, by a world's judge."""

    combination: Tensor  # (n,), the nearest one
    attributes: Tensor  # (n, m), its attributes
    distance: Tensor  # (n,), to the nearest sample without noise, in units of the data
    malformed: Tensor  # (n,) bool, a person would see it, see the world's judge


class World(ABC):
    """Data with attributes, and their judge.

    Attributes:
        values: the names of every attribute's values.
        combinations: ``(C, m)`` integers >= 0, the attributes of every combination.
        frequencies: ``(C,)``, summing to 1.
        shape: of one sample.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from gmmdiff import Faces, World, stream
        >>> world: World = Faces(attributes=2, generator=stream(0, "faces"))
        >>> batches = DataLoader(world.dataset(100, stream(0, "data")), batch_size=50)
        >>> [(x.shape, attributes.shape) for x, attributes in batches][0]
        (torch.Size([50, 16, 16]), torch.Size([50, 2]))
    """

    values: Sequence[Sequence[str]]
    combinations: Tensor
    frequencies: Tensor
    shape: tuple[int, ...]

    @abstractmethod
    def sample(
        self, combination: Tensor, generator: torch.Generator, split: Split = "train"
    ) -> Tensor:
        """One sample for each combination: ``(n,)`` -> ``(n, *shape)``.

        Args:
            split: where data are real, which of four disjoint parts they come from.
        """

    @abstractmethod
    def judge(self, z: Tensor) -> Judged:
        """What samples ``(n, *shape)`` show."""

    @abstractmethod
    def distance(self, z: Tensor, combination: Tensor) -> Tensor:
        """Of samples ``(n, *shape)`` to the nearest one of their combinations ``(n,)``, without
        noise: ``(n,)``.
        """

    def clean(self, z: Tensor, combination: Tensor) -> Tensor:
        """The nearest samples without noise of combinations ``(n,)`` to samples ``(n, *shape)``:
        like z.  Where data are real, the samples themselves.
        """
        return z

    @property
    def spacing(self) -> float:
        """How far apart the two combinations most alike are, between samples without noise: what
        lies farther from every such sample is malformed.

        Raises:
            ValueError: where it is not known, as of real data.
        """
        refuse(type(self).__name__, "spacing", "of a world of known samples without noise", "none")

    def describe(self, combination: int) -> str:
        """A combination in words, e.g. "hair, glasses, serious, shaved"."""
        pairs = zip(self.values, self.combinations[combination].tolist(), strict=False)
        return ", ".join(values[index] for values, index in pairs)

    def sample_combinations(
        self, n: int, generator: torch.Generator, allowed: Tensor | None = None
    ) -> Tensor:
        """``(n,)`` combinations by frequency, of the ``allowed`` ones where they are given.

        Raises:
            ValueError: on n < 1, or when ``allowed`` is empty.
        """
        name = type(self).__name__
        owner, weights = f"{name}.sample_combinations", self.frequencies
        n = whole(owner, "n", n, 1)
        require_generator(owner, generator)
        if allowed is not None:
            allowed = indices(owner, "allowed", allowed, len(weights))
            known = f"at least one of 0..{len(weights) - 1}"
            require(len(allowed) > 0, name, "allowed combinations", known, "none")
            weights = torch.zeros_like(weights).index_put((allowed,), weights[allowed])
        return torch.multinomial(weights, n, replacement=True, generator=generator)

    def dataset(self, n: int, generator: torch.Generator) -> TensorDataset:
        """n samples by frequency, each with its attributes ``(m,)``, for any ``DataLoader``."""
        combination = self.sample_combinations(n, generator)
        return TensorDataset(self.sample(combination, generator), self.combinations[combination])


def zipf(count: int, generator: torch.Generator, exponent: float = 1.0) -> Tensor:
    """Zipf's law over ``count`` combinations, ranks shuffled: ``(count,)``, summing to 1.

    Args:
        exponent: >= 0 (0: all alike).
    """
    rank = torch.randperm(count, generator=generator).double() + 1
    return rank**-exponent / (rank**-exponent).sum()
