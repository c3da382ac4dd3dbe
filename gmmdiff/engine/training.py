"""Run table -> trained runs -> tidy results.

A run table is a DataFrame with one row a run and ``COLUMNS`` as columns.  Rows train in blocks,
each a batched ensemble; blocks go side by side, one torch thread in each, so no result depends on
the block, the order or the number of threads (at widths and batches of multiples of 16; others
torch's products may round by company).  Everything a run draws comes from streams named by its
seed: arms of one seed share manifold, data, noise and starting weights, which is what pairs them.
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

from gmmdiff.core.checks import require
from gmmdiff.core.streams import stream
from gmmdiff.engine.arms import Conditioning
from gmmdiff.engine.gradient_norms import spike_rate, variation
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
# Numbers: every run begins a vector register anew, since Adam rounds a shorter rest otherwise.
REGISTER = 16


class Ensemble:
    """R runs of one shape that train together: what ``train_block`` steps through.

    Attributes:
        parameters, gradient: ``(runs, >= count)``, all networks of a run side by side, then zeros.
        count: parameters of one run.
        networks: the denoiser, whose gradient norm is measured, and others; views of both.
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
        self._first = {run.data_key: run for run in runs}
        self._sources = {run: run.batches() for run in self._first.values()}

    @staticmethod
    def shapes(run: Run) -> dict[str, Sequence[int]]:
        """The networks of a run: the stream of their starting weights -> sizes."""
        return {"weights": run.sizes}

    @staticmethod
    def levels(table: pd.DataFrame) -> list[tuple[str, pd.Series, str]]:
        """Columns, in which rows they can be trained, and what is allowed."""
        return [
            ("s_c", table["s_c"] >= 0, ">= 0"),
            ("steps", table["steps"] >= 1, ">= 1"),
            ("n_train", table["n_train"] >= 2, ">= 2"),
            ("learning_rate", table["learning_rate"] > 0, "> 0"),
        ]

    @classmethod
    def check(cls, table: pd.DataFrame, settings: TrainingSettings) -> None:
        """Refuses, before any training, a missing or unknown column, no rows, or a value out of
        range: a ValueError.
        """
        owner, given = "run table", [str(name) for name in table.columns]
        allowed = f"exactly {', '.join(cls.columns)}"
        require(sorted(given) == sorted(cls.columns), owner, "columns", allowed, ", ".join(given))
        require(len(table) > 0, owner, "rows", "at least one", "none")
        require(settings.validation >= 1, owner, "validation", ">= 1", settings.validation)
        for name, good, allowed in cls.levels(table):
            bad = table.loc[~good, name].unique()
            require(len(bad) == 0, owner, name, allowed, ", ".join(map(str, bad)))
        seed_data = SeedData(0, settings)
        seen, steps, shortest = len(seed_data.seen), settings.checkpoints, table["steps"].min()
        good, allowed = 0 <= settings.rare <= seen, f"in 0 .. {seen}, the combinations seen"
        require(good, owner, "rare", allowed, settings.rare)
        good = all(step % BATCHES_AT_ONCE == 0 and step <= shortest for step in steps)
        allowed = f"multiples of {BATCHES_AT_ONCE}, at most steps"
        require(good, owner, "checkpoints", allowed, steps)
        for arm in table[["granularity", "s_c"]].drop_duplicates().itertuples(index=False):
            Conditioning(*arm, seed_data.world.combinations, stream(0, "check"))

    def stack(
        self, of: Callable[[Run, Batches], Sequence[Tensor]], batches: Sequence[Batches]
    ) -> Tensor:
        """What ``of`` makes of each run's batches, its parts ``(batches, batch, ...)`` side by
        side: ``(batches, runs, batch, features)``.
        """
        pairs = zip(self.runs, batches, strict=True)
        parts = torch.cat([part.mT for pair in pairs for part in of(*pair)], 1)
        return parts.unflatten(1, (len(self.runs), -1)).to(self.device).mT

    def shared(self, of: Callable[[Run], Any]) -> list:
        """What ``of`` makes of every run, made once for arms of one seed and n_train."""
        made = {key: of(run) for key, run in self._first.items()}
        return [made[run.data_key] for run in self.runs]

    def next_batches(self) -> list[Batches]:
        """The next ``BATCHES_AT_ONCE`` batches of every run."""
        return self.shared(lambda run: next(self._sources[run]))

    def of_v_loss(self, batches: Sequence[Batches]) -> list[Tensor]:
        """Inputs, targets and weights of the v-loss, each ``(batches, runs, batch, ...)``."""
        parts = (Run.inputs, lambda _, own: [own.target], lambda _, own: [own.weight])
        return [self.stack(part, batches) for part in parts]

    def prepare(self, batches: Sequence[Batches]) -> None:
        """Takes in the batches of the next steps."""
        self.inputs, self.targets, self.weights = (x.unbind() for x in self.of_v_loss(batches))

    def step(self, number: int) -> None:
        """Fills ``gradient``, of the v-loss on batch ``number`` of those prepared."""
        denoiser = self.networks[0]
        difference = denoiser.forward(self.inputs[number]) - self.targets[number]
        denoiser.backward(difference * self.weights[number] * (2 / difference[0].numel()))


