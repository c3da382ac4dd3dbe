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
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from gmmdiff.core.checks import require
from gmmdiff.core.conditioning import Conditioning
from gmmdiff.core.streams import stream
from gmmdiff.study.engine.gradient_norms import GradientNorms
from gmmdiff.study.engine.networks import StackedMLP
from gmmdiff.study.engine.parallel.threads import Tick, Workers, side_by_side
from gmmdiff.study.engine.runs import COLUMNS, PREPARED, Batches, Progress, Recipe, Run
from gmmdiff.worlds.arcs import Arcs

BLOCK = 2304  # hidden units over all rows of a block: few calls, and the caches still hold them; the fastest of 1700 to 5100 measured
GPU_BLOCK = 196608  # the same on a GPU: as many as its memory holds with ease
ADAM = {
    "beta1": 0.9,
    "beta2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.0,
    "amsgrad": False,
    "maximize": False,
}
REGISTER = 16  # numbers: every run begins a vector register anew, since Adam rounds a shorter rest differently


# ---- the engine ---------------------------------------------------------------------------------------------


class Ensemble:
    """R runs of one shape that train together: what ``train_block`` steps through.

    Attributes:
        parameters, gradient: ``(runs, >= count)``, all networks of a run side by side, then zeros.
        count: parameters of one run.
        watched: the part of the gradient whose norm is measured, ``(runs, <= count)``.
    """

    columns: Sequence[str] = COLUMNS  # of its run table

    def __init__(self, runs: Sequence[Run], device: str) -> None:
        self.runs, self.device, shapes = runs, device, self.shapes(runs[0])
        initial = [
            [
                StackedMLP.initial(sizes, stream(run.row.seed, name))
                for name, sizes in shapes.items()
            ]
            for run in runs
        ]
        counts = [StackedMLP.count(sizes) for sizes in shapes.values()]
        self.count = sum(counts)
        own = torch.stack([torch.cat(weights) for weights in initial])
        self.parameters = pad(own, (0, -self.count % REGISTER)).to(device)
        self.gradient = torch.zeros_like(self.parameters)
        views = (
            whole[:, : self.count].split(counts, 1) for whole in (self.parameters, self.gradient)
        )
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
        missing, unknown = (
            set(cls.columns) - set(table.columns),
            set(table.columns) - set(cls.columns),
        )
        require(
            not missing, owner, "columns", expected, f"none called {', '.join(sorted(missing))}"
        )
        require(
            not unknown, owner, "columns", expected, f"also {', '.join(sorted(map(str, unknown)))}"
        )
        require(len(table) > 0, owner, "rows", "at least one", "none")
        for name, least in (("s_c", 0), ("steps", 1)):
            require(
                bool((table[name] >= least).all()), owner, name, f">= {least}", table[name].min()
            )
        require(
            bool((table["learning_rate"] > 0).all()),
            owner,
            "learning_rate",
            "> 0",
            table["learning_rate"].min(),
        )
        seen = 16 - recipe.held_out
        require(
            0 <= recipe.held_out < 16,
            owner,
            "held_out",
            "in 0 .. 15, so that one is left",
            recipe.held_out,
        )
        require(
            1 <= recipe.rare <= seen,
            owner,
            "rare",
            f"in 1 .. {seen}, the combinations seen",
            recipe.rare,
        )
        enough = bool((table["n_train"] >= seen).all())
        require(
            enough,
            owner,
            "n_train",
            f">= {seen}, the number of combinations seen",
            table["n_train"].min(),
        )
        for arm in table[["granularity", "s_c"]].drop_duplicates().itertuples(index=False):
            Conditioning(
                *arm, Arcs(recipe.dimension, stream(0, "check")).combinations, stream(0, "check")
            )

    def stack(
        self, of: Callable[[Run, Batches], Sequence[Tensor]], drawn: Sequence[Batches]
    ) -> Tensor:
        """What ``of`` makes of each run's draws, parts ``(batches, batch, ...)`` side by side: ``(batches, runs, batch, features)``."""
        parts = [
            part.mT for run, draws in zip(self.runs, drawn, strict=True) for part in of(run, draws)
        ]
        return torch.cat(parts, 1).unflatten(1, (len(self.runs), -1)).to(self.device).mT

    def shared(self, of: Callable[[Run], Any]) -> list:
        """What ``of`` makes of every run, made once for arms of one seed and n_train."""
        made = {key: of(run) for key, run in self._first.items()}
        return [made[run.drawn_as] for run in self.runs]

    def next_draws(self) -> list[Batches]:
        """The next ``PREPARED`` batches of every run."""
        return self.shared(lambda run: next(self._sources[run]))

    def prepare(self, drawn: Sequence[Batches]) -> None:
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
    losses: (
        Tensor  # (runs, blocks), mean loss of each PREPARED steps, the last block perhaps shorter
    )
    norms: Tensor  # (runs, blocks), largest gradient norm of each PREPARED steps
    spike_rate: Tensor  # (runs,), see GradientNorms
    variation: Tensor  # (runs,), see GradientNorms
    diverged: Tensor  # (runs,) True where a weight is not finite


