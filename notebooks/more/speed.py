"""How fast the engine trains, and what a sampler's evaluations are worth, beside others.

Speeds of a shared machine drift, so contestants take turns, and ratios are taken turn by turn.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import Linear, SiLU
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from gmmdiff.core.costs import COSTS
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.streams import stream
from gmmdiff.engine.joint.classifiers import JointEnsemble
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import BATCHES_AT_ONCE, Run, SeedData, TrainingSettings
from gmmdiff.engine.threads import side_by_side
from gmmdiff.engine.training import Ensemble, block_rows, blocks_of, train_block
from gmmdiff.experiments.theory.closed_forms import example_mixture, mixture_quantile

Go = Callable[[], object]  # what a contestant does in a turn
LOOPED = 4  # runs in one turn of the loops, whose time a run cannot depend on how many follow


def race(contestants: dict[str, tuple], turns: int) -> pd.DataFrame:
    """A turn of each after the other: columns turn, contestant, seconds, rate (work a second).

    A contestant is what it does in a turn, how much work that is, and on how many threads (all).
    """
    most, rows = torch.get_num_threads(), []
    for turn in range(turns):
        for name, (go, work, *threads) in contestants.items():
            timer = Timer("go()", globals={"go": go}, num_threads=(*threads, most)[0])
            seconds = timer.timeit(1).mean
            rows.append((turn, name, seconds, work / seconds))
    return pd.DataFrame(rows, columns=["turn", "contestant", "seconds", "rate"])


def ratios(turns: pd.DataFrame, of: str, by: Sequence[str] = ()) -> pd.DataFrame:
    """How many times as fast as each contestant ``of`` is, turn by turn: columns ``by``,
    contestant, median, low, high (quartiles).
    """
    rates = turns.pivot(index=[*by, "turn"], columns="contestant", values="rate")
    faster = (1 / rates).mul(rates[of], axis=0).stack()
    found = faster.groupby([*by, "contestant"], sort=False).quantile([0.25, 0.5, 0.75]).unstack()
    return found.set_axis(["low", "median", "high"], axis=1).reset_index()


class Program(NamedTuple):
    """A run table and how its rows train."""

    ensemble: type[Ensemble]
    table: pd.DataFrame
    settings: TrainingSettings

    def blocks(self, rows: int, device: str = "cpu") -> list[list[Run]]:
        """The first rows by seed, so that arms share their draws, in the blocks of ``train``."""
        table = self.table.sort_values("seed", kind="stable").head(rows).reset_index(drop=True)
        shared = {seed: SeedData(seed, self.settings) for seed in table["seed"].unique()}
        every = table.itertuples(index=False)
        runs = [Run(row, self.settings, shared[row.seed]) for row in every]
        return [[runs[i] for i in block] for block in blocks_of(table, self.settings, device)]

    def engine(self, blocks: Sequence[Sequence[Run]], device: str = "cpu") -> Go:
        """Trains the blocks, made anew each time; without validation, which is rarer in a long
        training.
        """

        def block(runs: Sequence[Run]) -> None:
            made = self.ensemble(runs, device)
            made.validated = False
            train_block(made)

        return lambda: side_by_side(block, blocks)

    @property
    def full(self) -> int:
        """Rows of which every thread trains a block of full size."""
        return torch.get_num_threads() * block_rows(self.settings)


def programs(settings: dict[str, TrainingSettings], table: pd.DataFrame) -> dict[str, Program]:
    """By the settings' names; "with a classifier" has every row once for every cost."""
    joint = table.merge(pd.DataFrame({"cost": list(COSTS)}), how="cross")
    joint = joint.assign(signal="raw", lam=1.0, label_noise=0.0)
    return {
        name: Program(JointEnsemble, joint, one)
        if name == "with a classifier"
        else Program(Ensemble, table, one)
        for name, one in settings.items()
    }


