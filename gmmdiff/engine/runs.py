"""Run tables, and what a run is made of: its data, its conditioning and its streams."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from gmmdiff.core.checks import refuse, require
from gmmdiff.core.diffusion import CosineSchedule, diffuse, dpmpp_2m
from gmmdiff.core.streams import stream
from gmmdiff.engine.arms import Conditioning
from gmmdiff.engine.networks import (
    StackedMLP,
    features_first,
    gather_rows,
    layer_sizes,
    with_time_features,
)
from gmmdiff.worlds.world import Copies, Split, World

COLUMNS = ("granularity", "s_c", "n_train", "learning_rate", "steps", "seed")
BATCHES_AT_ONCE = 20  # steps whose batches are drawn at once: few calls, and memory used again
# The sampler's last time before 0: one prediction of x_0 takes the rest of the noise away.
LAST_TIME = 0.15
FAR = 1e6  # a coordinate that no data come near
RARE_AT_MOST = 5  # training samples of a combination that is rare
TRIES = 1000  # to hold combinations out
Progress = Callable[..., tqdm]
SCHEDULE = CosineSchedule()


@dataclass(frozen=True)
class TrainingSettings:
    """What all runs of a table share."""

    world: Callable[..., World]  # makes the world of a seed: world(generator=...)
    held_out: int = 2  # combinations left out of training
    rare: int = 0  # how many of the least frequent seen combinations count as rare; 0: few samples
    width: int = 128  # of the hidden layers
    hidden: int = 3  # hidden layers
    classifier_width: int = 64  # of the hidden layers of a classifier
    batch: int = 128
    ema: float = 0.999  # decay of the weights' moving average, a step
    evaluations: int = 20  # of the network, for one sample
    n_eval: int = 128  # samples of each combination
    validation: int = 512  # fresh samples whose v-loss chooses the weights that are kept
    checkpoints: tuple[int, ...] = ()  # steps after which the moving average is kept as well
    centre: float = 0.0  # of the data, taken out of every coordinate
    # Root mean square of the points the network sees: the larger, the later noise hides what is
    # fine; of many pixels together little is hidden.
    size: float = 2.0


def run_table(
    granularity: Sequence[str],
    s_c: Sequence[float],
    n_train: Sequence[int],
    learning_rate: Sequence[float],
    steps: Sequence[int],
    seeds: int,
    first_seed: int = 0,
) -> pd.DataFrame:
    """Every combination of the factors, with each of ``seeds`` seeds.

    Raises:
        ValueError: on an empty factor or fewer than one seed.
    """
    require(seeds >= 1, "run_table", "seeds", ">= 1", seeds)
    numbers = range(first_seed, first_seed + seeds)
    factors = (granularity, s_c, n_train, learning_rate, steps, numbers)
    for name, levels in zip(COLUMNS, factors, strict=True):
        require(len(levels) > 0, "run_table", name, "at least one level", "none")
    return pd.DataFrame(list(itertools.product(*factors)), columns=list(COLUMNS))


class SeedData:
    """What every arm of one seed shares: the world, which combinations are held out, samples.

    Attributes:
        held_out: combinations left out of training, each of whose attribute values others show; a
            ValueError where so many are that none do.
        seen: the others, the most frequent first.
    """

    def __init__(self, seed: int, settings: TrainingSettings) -> None:
        self.seed, self.settings = seed, settings
        self.world = settings.world(generator=stream(seed, "manifold"))
        self._data: dict[int, tuple[Tensor, Tensor, float]] = {}
        combinations, generator = self.world.combinations, stream(seed, "held out")
        every = [len(column.unique()) for column in combinations.T]
        for _ in range(TRIES):
            shuffled = torch.randperm(len(combinations), generator=generator)
            self.held_out, seen = shuffled[: settings.held_out], shuffled[settings.held_out :]
            if [len(column.unique()) for column in combinations[seen].T] == every:
                break
        else:
            allowed = "so few that others show every value of every attribute"
            refuse("seed data", "held_out", allowed, settings.held_out)
        self.seen = seen[self.world.frequencies[seen].argsort(descending=True)]

    def combinations(self, n_train: int) -> Tensor:
        """The combinations ``(n_train,)`` of the training points."""
        generator = stream(self.seed, f"data {n_train}")
        return self.world.sample_combinations(n_train, generator, self.seen)

    def points(self, n: int, name: str, split: Split = "train") -> tuple[Tensor, Tensor]:
        """n samples ``(n, D)`` of seen combinations and these ``(n,)``, one draw a name."""
        generator = stream(self.seed, name)
        combination = self.world.sample_combinations(n, generator, self.seen)
        return self.world.sample(combination, generator, split).flatten(1), combination

    def training_points(self, n_train: int) -> tuple[Tensor, Tensor]:
        """The training samples ``(n_train, D)`` as the world gives them, and their combinations."""
        return self.points(n_train, f"data {n_train}")

    def data(self, n_train: int) -> tuple[Tensor, Tensor, float]:
        """Training points ``(n, D)`` as a network sees them, less ``centre`` and of ``size``, their
        combinations ``(n,)``, and the scale taken out.
        """
        if n_train not in self._data:
            points, combination = self.training_points(n_train)
            points = points - self.settings.centre
            scale = float(points.square().mean().sqrt()) / self.settings.size
            self._data[n_train] = (points / scale).float(), combination, scale
        return self._data[n_train]

    def copies(self, n_train: int) -> Copies:
        """Which samples repeat one of the training points."""
        points, combination = self.training_points(n_train)
        z, fresh = points.unflatten(1, self.world.shape), stream(self.seed, f"copies {n_train}")
        return Copies(self.world, z, combination, fresh)

    def groups(self, combination: Tensor) -> list[str]:
        """The group of every combination, given those of the training points ``(n,)``."""
        counts = combination.bincount(minlength=len(self.world.combinations))
        rare = (counts > 0) & (counts <= RARE_AT_MOST)
        if self.settings.rare:
            rare = torch.zeros_like(rare).index_fill(0, self.seen[-self.settings.rare :], True)
        absent = ["held out" if c in self.held_out else "unseen" for c in range(len(counts))]
        present = ["rare" if one else "frequent" for one in rare]
        return [one if n else none for n, one, none in zip(counts, present, absent, strict=True)]


class Batches(NamedTuple):
    """Noisy points, the same for all arms of a seed; in memory features come first."""

    index: Tensor  # (batches, batch), which points of the data
    combination: Tensor  # (batches, batch), theirs
    noisy: Tensor  # (batches, batch, D + TIME_FEATURES), x_t and features of its time
    target: Tensor  # (batches, batch, D), x_0, which the network predicts
    weight: Tensor  # (batches, batch, 1), of its squared error in the v-loss
    condition_noise: Tensor  # (batches, batch, C), standard normal


class Run:
    """One row of the table: its data, its conditioning and its streams.

    Attributes:
        data_key: runs of one key have the same data and the same batches.
        dimension: D of the data.
        sizes: widths of its denoiser.
    """

    def __init__(
        self, row: tuple, settings: TrainingSettings, seed_data: SeedData | None = None
    ) -> None:
        self.row, self.settings, self.data_key = row, settings, (row.seed, row.n_train)
        self.seed_data = seed_data or SeedData(row.seed, settings)
        world, means = self.seed_data.world, stream(row.seed, "condition means")
        arm = row.granularity, row.s_c, world.combinations, means, self.seed_data.seen
        self.conditioning = Conditioning(*arm)
        self.means, self.dimension = self.conditioning.means.float(), math.prod(world.shape)
        inputs = self.dimension + self.conditioning.dim
        self.sizes = layer_sizes(inputs, settings.width, settings.hidden, self.dimension)

    @property
    def data(self) -> tuple[Tensor, Tensor, float]:
        """As ``SeedData.data``."""
        return self.seed_data.data(self.row.n_train)

    @property
    def range(self) -> tuple[float, float]:
        """The least and greatest coordinate of the training points, as the network sees them."""
        least, most = self.data[0].aminmax()
        return float(least), float(most)

    def draw(
        self,
        points: Tensor,
        combinations: Tensor,
        shape: tuple[int, int],
        generator: torch.Generator,
        of_conditions: torch.Generator,
    ) -> Batches:
        """Batches ``shape`` of points ``(n, D)`` with combinations ``(n,)``, with replacement.

        Times lie where the samplers ask, in [LAST_TIME, 1], stratified over the batch (Kingma et
        al. 2021, arXiv 2107.00630, appendix I.1), and little noise, where precision is won, comes
        more often.  The v-loss of a predicted x_0 is its squared error over sigma^2: |v_hat - v|^2
        = |x_0_hat - x_0|^2 / sigma^2 at one x_t (Li & He 2025, arXiv 2511.13720).
        """
        index = torch.randint(len(points), shape, generator=generator)
        even = (torch.arange(shape[1]) + torch.rand(shape, generator=generator)) / shape[1]
        t = LAST_TIME + (1 - LAST_TIME) * even**1.5
        noise = features_first(torch.randn(*shape, self.dimension, generator=generator))
        condition = torch.randn(*shape, self.conditioning.dim, generator=of_conditions)
        x_0 = gather_rows(points, index)
        alpha, sigma = SCHEDULE.alpha(t).unsqueeze(-1), SCHEDULE.sigma(t).unsqueeze(-1)
        noisy = with_time_features(diffuse(x_0, noise, alpha, sigma), t)
        combination = combinations[index]
        return Batches(index, combination, noisy, x_0, sigma**-2, features_first(condition))

    def batches(self) -> Iterator[Batches]:
        """For ever, ``BATCHES_AT_ONCE`` at a time: what a seed's arms of one n_train train on."""
        shape, (points, combinations, _) = (BATCHES_AT_ONCE, self.settings.batch), self.data
        streams = stream(self.row.seed, "batches"), stream(self.row.seed, "condition")
        while True:
            yield self.draw(points, combinations, shape, *streams)

    def scaled(self, n: int, name: str, split: Split = "train") -> tuple[Tensor, Tensor]:
        """n fresh points ``(n, D)`` as the network sees data, and their combinations ``(n,)``."""
        points, combinations = self.seed_data.points(n, name, split)
        return ((points - self.settings.centre) / self.data[2]).float(), combinations

    def validation(self) -> Batches:
        """One batch of fresh samples of the validation split, the same for a seed's arms."""
        size = self.settings.validation
        streams = (stream(self.row.seed, f"validation {name}") for name in ("batch", "condition"))
        return self.draw(*self.scaled(size, "validation", "validation"), (1, size), *streams)

    def inputs(self, batches: Batches) -> tuple[Tensor, Tensor]:
        """What the denoiser sees, side by side: noisy points with their times, and this arm's
        conditions, each ``(batches, batch, features)``.
        """
        condition = gather_rows(self.means, batches.combination)
        if self.conditioning.scale > 0:
            condition.add_(batches.condition_noise, alpha=self.conditioning.scale)
        return batches.noisy, condition

    def predict(self, parameters: Tensor, condition: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The denoiser of weights ``(count,)``, with conditions ``(n, C)``, as samplers want it.

        What it predicts is clipped to the range of the training data, as Ho et al. (2020, arXiv
        2006.11239) do: far from all it has seen, a network's error would else feed on itself.
        """
        network, range_of_data = StackedMLP(self.sizes, parameters.unsqueeze(0)), self.range

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            noisy = with_time_features(x_t, t.expand(len(x_t)))
            x_0 = network.forward(torch.cat([noisy, condition], -1).unsqueeze(0)).squeeze(0)
            return x_0.clamp(*range_of_data)

        return denoise

    def generate(
        self,
        parameters: Tensor,
        combination: Tensor,
        steps: int,
        sampler: Callable = dpmpp_2m,
        at_mean: bool = False,
    ) -> Tensor:
        """One sample a combination ``(n,)``, in ``steps`` >= 2 network evaluations: ``(n, D)``.

        Its condition is drawn, as in training, or its component's mean.  What is not finite, where
        a run diverged, comes out at +-``FAR``.
        """
        noise = stream(self.row.seed, "generation")
        start = torch.randn(len(combination), self.dimension, generator=noise)
        condition = self.means[combination]
        if not at_mean:
            of_conditions = stream(self.row.seed, "generation condition")
            condition = self.conditioning.sample(combination, of_conditions).float()
        denoise = self.predict(parameters, condition)
        times = torch.cat([SCHEDULE.even_times(steps - 1, end=LAST_TIME).float(), torch.zeros(1)])
        z = self.data[2] * sampler(denoise, start, times, SCHEDULE, "sample", noise)
        z = z + self.settings.centre
        return z.nan_to_num(FAR, FAR, -FAR).clamp(-FAR, FAR)