class Trained(NamedTuple):
    """What a block of runs ends with, on the CPU."""

    parameters: Tensor  # (runs, count), the moving average at the least validation loss
    norms: Tensor  # (runs, blocks), largest gradient norm of each BATCHES_AT_ONCE steps, or fewer
    spike_rate: Tensor  # (runs,), see ``gradient_norms``
    variation: Tensor  # (runs,), see ``gradient_norms``
    diverged: Tensor  # (runs,) True where a weight is not finite
    validation: Tensor  # (runs, looks), the validation loss; no looks where it chooses nothing
    checkpoints: Tensor  # (runs, checkpoints, count), the moving average after those steps


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
    """Of each run the moving average at its least validation loss so far."""

    def __init__(self, ensemble: Ensemble, average: Tensor) -> None:
        self.kept, self.curve = average.clone(), [average.new_empty(len(average), 0).cpu()]
        self._least = average.new_full((len(average),), torch.inf)
        self._denoiser, self._batch = ensemble.networks[0], None
        if ensemble.validated:  # each run on its own fixed batch
            self._batch = [x[0] for x in ensemble.of_v_loss(ensemble.shared(Run.validation))]

    def look(self, average: Tensor) -> None:
        """Keeps the runs whose loss is the least so far; where none chooses, the last."""
        if self._batch is None:
            self.kept.copy_(average)
            return
        sizes, losses = self._denoiser.sizes, []
        weights = average[:, : StackedMLP.count(sizes)]
        for run in range(len(average)):  # one at a time: little memory, and no neighbours
            own, inputs, target, weight = (x[run : run + 1] for x in (weights, *self._batch))
            difference = StackedMLP(sizes, own).forward(inputs) - target
            losses.append((weight * difference.square()).mean((1, 2)))
        loss = torch.cat(losses)
        # A diverged run's loss is NaN and keeps nothing; it ends with what it had.
        better = loss < self._least
        self.kept[better], self._least[better] = average[better], loss[better]
        self.curve.append(loss.cpu().unsqueeze(1))


@_denormals_flushed()
def train_block(ensemble: Ensemble, tick: Tick = lambda n: None) -> Trained:
    """Trains runs of one shape and number of steps together, with a moving average of the weights.

    A run that diverges keeps its NaN to itself, since no operation mixes runs.
    """
    runs, steps = len(ensemble.runs), ensemble.runs[0].row.steps
    parameters, settings = ensemble.parameters, ensemble.runs[0].settings
    average, adam, watched = parameters.clone(), Adam(ensemble), ensemble.networks[0].gradient
    best, when, norms, checkpoints = _Best(ensemble, average), looks(steps), [], []
    for first in range(0, steps, BATCHES_AT_ONCE):
        last = min(first + BATCHES_AT_ONCE, steps)
        of_steps = parameters.new_empty(last - first, runs)
        with torch.inference_mode():  # half the time of a small operation is autograd's
            ensemble.prepare(ensemble.next_batches())
            for step, norm in enumerate(of_steps, first):
                ensemble.step(step - first)
                torch.linalg.vector_norm(watched, dim=1, out=norm)
                adam.step((1 + math.cos(math.pi * step / steps)) / 2)
                if (step + 1) % AVERAGED == 0 or step + 1 == steps:
                    average.lerp_(parameters, 1 - settings.ema**AVERAGED)
            if last in when:
                best.look(average)
            if last in settings.checkpoints:
                checkpoints.append(average.cpu()[:, : ensemble.count].clone())
        norms.append(of_steps.T.cpu())
        tick((last - first) * runs)
    return Trained(
        kept := best.kept.cpu()[:, : ensemble.count],
        torch.stack([block.amax(1) for block in norms], 1),
        spike_rate(torch.cat(norms, 1)),
        variation(torch.cat(norms, 1)),
        ~parameters.isfinite().all(1).cpu(),
        torch.cat(best.curve, 1),
        torch.stack(checkpoints, 1) if checkpoints else kept.new_empty(runs, 0, kept.shape[1]),
    )


