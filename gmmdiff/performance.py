"""How near the engine of ``gmmdiff.training`` comes to what the machine can do, measured beside it.

All contestants do the same work, the matrix products of a number of run-steps; a run-step is one optimiser step
of one run.  Speeds of a shared machine drift, so contestants take turns in short slices, and ratios are taken
turn by turn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pandas as pd
import torch

from gmmdiff.checks import require
from gmmdiff.networks import StackedMLP
from gmmdiff.training import ADAM, PREPARED, Program, Run, side_by_side, train_block

Contestant = Callable[[int], None]  # does so many steps


def operations(sizes: Sequence[int], batch: int, to_input: bool = False) -> int:
    """Floating-point operations of one run-step's matrix products, a multiplication and an addition counting two.

    Each layer has three products: forward, for its weights, and for its input, which the first layer needs only
    where the signal goes on (``to_input``).

    Args:
        sizes: widths of input, hidden layers and output.
    """
    layers = [inner * outer for inner, outer in pairwise(sizes)]
    return 2 * batch * (3 * sum(layers) - (0 if to_input else layers[0]))


def program_operations(program: Program) -> int:
    """``operations`` of one run-step of a program: of its networks all but the first send their signal on."""
    batch = program.runs[0].recipe.batch
    return sum(operations(network.sizes, batch, number > 0) for number, network in enumerate(program.networks))


def products(program: Program) -> Contestant:
    """The batched matrix products of a program's steps alone, on operands of their own: the machine's rate.

    As many rows in one product as the program has runs.
    """
    rows, batch, work = len(program.runs), program.runs[0].recipe.batch, []
    for number, network in enumerate(program.networks):
        values, signals = ([torch.randn(rows, size, batch, device=program.device) for size in network.sizes] for _ in range(2))
        layers = StackedMLP.split(network.sizes, torch.randn_like(network.parameters))
        for place, (weight, bias) in enumerate(layers):
            work.append((torch.baddbmm, (bias, weight, values[place]), torch.empty_like(values[place + 1])))
        for place, (weight, _) in reversed(list(enumerate(layers))):
            work.append((torch.bmm, (signals[place + 1], values[place].mT), weight.new_empty(weight.shape)))
            if place or number:
                work.append((torch.bmm, (weight.mT, signals[place + 1]), torch.empty_like(signals[place])))

    @torch.inference_mode()
    def go(steps: int) -> None:
        for _ in range(steps):
            for product, operands, room in work:
                product(*operands, out=room)

    return go


def engine(program: Callable[[], Program]) -> Contestant:
    """The engine on a fresh program each time; making it, its costs and its batches are part of the time."""

    def go(steps: int) -> None:
        made = program()
        for run in made.runs:
            require(run.row.steps == steps, "engine", "steps of the run table", f"{steps} as asked for", run.row.steps)
        train_block(made)

    return go


def plain_loop(runs: Sequence[Run], fused: bool = False) -> Contestant:
    """What one would write without an engine: one run after another, ``torch.nn`` and ``torch.optim.Adam``.

    On the engine's batches, with its cosine decay, but without moving average and gradient norms: less work.

    Args:
        fused: Adam as one operation, which torch does not choose by itself on the CPU.
    """

    def go(steps: int) -> None:
        for run in runs:
            layers = [part for pair in pairwise(run.sizes) for part in (torch.nn.Linear(*pair), torch.nn.SiLU())]
            model = torch.nn.Sequential(*layers[:-1])
            optimiser = torch.optim.Adam(model.parameters(), lr=run.row.learning_rate, betas=(ADAM["beta1"], ADAM["beta2"]), fused=fused)
            decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
            source = run.draws()
            for step in range(steps):
                if step % PREPARED == 0:
                    draws = next(source)
                    inputs, targets = run.inputs(draws), draws.target
                loss = torch.nn.functional.mse_loss(model(inputs[step % PREPARED]), targets[step % PREPARED])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                decay.step()

    return go


def beside(contestants: Sequence[Contestant]) -> Contestant:
    """Several contestants side by side, as the engine's blocks go: on as many threads as torch has."""

    def go(steps: int) -> None:
        side_by_side(lambda each: each(steps), contestants)

    return go


def race(contestants: dict[str, tuple[Contestant, int, int]], repeats: int) -> pd.DataFrame:
    """Lets contestants take turns: one row a turn and contestant.

    Args:
        contestants: name -> what runs, for how many steps a turn, and how many floating-point operations a turn makes.
        repeats: turns >= 1, after one that is not counted.

    Returns:
        columns turn, contestant, seconds, rate (operations a second).
    """
    require(repeats >= 1, "race", "repeats", ">= 1", repeats)
    rows = []
    for turn in range(-1, repeats):
        for name, (go, steps, work) in contestants.items():
            start = time.perf_counter()
            go(steps)
            seconds = time.perf_counter() - start
            rows.append({"turn": turn, "contestant": name, "seconds": seconds, "rate": work / seconds})
    found = pd.DataFrame(rows)
    return found[found["turn"] >= 0].reset_index(drop=True)


def ratios(turns: pd.DataFrame, to: str) -> pd.DataFrame:
    """Rates against the contestant ``to`` of the same turn: one row a contestant, columns median, low, high (quartiles)."""
    wide = turns.pivot(index="turn", columns="contestant", values="rate")
    require(to in wide, "ratios", "to", f"one of {', '.join(wide)}", repr(to))
    found = wide.div(wide[to], axis=0).quantile([0.5, 0.25, 0.75]).T
    return found.set_axis(["median", "low", "high"], axis=1)
