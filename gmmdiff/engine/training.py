"""Run table -> trained runs -> tidy results.

A run table is a DataFrame with one row a run and ``COLUMNS`` as columns.  Rows train in blocks,
each block as one batched ensemble; blocks go side by side to as many threads as torch has, with one
thread inside each, so no result depends on the block, the order or the number of threads (at widths
and batches of multiples of 16; others the library's products may round by company).  Everything a
run draws comes from streams named by its seed: arms of one seed share manifold, data, noise and
starting weights, which is what pairs them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from gmmdiff.core.checks import refuse, require
from gmmdiff.core.streams import stream
from gmmdiff.engine.arms import Conditioning
from gmmdiff.engine.gradient_norms import GradientNorms
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import (
    BATCHES_AT_ONCE,
    COLUMNS,
    Batches,
    Progress,
    Run,
    SeedData,
    TrainingSettings,
)
from gmmdiff.engine.threads import Tick, Workers, side_by_side

# Hidden units over all rows of a block: few calls, and the caches still hold them; the fastest of
# 1000 to 8200 measured.
BLOCK = 3328
GPU_BLOCK = 196608  # the same on a GPU: as many as its memory holds with ease
ADAM = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
ADAM |= {"weight_decay": 0.0, "amsgrad": False, "maximize": False}
AVERAGED = 10  # steps between two weights that the moving average takes in
LOOKS = 20  # at the validation loss in a training, or a few fewer: between batches drawn at once
# Numbers: every run begins a vector register anew, since Adam rounds a shorter rest differently.
REGISTER = 16
DEVICES = ("auto", "cpu", "cuda")


class Ensemble:
    """R runs of one shape that train together: what ``train_block`` steps through.

    Attributes:
        parameters, gradient: ``(runs, >= count)``, all networks of a run side by side, then zeros.
        count: parameters of one run.
        watched: the part of the gradient whose norm is measured, ``(runs, <= count)``.
    """

    columns: Sequence[str] = COLUMNS  # of its run table
    validated = True  # whether the validation loss chooses the weights that are kept

    def __init__(self, runs: Sequence[Run], device: str) -> None:
        self.runs, self.device, shapes = runs, device, self.shapes(runs[0])
        initial = [
            torch.cat([StackedMLP.initial(s, stream(run.row.seed, n)) for n, s in shapes.items()])
            for run in runs
        ]
        counts = [StackedMLP.count(sizes) for sizes in shapes.values()]
        self.count = sum(counts)
        self.parameters = pad(torch.stack(initial), (0, -self.count % REGISTER)).to(device)
        self.gradient = torch.zeros_like(self.parameters)
        both = (self.parameters, self.gradient)
        views = (whole[:, : self.count].split(counts, 1) for whole in both)
        self.networks = [StackedMLP(*part) for part in zip(shapes.values(), *views, strict=True)]
        self.watched = self.networks[0].gradient
        self._first = {run.data_key: run for run in runs}
        self._sources = {run: run.batches() for run in self._first.values()}

    @staticmethod
    def shapes(run: Run) -> dict[str, Sequence[int]]:
        """The networks of a run: the stream of their starting weights -> sizes."""
        return {"weights": run.sizes}

    @classmethod
    def check(cls, table: pd.DataFrame, settings: TrainingSettings) -> None:
        """Refuses what cannot be trained, before any training.

        Raises:
            ValueError: on a missing or unknown column, no rows, or a value out of range.
        """
        owner, allowed = "run table", f"exactly {', '.join(cls.columns)}"
        missing = ", ".join(sorted(set(cls.columns) - set(table.columns)))
        unknown = ", ".join(sorted(map(str, set(table.columns) - set(cls.columns))))
        require(not missing, owner, "columns", allowed, f"none called {missing}")
        require(not unknown, owner, "columns", allowed, f"also {unknown}")
        require(len(table) > 0, owner, "rows", "at least one", "none")
        for name, least in (("s_c", 0), ("steps", 1)):
            good = bool((table[name] >= least).all())
            require(good, owner, name, f">= {least}", table[name].min())
        good = bool((table["learning_rate"] > 0).all())
        require(good, owner, "learning_rate", "> 0", table["learning_rate"].min())
        combinations = settings.world(generator=stream(0, "check")).combinations
        held_out, seen = settings.held_out, len(combinations) - settings.held_out
        allowed = f"in 0 .. {len(combinations) - 1}, so that one is left"
        require(0 <= held_out < len(combinations), owner, "held_out", allowed, held_out)
        allowed = f"in 0 .. {seen}, the combinations seen"
        require(0 <= settings.rare <= seen, owner, "rare", allowed, settings.rare)
        SeedData(0, settings)
        good = bool((table["n_train"] >= 2).all())
        require(good, owner, "n_train", ">= 2", table["n_train"].min())
        require(settings.validation >= 1, owner, "validation", ">= 1", settings.validation)
        good = all(
            step % BATCHES_AT_ONCE == 0 and step <= table["steps"].min()
            for step in settings.checkpoints
        )
        allowed = f"multiples of {BATCHES_AT_ONCE}, at most steps"
        require(good, owner, "checkpoints", allowed, settings.checkpoints)
        for arm in table[["granularity", "s_c"]].drop_duplicates().itertuples(index=False):
            Conditioning(*arm, combinations, stream(0, "check"))

    def stack(
        self, of: Callable[[Run, Batches], Sequence[Tensor]], drawn: Sequence[Batches]
    ) -> Tensor:
        """What ``of`` makes of each run's batches, parts ``(batches, batch, ...)`` side by side:
        ``(batches, runs, batch, features)``.
        """
        parts = [
            part.mT
            for run, batches in zip(self.runs, drawn, strict=True)
            for part in of(run, batches)
        ]
        return torch.cat(parts, 1).unflatten(1, (len(self.runs), -1)).to(self.device).mT

    def shared(self, of: Callable[[Run], Any]) -> list:
        """What ``of`` makes of every run, made once for arms of one seed and n_train."""
        made = {key: of(run) for key, run in self._first.items()}
        return [made[run.data_key] for run in self.runs]

    def next_batches(self) -> list[Batches]:
        """The next ``BATCHES_AT_ONCE`` batches of every run."""
        return self.shared(lambda run: next(self._sources[run]))

    def prepare(self, drawn: Sequence[Batches]) -> None:
        """Takes in the batches of the next ``BATCHES_AT_ONCE`` steps."""
        self.inputs = self.stack(Run.inputs, drawn).unbind()
        self.targets = self.stack(lambda _, batches: [batches.target], drawn).unbind()
        self.weights = self.stack(lambda _, batches: [batches.weight], drawn).unbind()

    def step(self, number: int) -> Tensor:
        """Fills ``gradient`` on batch ``number`` of those prepared; the v-loss ``(runs,)``."""
        denoiser = self.networks[0]
        difference = denoiser.forward(self.inputs[number]) - self.targets[number]
        weighted = difference * self.weights[number]
        denoiser.backward(weighted * (2 / difference[0].numel()))
        return (weighted * difference).mean((1, 2))

    def validator(self) -> Callable[[Tensor], Tensor]:
        """The validation loss ``(runs,)`` of parameters ``(runs, >= count)``, each run's on its own
        fixed batch.
        """
        drawn = self.shared(Run.validation)
        inputs = self.stack(Run.inputs, drawn)[0]
        target = self.stack(lambda _, batches: [batches.target], drawn)[0]
        weight = self.stack(lambda _, batches: [batches.weight], drawn)[0]
        sizes = self.networks[0].sizes
        count = StackedMLP.count(sizes)

        def loss(parameters: Tensor) -> Tensor:
            found = []
            for run in range(len(parameters)):  # one at a time: little memory, and no neighbours
                one = slice(run, run + 1)
                predicted = StackedMLP(sizes, parameters[one, :count]).forward(inputs[one])
                found.append((weight[one] * (predicted - target[one]).square()).mean((1, 2)))
            return torch.cat(found)

        return loss


class Trained(NamedTuple):
    """What a block of runs ends with."""

    parameters: Tensor  # (runs, count), the moving average at the least validation loss, on the CPU
    losses: Tensor  # (runs, blocks), mean loss of each BATCHES_AT_ONCE steps or, at the end, fewer
    norms: Tensor  # (runs, blocks), largest gradient norm of each BATCHES_AT_ONCE steps
    spike_rate: Tensor  # (runs,), see GradientNorms
    variation: Tensor  # (runs,), see GradientNorms
    diverged: Tensor  # (runs,) True where a weight is not finite
    validation: Tensor  # (runs, looks), the validation loss; no looks where it chooses nothing
    checkpoints: Tensor  # (runs, checkpoints, count), the moving average after those steps


def averaged(step: int, steps: int) -> bool:
    """Whether the moving average takes in the weights after this step, counted from 0."""
    return (step + 1) % AVERAGED == 0 or step + 1 == steps


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers below 1e-38 count as 0: slow on a CPU, and where a cost lets go there are many."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def looks(steps: int) -> list[int]:
    """The steps after which the validation loss is looked at, the last among them."""
    stride = BATCHES_AT_ONCE * math.ceil(steps / (BATCHES_AT_ONCE * LOOKS))
    return [*range(stride, steps, stride), steps]


class _Best:
    """The moving average at the least validation loss of each run, so far."""

    def __init__(self, ensemble: Ensemble, average: Tensor) -> None:
        self.kept, self.curve = average.clone(), []
        self._least = average.new_full((len(average),), torch.inf)
        self._loss = ensemble.validator() if ensemble.validated else None

    def look(self, average: Tensor) -> None:
        """Keeps the runs whose loss is the least so far; where none chooses, the last."""
        if self._loss is None:
            self.kept.copy_(average)
            return
        loss = self._loss(average)
        # A diverged run's loss is NaN and keeps nothing; it ends with what it had.
        better = loss < self._least
        self.kept[better], self._least[better] = average[better], loss[better]
        self.curve.append(loss.cpu())

    def losses(self) -> Tensor:
        return torch.stack(self.curve, 1) if self.curve else torch.empty(len(self.kept), 0)


@_denormals_flushed()
def train_block(ensemble: Ensemble, tick: Tick = lambda n: None) -> Trained:
    """Trains runs of one shape and number of steps together, with a moving average of the weights.

    A run that diverges keeps its NaN to itself, since no operation mixes runs.

    Args:
        tick: told the number of run-steps done since the last call.
    """
    runs, steps = len(ensemble.runs), ensemble.runs[0].row.steps
    parameters, settings = ensemble.parameters, ensemble.runs[0].settings
    average, adam = parameters.clone(), Adam(ensemble)
    watch, losses, largest = GradientNorms(runs, steps), [], []
    best, when, checkpoints = _Best(ensemble, average), looks(steps), []
    for first in range(0, steps, BATCHES_AT_ONCE):
        count = min(BATCHES_AT_ONCE, steps - first)
        loss, norms = parameters.new_zeros(runs), parameters.new_empty(count, runs)
        with torch.inference_mode():  # half the time of a small operation is autograd's
            ensemble.prepare(ensemble.next_batches())
            for step, norm in enumerate(norms, first):
                loss += ensemble.step(step - first)
                torch.linalg.vector_norm(ensemble.watched, dim=1, out=norm)
                adam.step((1 + math.cos(math.pi * step / steps)) / 2)
                if averaged(step, steps):
                    average.lerp_(parameters, 1 - settings.ema**AVERAGED)
            if first + count in when:
                best.look(average)
            if first + count in settings.checkpoints:
                checkpoints.append(average.cpu()[:, : ensemble.count].clone())
        watch.update(norms.T.cpu())
        losses.append(loss.cpu() / count)
        largest.append(norms.cpu().amax(0))
        tick(count * runs)
    kept, diverged = best.kept.cpu()[:, : ensemble.count], ~parameters.isfinite().all(1).cpu()
    curves = torch.stack(losses, 1), torch.stack(largest, 1)
    stored = torch.stack(checkpoints, 1) if checkpoints else kept.new_empty(runs, 0, kept.shape[1])
    watched = watch.spike_rate, watch.variation
    return Trained(kept, *curves, *watched, diverged, best.losses(), stored)


class Adam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) on an ensemble: one call a learning rate.

    ``torch.optim.Adam(fused=True)`` gives the same bits; around that call its bookkeeping took an
    eighth to a quarter of a whole training's time, at these sizes.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        rates = itertools.groupby(run.row.learning_rate for run in ensemble.runs)
        rates = [(rate, len(list(same))) for rate, same in rates]
        wholes = [ensemble.parameters, ensemble.gradient]
        wholes += [torch.zeros_like(ensemble.parameters) for _ in range(2)]  # the two moments
        parts = (whole.split([count for _, count in rates]) for whole in wholes)
        groups = zip(rates, *parts, strict=True)
        self._groups = [(rate, [[part] for part in own]) for (rate, _), *own in groups]
        self._done = ensemble.parameters.new_zeros(())

    def step(self, decay: float) -> None:
        """One step, every learning rate times ``decay``."""
        self._done += 1
        for rate, (p, g, m, v) in self._groups:
            torch._fused_adam_(p, g, m, v, [], [self._done], lr=rate * decay, **ADAM)


def resolve_device(name: str) -> str:
    """``"auto"`` -> ``"cuda"`` where there is one, else ``"cpu"``.

    Raises:
        ValueError: on another name than auto, cpu or cuda, or on cuda without CUDA.
    """
    require(name in DEVICES, "run", "device", f"one of {', '.join(DEVICES)}", repr(name))
    if name == "cuda" and not torch.cuda.is_available():
        refuse("run", "device", "auto or cpu where there is no CUDA device", name)
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def block_rows(settings: TrainingSettings, device: str = "cpu") -> int:
    """Rows that train together at most."""
    return max(1, (BLOCK if device == "cpu" else GPU_BLOCK) // (settings.width * settings.hidden))


def blocks_of(
    table: pd.DataFrame, settings: TrainingSettings, device: str = "cpu"
) -> list[list[int]]:
    """Row numbers in blocks that train together: of one number of steps, a seed's arms in one.

    Blocks of one length differ by a row at most, and each thread gets as many; the longest come
    first.
    """
    size, threads = block_rows(settings, device), torch.get_num_threads() if device == "cpu" else 1
    ordered = table.reset_index(drop=True).sort_values(["seed", "n_train"], kind="stable")
    found: list[list[int]] = []
    for steps in sorted(table["steps"].unique(), reverse=True):
        rows = ordered.index[ordered["steps"] == steps]
        count = min(len(rows), threads * math.ceil(len(rows) / (threads * size)))
        found += [block.tolist() for block in np.array_split(rows, count)]
    return found


def _train_rows(
    rows: pd.DataFrame,
    tick: Tick,
    settings: TrainingSettings,
    device: str,
    ensemble: type[Ensemble],
) -> Trained:
    runs = [Run(row, settings) for row in rows.itertuples(index=False)]
    return train_block(ensemble(runs, device), tick)


def train(
    table: pd.DataFrame,
    settings: TrainingSettings,
    device: str = "cpu",
    progress: Progress | None = None,
    ensemble: type[Ensemble] = Ensemble,
    workers: Workers = side_by_side,
) -> Trained:
    """Trains every row of a run table; results in the table's order.

    What stands by blocks of steps is padded with NaN to the longest run.

    Raises:
        ValueError: on a bad table (see ``Ensemble.check``).
    """
    ensemble.check(table, settings)
    device = resolve_device(device)
    progress = progress or partial(tqdm, disable=True)
    blocks = blocks_of(table, settings, device)
    total = int(table["steps"].sum())
    options = {"desc": f"training {len(table)} runs", "unit": "steps", "unit_scale": True}
    with progress(total=total, **options) as bar:
        function = partial(_train_rows, settings=settings, device=device, ensemble=ensemble)
        done = workers(function, [table.iloc[block] for block in blocks], bar.update)
    order = torch.tensor([i for block in blocks for i in block]).argsort()
    wholes = []
    for parts in zip(*done, strict=True):
        longest = max(part.shape[1] if part.ndim > 1 else 0 for part in parts)
        if parts[0].ndim == 2:
            parts = [pad(part, (0, longest - part.shape[1]), value=torch.nan) for part in parts]
        wholes.append(torch.cat(parts)[order])
    return Trained(*wholes)
