"""Run table -> trained runs -> tidy results.

A run table is a DataFrame with one row a run and ``COLUMNS`` as columns.  Rows train in blocks, each block
as one batched program; blocks go side by side to as many threads as torch has, with one thread inside each,
so no result depends on the block, the order or the number of threads (at widths and batches of multiples of 16;
others the library's products may round by company).  Everything a run draws comes from streams named by its seed:
arms of one seed share manifold, data, noise and starting weights, which is what pairs them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from gmmdiff.checks import require
from gmmdiff.conditioning import Conditioning
from gmmdiff.defects import find_defects
from gmmdiff.diffusion import CosineSchedule, diffuse, dpmpp_2m, velocity
from gmmdiff.distances import energy_distance
from gmmdiff.manifolds import AttributeManifold
from gmmdiff.networks import StackedMLP, denoiser_sizes, features_first, picked, timed
from gmmdiff.parallel import Tick, Workers, side_by_side
from gmmdiff.stability import GradientNorms
from gmmdiff.streams import stream

COLUMNS = ("granularity", "s_c", "n_train", "learning_rate", "steps", "seed")
BLOCK = 2304  # hidden units over all rows of a block: few calls, and the caches still hold them; the fastest of 1700 to 5100 measured
GPU_BLOCK = 196608  # the same on a GPU: as many as its memory holds with ease
ADAM = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False}
PREPARED = 50  # steps whose batches are drawn at once
REGISTER = 16  # numbers: every run begins a vector register anew, since Adam rounds a shorter rest differently
SIZE = 2.0  # root mean square of the points the network sees: the larger, the later noise hides what is fine
LAST = 0.12  # the sampler's last time before 0: one prediction of x_0 takes the rest of the noise away
FAR = 1e6  # a coordinate that no arc comes near
Progress = Callable[..., tqdm]
SCHEDULE = CosineSchedule()


@dataclass(frozen=True)
class Recipe:
    """What all runs of a table share."""

    dimension: int = 8  # D of the manifold
    held_out: int = 2  # combinations left out of training
    rare: int = 4  # how many of the least frequent seen combinations count as rare
    width: int = 128  # of the hidden layers
    hidden: int = 3  # hidden layers
    batch: int = 128
    ema: float = 0.999  # decay of the weights' moving average, a step
    evaluations: int = 20  # of the network, for one sample
    n_eval: int = 128  # samples of each combination


def run_table(
    granularity: Sequence[str], s_c: Sequence[float], n_train: Sequence[int], learning_rate: Sequence[float],
    steps: Sequence[int], seeds: int, first_seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Every combination of the factors, with each of ``seeds`` seeds.

    Raises:
        ValueError: on an empty factor or fewer than one seed.
    """
    require(seeds >= 1, "run_table", "seeds", ">= 1", seeds)
    factors = (granularity, s_c, n_train, learning_rate, steps, range(first_seed, first_seed + seeds))
    for name, levels in zip(COLUMNS, factors, strict=True):
        require(len(levels) > 0, "run_table", name, "at least one level", "none")
    return pd.DataFrame(list(itertools.product(*factors)), columns=list(COLUMNS))