def train_block(program: Ensemble, tick: Tick = lambda n: None) -> Trained:
    """Trains runs of one shape and number of steps together: Adam (Kingma & Ba 2015, arXiv 1412.6980), cosine decay, moving average.

    A run that diverges keeps its NaN to itself, since no operation mixes runs.

    Args:
        tick: told the number of run-steps done since the last call.
    """
    rows, recipe = [run.row for run in program.runs], program.runs[0].recipe
    parameters, steps = program.parameters, rows[0].steps
    average, moments, done = (
        parameters.clone(),
        parameters.new_zeros(2, *parameters.shape),
        parameters.new_zeros(()),
    )
    alike = [
        (rate, len(list(same)))
        for rate, same in itertools.groupby(row.learning_rate for row in rows)
    ]
    parts = [
        whole.split([count for _, count in alike])
        for whole in (parameters, program.gradient, *moments)
    ]
    groups = [
        (rate, [[part] for part in group]) for (rate, _), *group in zip(alike, *parts, strict=True)
    ]
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
        average.cpu()[:, : program.count],
        torch.stack(losses, 1),
        torch.stack(largest, 1),
        watch.spike_rate,
        watch.variation,
        diverged.cpu(),
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


def _train_rows(
    rows: pd.DataFrame, tick: Tick, recipe: Recipe, device: str, program: type[Ensemble]
) -> Trained:
    return train_block(
        program([Run(row, recipe) for row in rows.itertuples(index=False)], device), tick
    )


def train(
    table: pd.DataFrame,
    recipe: Recipe,
    device: str = "cpu",
    progress: Progress | None = None,
    program: type[Ensemble] = Ensemble,
    workers: Workers = side_by_side,
) -> Trained:
    """Trains every row of a run table; results in the table's order (by blocks of steps: padded with NaN to the longest).

    Raises:
        ValueError: on a bad table (see ``Ensemble.check``).
    """
    program.check(table, recipe)
    progress = progress or partial(tqdm, disable=True)
    blocks = blocks_of(table, recipe, device)
    total = int(table["steps"].sum())
    with progress(
        total=total, desc=f"training {len(table)} runs", unit="steps", unit_scale=True
    ) as bar:
        function = partial(_train_rows, recipe=recipe, device=device, program=program)
        done = workers(function, [table.iloc[block] for block in blocks], bar.update)
    order = torch.tensor([i for block in blocks for i in block]).argsort()
    wholes = []
    for parts in zip(*done, strict=True):
        longest = max(part.shape[-1] for part in parts)
        same = (
            parts
            if parts[0].ndim == 1
            else [pad(part, (0, longest - part.shape[1]), value=torch.nan) for part in parts]
        )
        wholes.append(torch.cat(same)[order])
    return Trained(*wholes)