def products(ensemble: Ensemble) -> Callable[[int], None]:
    """The batched matrix products alone of so many of an ensemble's steps, on operands of their
    own: the machine's rate.
    """
    rows, batch, work = len(ensemble.runs), ensemble.runs[0].settings.batch, []
    for number, network in enumerate(ensemble.networks):
        values, signals = (
            [torch.randn(rows, size, batch, device=ensemble.device) for size in network.sizes]
            for _ in range(2)
        )
        layers = StackedMLP.split(network.sizes, torch.randn_like(network.parameters))
        for place, (weight, bias) in enumerate(layers):
            forward = (bias, weight, values[place])
            work.append((torch.baddbmm, forward, torch.empty_like(values[place + 1])))
        for place, (weight, _) in reversed(list(enumerate(layers))):
            signal = signals[place + 1]
            work.append((torch.bmm, (signal, values[place].mT), weight.new_empty(weight.shape)))
            if place or number:  # only a network that is not the first sends its signal on
                work.append((torch.bmm, (weight.mT, signal), torch.empty_like(signals[place])))

    @torch.inference_mode()
    def go(steps: int) -> None:
        for _ in range(steps):
            for product, operands, room in work:
                product(*operands, out=room)

    return go


def operations(ensemble: Ensemble) -> int:
    """Floating-point operations of a step's matrix products, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        products(ensemble)(1)
    return counter.get_total_flops()


def training_turns(
    program: Program, steps: int, turns: int, rows: int, device: str
) -> pd.DataFrame:
    """Engine and products take turns, blocks side by side; rates in operations a second."""
    blocks = program.blocks(rows, device)
    made = [program.ensemble(runs, device) for runs in blocks]
    work, alone = steps * sum(map(operations, made)), [products(one) for one in made]
    rivals = {
        "products": (lambda: side_by_side(lambda each: each(steps), alone), work),
        "engine": (program.engine(blocks, device), work),
    }
    return race(rivals, turns).assign(device=device, rows=rows)


def thread_turns(program: Program, steps: int, turns: int) -> pd.DataFrame:
    """The engine takes turns on one thread, two, four, ... and all of torch's, on the same rows;
    rates in steps of a run a second.
    """
    most, rows, contestants = torch.get_num_threads(), program.full, {}
    for threads in sorted({2**power for power in range(most.bit_length())} | {most}):
        torch.set_num_threads(threads)  # which decides on the blocks
        contestants[str(threads)] = program.engine(program.blocks(rows)), steps * rows, threads
    torch.set_num_threads(most)
    return race(contestants, turns)


def perceptron(sizes: Sequence[int], device: str = "cpu") -> torch.nn.Sequential:
    """Linear layers of these widths with SiLU between them."""
    layers = [part for pair in pairwise(sizes) for part in (Linear(*pair), SiLU())]
    return torch.nn.Sequential(*layers[:-1]).to(device)


def adam(weights: Iterable[Tensor], row: tuple, fused: bool) -> tuple[Adam, CosineAnnealingLR]:
    """Adam of a run, its rate falling along half a cosine."""
    optimiser = Adam(weights, lr=row.learning_rate, betas=(0.9, 0.99), fused=fused)
    return optimiser, CosineAnnealingLR(optimiser, row.steps)


def plain_loop(runs: Sequence[Run], device: str, fused: bool = False) -> None:
    """What one would write without an engine: one run after another, by ``torch.nn`` and Adam, also
    ``fused``, which torch does not choose by itself on the CPU.
    """
    for run in runs:
        model, source = perceptron(run.sizes, device), run.batches()
        optimiser, decay = adam(model.parameters(), run.row, fused)
        for step in range(run.row.steps):
            if step % BATCHES_AT_ONCE == 0:
                drawn = next(source)
                seen = torch.cat(run.inputs(drawn), -1), drawn.target, drawn.weight
                inputs, targets, weights = (part.to(device) for part in seen)
            number = step % BATCHES_AT_ONCE
            loss = (weights[number] * (model(inputs[number]) - targets[number]) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()


def stacked_modules(runs: Sequence[Run], device: str) -> None:
    """As ``torch.func`` trains an ensemble: modules stacked, one of them under ``vmap``, Adam on
    the stack; batches are the engine's.
    """
    models = [perceptron(run.sizes, device) for run in runs]
    stack, _ = torch.func.stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")

    def loss_of_one(own: dict[str, Tensor], inputs: Tensor, target: Tensor, weight: Tensor):
        predicted = torch.func.functional_call(skeleton, own, (inputs,))
        return (weight * (predicted - target) ** 2).mean()

    losses, row, source = torch.vmap(loss_of_one), runs[0].row, Ensemble(runs, device)
    optimiser, decay = adam(stack.values(), row, True)
    for step in range(row.steps):
        if step % BATCHES_AT_ONCE == 0:
            source.prepare(source.next_batches())
        prepared = (source.inputs, source.targets, source.weights)
        loss = losses(stack, *(part[step % BATCHES_AT_ONCE] for part in prepared)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()


def growth_turns(program: Program, rows: int, turns: int, device: str) -> pd.DataFrame:
    """Engine, ``torch.func`` and both loops take turns; rates in steps of a run a second."""
    blocks = program.blocks(rows, device)
    runs = [run for block in blocks for run in block]
    few, steps = runs[:LOOPED], runs[0].row.steps
    tuned = partial(plain_loop, device=device, fused=True)
    rivals = {
        "engine": (program.engine(blocks, device), steps * rows),
        "loop": (lambda: plain_loop(few, device), steps * len(few)),
        "loop, tuned": (lambda: side_by_side(tuned, [few]), steps * len(few)),
        "torch.func": (lambda: stacked_modules(runs, device), steps * rows),
    }
    return race(rivals, turns).assign(device=device, rows=rows)


class ExactLaw:
    """A law whose probability-flow map is known at n points: independent mixtures on the line along
    the axes of a frame, each of which the flow carries along its own quantiles.
    """

    def __init__(self, axes: Sequence[GaussianMixture], n: int, generator: torch.Generator) -> None:
        self.axes, dimension = axes, len(axes)
        shape = dimension, dimension
        square = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.frame = torch.linalg.qr(square).Q if dimension > 1 else torch.ones(1, 1).double()
        self.levels = torch.rand(n, dimension, generator=generator, dtype=torch.float64)
        self.levels = 0.01 + 0.98 * self.levels  # what lies farther out is rounding's

    @cache  # noqa: B019 - two laws in a process
    def at(self, ratio: float) -> Tensor:
        """Where the flow has its points ``(n, D)`` at a ratio sigma / alpha."""
        diffused = [axis.diffuse(*rates(ratio)) for axis in self.axes]
        columns = [
            [mixture_quantile(law, level) for level in levels.tolist()]
            for law, levels in zip(diffused, self.levels.T, strict=True)
        ]
        return torch.tensor(columns, dtype=torch.float64).T @ self.frame.T

    def x_0(self, x: Tensor, ratio: float) -> Tensor:
        """The exact prediction ``(n, D)`` at x, in x's precision."""
        columns = (x.double() @ self.frame).split(1, 1)
        pairs = zip(self.axes, columns, strict=True)
        means = [axis.posterior_mean(column, *rates(ratio)) for axis, column in pairs]
        return (torch.cat(means, 1) @ self.frame.T).to(x)

    def error(self, x: Tensor) -> float:
        """Of what a sampler makes of its points: the root mean square distance to their images."""
        return float((x.double() - self.at(0.0)).square().sum(1).mean().sqrt())


def exact_laws() -> dict[str, ExactLaw]:
    """Three overlapping modes on the line, four components in R^8, 25 narrow ones in the plane."""

    def axis(weights: Sequence[float], means: Sequence[float], scale: float) -> GaussianMixture:
        return GaussianMixture(weights, [[mean] for mean in means], [[scale]] * len(means))

    axes = [axis([0.3, 0.7], [-1.0, 0.6], 0.3), axis([0.5, 0.5], [-0.8, 0.8], 0.3)]
    axes += [axis([1.0], [0.0], 0.3)] * 6
    row = axis([0.2] * 5, [-1.4, -0.7, 0.0, 0.7, 1.4], 0.1)
    return {
        "line": ExactLaw([example_mixture()], 200, stream(0, "line")),
        "R^8": ExactLaw(axes, 100, stream(0, "space")),
        "grid": ExactLaw([row, row], 100, stream(0, "plane")),
    }


def rates(ratio: float) -> tuple[float, float]:
    """alpha and sigma of a ratio sigma / alpha."""
    return 1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio)