def choose(parts: dict[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """The run table called ``part``, of those of an experiment.

    Raises:
        ValueError: when there is none.
    """
    require(part in parts, "run tables", "part", f"one of {', '.join(parts)}", repr(part))
    return parts[part]


# ---- what a run is made of ----------------------------------------------------------------------------------


class World:
    """What every arm of one seed shares: the manifold, and which combinations are held out or rare."""

    def __init__(self, seed: int, recipe: Recipe) -> None:
        self.seed, self.recipe = seed, recipe
        self.manifold = AttributeManifold(recipe.dimension, stream(seed, "manifold"))
        shuffled = torch.randperm(16, generator=stream(seed, "held out"))
        self.held_out, seen = shuffled[: recipe.held_out], shuffled[recipe.held_out :]
        self.seen = seen[self.manifold.frequencies[seen].argsort(descending=True)]  # most frequent first
        self.rare = self.seen[-recipe.rare :]

    def points(self, n: int, name: str) -> tuple[Tensor, Tensor]:
        """n points ``(n, D)`` of the seen combinations by frequency, and their combinations ``(n,)``: one draw a name."""
        generator = stream(self.seed, name)
        combination = self.manifold.sample_combinations(n, generator, self.seen)
        return self.manifold.sample(combination, generator), combination

    def evaluate(self, z: Tensor, combination: Tensor, admitted: Tensor) -> pd.DataFrame:
        """Metrics of samples z ``(n, D)`` drawn for combinations ``(n,)``: one row a combination and metric.

        Columns: place (1 = the most frequent combination seen; held-out ones follow), group, metric, value.
        Shares of defects, and the energy distance to as many fresh points of the same combination.
        """
        z = z.double()
        flags = find_defects(self.manifold.distances(z), combination, admitted, self.manifold.tolerance())
        real = self.manifold.sample(combination, stream(self.seed, "reference"))
        rows = []
        for place, c in enumerate(torch.cat([self.seen, self.held_out]).tolist(), 1):
            mine = combination == c
            group = "held out" if place > len(self.seen) else "rare" if c in self.rare else "frequent"
            values = {name: float(flag[mine].double().mean()) for name, flag in flags._asdict().items()}
            values["energy_distance"] = energy_distance(z[mine], real[mine])
            rows += [{"place": place, "group": group, "metric": name, "value": value} for name, value in values.items()]
        return pd.DataFrame(rows)


class Draws(NamedTuple):
    """Batches of noisy points, ``PREPARED`` of them in training, alike for all arms; in memory features first."""

    index: Tensor  # (batches, batch), which points of the data
    t: Tensor  # (batches, batch)
    alpha: Tensor  # (batches, batch, 1), of the schedule at t, as sigma
    sigma: Tensor
    seen: Tensor  # (batches, batch, D + TIMES), noisy points and features of their times
    target: Tensor  # (batches, batch, D), v
    combination: Tensor  # (batches, batch)
    blur: Tensor  # (batches, batch, C), standard normal noise of the conditions


class Run:
    """One row of the table: its data, its conditioning and its streams."""

    def __init__(self, row: tuple, recipe: Recipe) -> None:
        self.row, self.recipe, self.drawn_as = row, recipe, (row.seed, row.n_train)
        self.world = World(row.seed, recipe)
        self.conditioning = Conditioning(
            row.granularity, row.s_c, self.world.manifold.combinations, stream(row.seed, "condition means")
        )
        self.means = self.conditioning.means.float()
        self.sizes = denoiser_sizes(recipe.dimension, self.conditioning.dim, recipe.width, recipe.hidden)

    @cached_property
    def data(self) -> tuple[Tensor, Tensor, float]:
        """Training points of root mean square ``SIZE``, ``(n, D)`` float32; combinations ``(n,)``; the scale taken out."""
        points, combination = self.world.points(self.row.n_train, f"data {self.row.n_train}")
        scale = float(points.square().mean().sqrt()) / SIZE
        return (points / scale).float(), combination, scale

    def draw(
        self, points: Tensor, combinations: Tensor, shape: tuple[int, int], generator: torch.Generator, blurred: torch.Generator
    ) -> Draws:
        """Batches of points ``(n, D)`` with combinations ``(n,)``, drawn with replacement.

        Times lie where the samplers ask, in [LAST, 1], stratified over the batch (Kingma et al. 2021, arXiv
        2107.00630, appendix I.1) and cubed, so that little noise, where precision is won, comes more often.
        """
        index = torch.randint(len(points), shape, generator=generator)
        even = (torch.arange(shape[1]) + torch.rand(shape, generator=generator)) / shape[1]
        t = LAST + (1 - LAST) * even**3
        noise = features_first(torch.randn(*shape, self.recipe.dimension, generator=generator))
        blur = features_first(torch.randn(*shape, self.conditioning.dim, generator=blurred))
        x_0, alpha, sigma = picked(points, index), SCHEDULE.alpha(t).unsqueeze(-1), SCHEDULE.sigma(t).unsqueeze(-1)
        seen, target = timed(diffuse(x_0, noise, alpha, sigma), t), velocity(x_0, noise, alpha, sigma)
        return Draws(index, t, alpha, sigma, seen, target, combinations[index], blur)

    def draws(self) -> Iterator[Draws]:
        """For ever, ``PREPARED`` steps at a time: what all arms of one seed and n_train are trained on."""
        shape, (points, combinations, _) = (PREPARED, self.recipe.batch), self.data
        generator, blurred = stream(self.row.seed, "batches"), stream(self.row.seed, "condition")
        while True:
            yield self.draw(points, combinations, shape, generator, blurred)

    def inputs(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """What the denoiser sees of these draws, side by side: noisy points with their times, this arm's conditions."""
        condition = picked(self.means, draws.combination)
        if self.conditioning.scale > 0:
            condition.add_(draws.blur, alpha=self.conditioning.scale)
        return draws.seen, condition

    def predict(self, parameters: Tensor, condition: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The denoiser with these weights ``(parameters,)`` and conditions ``(n, C)``, as the samplers want it."""
        network = StackedMLP(self.sizes, parameters.unsqueeze(0))

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            seen = timed(x_t, t.expand(len(x_t)))
            return network.forward(torch.cat([seen, condition], -1).unsqueeze(0)).squeeze(0).clone()

        return denoise

    def generate(self, parameters: Tensor, combination: Tensor, steps: int, sampler: Callable = dpmpp_2m) -> Tensor:
        """One sample for each combination ``(n,)``, in ``steps`` >= 2 network evaluations: ``(n, D)``.

        What is not finite, from a run that diverged, comes out at +-``FAR``.
        """
        draws = stream(self.row.seed, "generation")
        condition = self.conditioning.sample(combination, stream(self.row.seed, "generation condition")).float()
        start = torch.randn(len(combination), self.recipe.dimension, generator=draws)
        denoise = self.predict(parameters, condition)
        times = torch.cat([SCHEDULE.even_times(steps - 1, end=LAST).float(), torch.zeros(1)])
        z = self.data[2] * sampler(denoise, start, times, SCHEDULE, "v", draws)
        return z.nan_to_num(FAR, FAR, -FAR).clamp(-FAR, FAR)


# ---- the engine ---------------------------------------------------------------------------------------------


class Program:
    """R runs of one shape that train together: what ``train_block`` steps through.

    Attributes:
        parameters, gradient: ``(runs, >= count)``, all networks of a run side by side, then zeros.
        count: parameters of one run.
        watched: the part of the gradient whose norm is measured, ``(runs, <= count)``.
    """

    columns: Sequence[str] = COLUMNS  # of its run table

    def __init__(self, runs: Sequence[Run], device: str) -> None:
        self.runs, self.device, shapes = runs, device, self.shapes(runs[0])
        initial = [[StackedMLP.initial(sizes, stream(run.row.seed, name)) for name, sizes in shapes.items()] for run in runs]
        counts = [StackedMLP.count(sizes) for sizes in shapes.values()]
        self.count = sum(counts)
        own = torch.stack([torch.cat(weights) for weights in initial])
        self.parameters = pad(own, (0, -self.count % REGISTER)).to(device)
        self.gradient = torch.zeros_like(self.parameters)
        views = (whole[:, : self.count].split(counts, 1) for whole in (self.parameters, self.gradient))
        parts = zip(shapes.values(), *views, strict=True)
        self.networks = [StackedMLP(*part) for part in parts]
        self.watched = self.networks[0].gradient
        self._first = {run.drawn_as: run for run in runs}
        self._sources = {run: run.draws() for run in self._first.values()}

    @staticmethod
    def shapes(run: Run) -> dict[str, Sequence[int]]:
        """The networks of a run: the stream of their starting weights -> sizes."""
        return {"weights": run.sizes}

    @classmethod
    def check(cls, table: pd.DataFrame, recipe: Recipe) -> None:
        """Refuses what cannot be trained, before any training.

        Raises:
            ValueError: on a missing or unknown column, no rows, or a value out of range.
        """
        owner, expected = "run table", f"exactly {', '.join(cls.columns)}"
        missing, unknown = set(cls.columns) - set(table.columns), set(table.columns) - set(cls.columns)
        require(not missing, owner, "columns", expected, f"none called {', '.join(sorted(missing))}")
        require(not unknown, owner, "columns", expected, f"also {', '.join(sorted(map(str, unknown)))}")
        require(len(table) > 0, owner, "rows", "at least one", "none")
        for name, least in (("s_c", 0), ("steps", 1)):
            require(bool((table[name] >= least).all()), owner, name, f">= {least}", table[name].min())
        require(bool((table["learning_rate"] > 0).all()), owner, "learning_rate", "> 0", table["learning_rate"].min())
        seen = 16 - recipe.held_out
        require(0 <= recipe.held_out < 16, owner, "held_out", "in 0 .. 15, so that one is left", recipe.held_out)
        require(1 <= recipe.rare <= seen, owner, "rare", f"in 1 .. {seen}, the combinations seen", recipe.rare)
        enough = bool((table["n_train"] >= seen).all())
        require(enough, owner, "n_train", f">= {seen}, the number of combinations seen", table["n_train"].min())
        for arm in table[["granularity", "s_c"]].drop_duplicates().itertuples(index=False):
            Conditioning(*arm, AttributeManifold(recipe.dimension, stream(0, "check")).combinations, stream(0, "check"))

    def stack(self, of: Callable[[Run, Draws], Sequence[Tensor]], drawn: Sequence[Draws]) -> Tensor:
        """What ``of`` makes of each run's draws, parts ``(batches, batch, ...)`` side by side: ``(batches, runs, batch, features)``."""
        parts = [part.mT for run, draws in zip(self.runs, drawn, strict=True) for part in of(run, draws)]
        return torch.cat(parts, 1).unflatten(1, (len(self.runs), -1)).to(self.device).mT

    def shared(self, of: Callable[[Run], Any]) -> list:
        """What ``of`` makes of every run, made once for arms of one seed and n_train."""
        made = {key: of(run) for key, run in self._first.items()}
        return [made[run.drawn_as] for run in self.runs]

    def next_draws(self) -> list[Draws]:
        """The next ``PREPARED`` batches of every run."""
        return self.shared(lambda run: next(self._sources[run]))

    def prepare(self, drawn: Sequence[Draws]) -> None:
        """Takes in the batches of the next ``PREPARED`` steps."""
        self.inputs = self.stack(Run.inputs, drawn).unbind()
        self.targets = self.stack(lambda _, draws: [draws.target], drawn).unbind()

    def step(self, number: int) -> Tensor:
        """Fills ``gradient`` on batch ``number`` of those prepared; the v-loss ``(runs,)``."""
        (denoiser,) = self.networks
        difference = denoiser.forward(self.inputs[number]) - self.targets[number]
        denoiser.backward(difference * (2 / difference[0].numel()))
        return difference.square().mean((1, 2))


class Trained(NamedTuple):
    """What a block of runs ends with."""

    parameters: Tensor  # (runs, count), the moving average, on the CPU
    losses: Tensor  # (runs, blocks), mean loss of each PREPARED steps, the last block perhaps shorter
    norms: Tensor  # (runs, blocks), largest gradient norm of each PREPARED steps
    spike_rate: Tensor  # (runs,), see GradientNorms
    variation: Tensor  # (runs,), see GradientNorms
    diverged: Tensor  # (runs,) True where a weight is not finite


def train_block(program: Program, tick: Tick = lambda n: None) -> Trained:
    """Trains runs of one shape and number of steps together: Adam (Kingma & Ba 2015, arXiv 1412.6980), cosine decay, moving average.

    A run that diverges keeps its NaN to itself, since no operation mixes runs.

    Args:
        tick: told the number of run-steps done since the last call.
    """
    rows, recipe = [run.row for run in program.runs], program.runs[0].recipe
    parameters, steps = program.parameters, rows[0].steps
    average, moments, done = parameters.clone(), parameters.new_zeros(2, *parameters.shape), parameters.new_zeros(())
    alike = [(rate, len(list(same))) for rate, same in itertools.groupby(row.learning_rate for row in rows)]
    parts = [whole.split([count for _, count in alike]) for whole in (parameters, program.gradient, *moments)]
    groups = [(rate, [[part] for part in group]) for (rate, _), *group in zip(alike, *parts, strict=True)]
    watch, losses, largest = GradientNorms(len(rows), steps), [], []
    for first in range(0, steps, PREPARED):
        count = min(PREPARED, steps - first)
        loss, norms = parameters.new_zeros(len(rows)), parameters.new_empty(count, len(rows))
        with torch.inference_mode():  # half the time of a small operation is autograd's
            program.prepare(program.next_draws())
            for number, norm in enumerate(norms):
                loss += program.step(number)
                torch.linalg.vector_norm(program.watched, dim=1, out=norm)
                done += 1
                decay = (1 + math.cos(math.pi * (first + number) / steps)) / 2
                for rate, (p, g, m, v) in groups:
                    torch._fused_adam_(p, g, m, v, [], [done], lr=rate * decay, **ADAM)
                average.lerp_(parameters, 1 - recipe.ema)
        watch.update(norms.T.cpu())
        losses.append(loss.cpu() / count)
        largest.append(norms.cpu().amax(0))
        tick(count * len(rows))
    diverged = ~parameters.isfinite().all(1)
    return Trained(
        average.cpu()[:, : program.count], torch.stack(losses, 1), torch.stack(largest, 1), watch.spike_rate, watch.variation, diverged.cpu()
    )


def block_rows(recipe: Recipe, device: str = "cpu") -> int:
    """Rows that train together at most."""
    return max(1, (BLOCK if device == "cpu" else GPU_BLOCK) // (recipe.width * recipe.hidden))


def blocks_of(table: pd.DataFrame, recipe: Recipe, device: str = "cpu") -> list[list[int]]:
    """Row numbers in blocks of one number of steps that train together; arms that share their draws stay together.

    Blocks of one length differ by a row at most, and each thread gets as many; the longest come first.
    """
    size, threads = block_rows(recipe, device), torch.get_num_threads() if device == "cpu" else 1
    ordered = table.reset_index(drop=True).sort_values(["seed", "n_train"], kind="stable")
    found: list[list[int]] = []
    for steps in sorted(table["steps"].unique(), reverse=True):
        rows = ordered.index[ordered["steps"] == steps]
        count = min(len(rows), threads * math.ceil(len(rows) / (threads * size)))
        found += [block.tolist() for block in np.array_split(rows, count)]
    return found


def _train_rows(rows: pd.DataFrame, tick: Tick, recipe: Recipe, device: str, program: type[Program]) -> Trained:
    return train_block(program([Run(row, recipe) for row in rows.itertuples(index=False)], device), tick)


def train(
    table: pd.DataFrame, recipe: Recipe, device: str = "cpu", progress: Progress | None = None, program: type[Program] = Program,
    workers: Workers = side_by_side,
) -> Trained:  # fmt: skip
    """Trains every row of a run table; results in the table's order (by blocks of steps: padded with NaN to the longest).

    Raises:
        ValueError: on a bad table (see ``Program.check``).
    """
    program.check(table, recipe)
    progress = progress or partial(tqdm, disable=True)
    blocks = blocks_of(table, recipe, device)
    total = int(table["steps"].sum())
    with progress(total=total, desc=f"training {len(table)} runs", unit="steps", unit_scale=True) as bar:
        function = partial(_train_rows, recipe=recipe, device=device, program=program)
        done = workers(function, [table.iloc[block] for block in blocks], bar.update)
    order = torch.tensor([i for block in blocks for i in block]).argsort()
    wholes = []
    for parts in zip(*done, strict=True):
        longest = max(part.shape[-1] for part in parts)
        same = parts if parts[0].ndim == 1 else [pad(part, (0, longest - part.shape[1]), value=torch.nan) for part in parts]
        wholes.append(torch.cat(same)[order])
    return Trained(*wholes)


# ---- what the runs are worth --------------------------------------------------------------------------------


def _tidy(row: tuple, metrics: pd.DataFrame) -> pd.DataFrame:
    return metrics.assign(**row._asdict())[[*row._fields, *metrics.columns]]


def run_by_run(table: pd.DataFrame, trained: Trained) -> list[tuple[pd.DataFrame, Tensor]]:
    """One job a run: its row as a table, its weights as a tensor of their own."""
    return [(table.iloc[[i]], parameters.clone()) for i, parameters in enumerate(trained.parameters)]


def _measure(
    job: tuple[pd.DataFrame, Tensor], tick: Tick, recipe: Recipe, sampler: Callable, evaluations: int
) -> pd.DataFrame:
    rows, parameters = job
    (row,) = rows.itertuples(index=False)
    run, combination = Run(row, recipe), torch.arange(16).repeat_interleave(recipe.n_eval)
    z = run.generate(parameters, combination, evaluations, sampler)
    tick(1)
    return _tidy(row, run.world.evaluate(z, combination, run.conditioning.admitted))


def evaluate(
    table: pd.DataFrame, trained: Trained, recipe: Recipe, progress: Progress | None = None,
    sampler: Callable = dpmpp_2m, evaluations: int | None = None, workers: Workers = side_by_side,
) -> pd.DataFrame:  # fmt: skip
    """Samples every run for every combination and measures: one row a run, combination and metric."""
    progress = progress or partial(tqdm, disable=True)
    function = partial(_measure, recipe=recipe, sampler=sampler, evaluations=evaluations or recipe.evaluations)
    with progress(total=len(table), desc="sampling", unit="runs") as bar:
        return pd.concat(workers(function, run_by_run(table, trained), bar.update), ignore_index=True)


def floor(table: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """As ``evaluate`` for the manifold's own samples, one row of the table a seed: granularity "real"."""
    combination = torch.arange(16).repeat_interleave(recipe.n_eval)
    found = []
    for row in table.drop_duplicates("seed").itertuples(index=False):
        world = World(row.seed, recipe)
        z = world.manifold.sample(combination, stream(row.seed, "floor"))
        metrics = world.evaluate(z, combination, torch.eye(16, dtype=torch.bool))
        found.append(_tidy(row._replace(granularity="real", s_c=0.0), metrics))
    return pd.concat(found, ignore_index=True)


def by_group(results: pd.DataFrame) -> pd.DataFrame:
    """One row a run, group of combinations and metric: seen, rare, held out; combinations weigh alike."""
    seen = results[results["group"] != "held out"].assign(group="seen")
    rest = results[results["group"] != "frequent"]
    both = pd.concat([seen, rest], ignore_index=True)
    factors = [name for name in both if name not in ("place", "value")]
    return both.groupby(factors, sort=False, as_index=False)["value"].mean()
