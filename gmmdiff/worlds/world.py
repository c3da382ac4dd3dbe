"""What all worlds share: data with attributes and their judge, defects and copies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from gmmdiff.core.checks import indices, refuse, require, require_generator, require_shape, whole
from gmmdiff.core.distances import pairwise_distances

Split = Literal["train", "validation", "judge", "test"]
RANK, ONE_IN = 2, 100  # fresh samples: the 2nd nearest of 199 is nearer than one in a hundred is


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
        """From samples ``(n, *shape)`` to the nearest without noise of combinations ``(n,)``."""

    def clean(self, z: Tensor, combination: Tensor) -> Tensor:
        """The nearest samples without noise, shaped as z; where data are real, z itself."""
        return z

    @property
    def spacing(self) -> float:
        """The least distance of two combinations' samples without noise: what lies farther from
        every such sample is malformed.  Real data have none (ValueError).
        """
        refuse(type(self).__name__, "spacing", "of a world of known samples without noise", "none")

    def describe(self, combination: int) -> str:
        """A combination in words, e.g. "hair, glasses, serious, shaved"."""
        pairs = zip(self.values, self.combinations[combination].tolist(), strict=False)
        return ", ".join(values[index] for values, index in pairs)

    def sample_combinations(
        self, n: int, generator: torch.Generator, allowed: Tensor | None = None
    ) -> Tensor:
        """``(n,)`` combinations by frequency, of the ``allowed`` where they are given.

        Raises:
            ValueError: on n < 1, or when ``allowed`` is empty.
        """
        owner, weights = f"{type(self).__name__}.sample_combinations", self.frequencies
        n = whole(owner, "n", n, 1)
        require_generator(owner, generator)
        if allowed is not None:
            allowed = indices(owner, "allowed", allowed, len(weights))
            require(len(allowed) > 0, owner, "allowed", "at least one combination", "none")
            weights = torch.zeros_like(weights).index_put((allowed,), weights[allowed])
        return torch.multinomial(weights, n, replacement=True, generator=generator)

    def dataset(self, n: int, generator: torch.Generator) -> TensorDataset:
        """n samples by frequency, each with its attributes ``(m,)``, for any ``DataLoader``."""
        combination = self.sample_combinations(n, generator)
        return TensorDataset(self.sample(combination, generator), self.combinations[combination])


def zipf(count: int, generator: torch.Generator) -> Tensor:
    """Zipf's law over ``count`` combinations, ranks shuffled: ``(count,)``, summing to 1."""
    rank = torch.randperm(count, generator=generator).double() + 1
    return rank**-1.0 / (rank**-1.0).sum()


class Defects(NamedTuple):
    """One flag a sample, ``(n,)`` bool each."""

    wrong: Tensor  # shows nothing that the condition admits
    malformed: Tensor  # see the world's judge
    defect: Tensor  # either


def find_defects(
    shown: Tensor, malformed: Tensor, combination: Tensor, admitted: Tensor
) -> Defects:
    """Flags samples by what they show.

    Args:
        shown, malformed: ``(n,)``, of ``World.judge``.
        combination: ``(n,)`` in 0..C - 1, that which was asked for.
        admitted: ``(C, C)``, as in ``Conditioning``.

    Raises:
        ValueError: on other shapes.

    Example:
        >>> import torch
        >>> from gmmdiff import find_defects
        >>> shown, malformed, combination = [0, 1, 2], [False, False, True], [0, 0, 2]
        >>> find_defects(shown, malformed, combination, torch.eye(3)).defect
        tensor([False,  True,  True])
    """
    owner = "find_defects"
    admitted, malformed = (torch.as_tensor(value).bool() for value in (admitted, malformed))
    count = len(admitted)
    require_shape(owner, "admitted", admitted, count, count)
    combination = indices(owner, "combination", combination, count)
    shown = indices(owner, "shown", shown, count)
    require_shape(owner, "shown", shown, len(combination))
    require_shape(owner, "malformed", malformed, len(combination))
    wrong = ~admitted[combination, shown]
    return Defects(wrong, malformed, wrong | malformed)


class Copies:
    """Which samples are copies of training samples: nearer than one in a hundred fresh ones is.

    Compared are the clean versions (``World.clean``), so that noise counts neither for a copy nor
    against it.  Each combination has a threshold of its own: the RANK-th smallest of the distances
    at which 100 RANK - 1 fresh samples of the test split lie from the nearest training sample.  As
    all ranks are equally probable, a new sample stays below it with probability 1/100 exactly.

    Args:
        z, combination: ``(n, *shape)`` and ``(n,)``, the training samples.
        generator: draws the fresh samples.

    Attributes:
        thresholds: ``(C,)``, 0 where a combination has no training sample.

    Raises:
        ValueError: on other shapes, or a combination that is not there.

    Example:
        >>> from gmmdiff import Copies, Faces, stream
        >>> world = Faces(attributes=2, generator=stream(0, "faces"))
        >>> combination = [0, 0, 1]
        >>> z = world.sample(combination, stream(0, "data"))
        >>> copies = Copies(world, z, combination, stream(0, "fresh"))
        >>> copies(z, combination), copies(z[:1], [3])
        (tensor([True, True, True]), tensor([False]))
    """

    def __init__(
        self, world: World, z: Tensor, combination: Tensor, generator: torch.Generator
    ) -> None:
        require_generator("Copies", generator)
        self._world, count = world, len(world.combinations)
        combination = self._given(z, combination)
        rows = combination.argsort(stable=True)
        sizes = combination.bincount(minlength=count).tolist()
        own = world.clean(z, combination).flatten(1)[rows]
        self._clean, self._rows = own.split(sizes), rows.split(sizes)  # by combination
        present = combination.unique()
        fresh = present.repeat_interleave(ONE_IN * RANK - 1)
        distance, _ = self.nearest(world.sample(fresh, generator, "test"), fresh)
        ranked = distance.unflatten(0, (-1, ONE_IN * RANK - 1)).kthvalue(RANK, 1).values
        self.thresholds = ranked.new_zeros(count).index_put((present,), ranked)

    def __call__(self, z: Tensor, shown: Tensor) -> Tensor:
        """Whether samples are copies: ``(n,)`` bool; arguments as ``nearest``."""
        distance, index = self.nearest(z, shown)
        return (index >= 0) & (distance < self.thresholds[torch.as_tensor(shown).long()])

    def nearest(self, z: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest training sample of the combination that each sample ``(n, *shape)`` shows.

        Args:
            shown: ``(n,)``, of ``World.judge``.

        Returns:
            The distance between the clean versions and the number of the training sample, ``(n,)``
            each; infinity and -1 where the combination has none.
        """
        shown = self._given(z, shown)
        clean = self._world.clean(z, shown).flatten(1)
        distance = clean.new_full((len(shown),), torch.inf)
        index = torch.full_like(shown, -1)
        for c in shown.unique().tolist():
            if len(self._rows[c]):
                asked = shown == c
                near = pairwise_distances(clean[asked], self._clean[c].to(clean)).min(1)
                distance[asked], index[asked] = near.values, self._rows[c][near.indices]
        return distance, index

    def _given(self, z: Tensor, combination: Tensor) -> Tensor:
        """The combinations ``(n,)`` of samples, where their shapes go together."""
        combination = indices("Copies", "combination", combination, len(self._world.combinations))
        require_shape("Copies", "z", z, len(combination), *self._world.shape)
        return combination