class Adam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) on an ensemble: one call a learning rate.

    ``torch.optim.Adam(fused=True)`` gives the same bits; around that call its bookkeeping took an
    eighth to a quarter of a whole training's time, at these sizes.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        rates = itertools.groupby(run.row.learning_rate for run in ensemble.runs)
        self._rates, counts = zip(*((rate, len(list(same))) for rate, same in rates), strict=True)
        moments = (torch.zeros_like(ensemble.parameters) for _ in range(2))
        wholes = (ensemble.parameters, ensemble.gradient, *moments)
        parts = (whole.split(counts) for whole in wholes)
        self._groups = [[[part] for part in own] for own in zip(*parts, strict=True)]
        self._done = ensemble.parameters.new_zeros(())

    def step(self, decay: float) -> None:
        """One step, every learning rate times ``decay``."""
        self._done += 1
        for rate, group in zip(self._rates, self._groups, strict=True):
            torch._fused_adam_(*group, [], [self._done], lr=rate * decay, **ADAM)


def resolve_device(name: str) -> str:
    """``"auto"`` -> ``"cuda"`` where there is one, else ``"cpu"``; a ValueError on another name
    than auto, cpu or cuda, or on cuda without CUDA.
    """
    require(name in ("auto", "cpu", "cuda"), "run", "device", "one of auto, cpu, cuda", repr(name))
    there = torch.cuda.is_available()
    good, allowed = there or name != "cuda", "auto or cpu where there is no CUDA device"
    require(good, "run", "device", allowed, name)
    return "cuda" if there and name != "cpu" else "cpu"


def block_rows(settings: TrainingSettings, device: str = "cpu") -> int:
    """Rows that train together at most."""
    return max(1, (BLOCK if device == "cpu" else GPU_BLOCK) // (settings.width * settings.hidden))


def blocks_of(
    table: pd.DataFrame, settings: TrainingSettings, device: str = "cpu"
) -> list[list[int]]:
    """Row numbers in blocks of one number of steps that train together, a seed's arms in one.

    Each thread gets as many, alike to a row; the longest come first.
    """
    size, threads = block_rows(settings, device), torch.get_num_threads() if device == "cpu" else 1
    ordered = table.reset_index(drop=True).sort_values(["seed", "n_train"], kind="stable")
    blocks: list[list[int]] = []
    for steps in sorted(table["steps"].unique(), reverse=True):
        rows = ordered.index[ordered["steps"] == steps]
        count = min(len(rows), threads * math.ceil(len(rows) / (threads * size)))
        blocks += [block.tolist() for block in np.array_split(rows, count)]
    return blocks


def _train_rows(
    rows: pd.DataFrame,
    tick: Tick,
    settings: TrainingSettings,
    device: str,
    ensemble: type[Ensemble],
) -> Trained:
    rows = list(rows.itertuples(index=False))
    seed_data = {row.seed: SeedData(row.seed, settings) for row in rows}
    runs = [Run(row, settings, seed_data[row.seed]) for row in rows]
    return train_block(ensemble(runs, device), tick)


def train(
    table: pd.DataFrame,
    settings: TrainingSettings,
    device: str = "cpu",
    progress: Progress | None = None,
    ensemble: type[Ensemble] = Ensemble,
    workers: Workers = side_by_side,
) -> Trained:
    """Trains every row of a run table; results in the table's order, see ``Ensemble.check``.

    What stands by blocks of steps is padded with NaN to the longest run.
    """
    ensemble.check(table, settings)
    device, progress = resolve_device(device), progress or partial(tqdm, disable=True)
    blocks, total = blocks_of(table, settings, device), int(table["steps"].sum())
    options = {"desc": f"training {len(table)} runs", "unit": "steps", "unit_scale": True}
    with progress(total=total, **options) as bar:
        function = partial(_train_rows, settings=settings, device=device, ensemble=ensemble)
        trained = workers(function, [table.iloc[block] for block in blocks], bar.update)
    order = torch.tensor([i for block in blocks for i in block]).argsort()
    wholes = []
    for parts in zip(*trained, strict=True):
        if parts[0].ndim == 2:
            longest = max(part.shape[1] for part in parts)
            parts = [pad(part, (0, longest - part.shape[1]), value=torch.nan) for part in parts]
        wholes.append(torch.cat(parts)[order])
    return Trained(*wholes)
