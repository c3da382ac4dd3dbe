"""How near the engine and the samplers come to what the machine and others can do, measured beside
them.

All that train do the same work, the matrix products of a number of run-steps; a run-step is one
optimiser step of one run.  Speeds of a shared machine drift, so contestants take turns in short
slices, and ratios are taken turn by turn.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.costs import COSTS
from gmmdiff.engine.arms import GRANULARITIES
from gmmdiff.engine.joint.classifiers import ClassifierEnsemble, JointEnsemble
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import BATCHES_AT_ONCE, Progress, Run, TrainingSettings, run_table
from gmmdiff.engine.training import Ensemble, block_rows, blocks_of, train_block
from gmmdiff.experiments.ngmg_stability.arms import JOINT_COSTS, arm_rows, with_signals
from gmmdiff.study.speed.race import Contestant, beside, device_name, race, ratios


def operations(sizes: Sequence[int], batch: int, to_input: bool = False) -> int:
    """Floating-point operations of one run-step's matrix products, a multiplication and an addition
    counting two.

    Each layer has three products: forward, for its weights, and for its input, which the first
    layer needs only where the signal goes on (``to_input``).

    Args:
        sizes: widths of input, hidden layers and output.
    """
    layers = [inner * outer for inner, outer in pairwise(sizes)]
    return 2 * batch * (3 * sum(layers) - (0 if to_input else layers[0]))


def ensemble_operations(ensemble: Ensemble) -> int:
    """``operations`` of one run-step of an ensemble: of its networks all but the first send their
    signal on.
    """
    batch = ensemble.runs[0].settings.batch
    return sum(
        operations(network.sizes, batch, number > 0)
        for number, network in enumerate(ensemble.networks)
    )


def products(ensemble: Ensemble) -> Contestant:
    """The batched matrix products of an ensemble's steps alone, on operands of their own: the
    machine's rate.

    As many rows in one product as the ensemble has runs.
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
            if place or number:
                work.append((torch.bmm, (weight.mT, signal), torch.empty_like(signals[place])))

    @torch.inference_mode()
    def go(steps: int) -> None:
        for _ in range(steps):
            for product, operands, room in work:
                product(*operands, out=room)

    return go


def multilayer_perceptron(sizes: Sequence[int]) -> torch.nn.Sequential:
    """Linear layers of these widths with SiLU between them: ``(batch, in)`` -> ``(batch, out)``."""
    layers = [
        part for pair in pairwise(sizes) for part in (torch.nn.Linear(*pair), torch.nn.SiLU())
    ]
    return torch.nn.Sequential(*layers[:-1])


def adam(
    weights: Iterable[Tensor], rate: float, steps: int, **options: bool
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980), its rate falling along half a cosine.

    Args:
        options: further ones of ``torch.optim.Adam``.
    """
    optimiser = torch.optim.Adam(weights, lr=rate, betas=(0.9, 0.99), **options)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2
    )


def weighted_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The v-loss by a prediction's squared error and its weight, see ``Run.draw``."""
    return (weight * (predicted - target).square()).mean()


def engine(ensemble: Callable[[], Ensemble]) -> Contestant:
    """The engine on a fresh ensemble each time; making it, its costs and its batches are part of
    the time.  Without validation: a turn would look far more often than a long training does.
    """

    def go(steps: int) -> None:
        made = ensemble()
        made.validated = False
        for run in made.runs:
            good, allowed = run.row.steps == steps, f"{steps} as asked for"
            require(good, "engine", "steps of the run table", allowed, run.row.steps)
        train_block(made)

    return go


def plain_loop(runs: Sequence[Run], fused: bool = False, device: str = "cpu") -> Contestant:
    """What one would write without an engine: one run after another, ``torch.nn`` and
    ``torch.optim.Adam``.

    On the engine's batches, with its cosine decay, but without moving average and gradient norms:
    less work.

    Args:
        fused: Adam as one operation, which torch does not choose by itself on the CPU.
    """

    def go(steps: int) -> None:
        for run in runs:
            model = multilayer_perceptron(run.sizes).to(device)
            optimiser, decay = adam(model.parameters(), run.row.learning_rate, steps, fused=fused)
            source = run.batches()
            for step in range(steps):
                if step % BATCHES_AT_ONCE == 0:
                    draws = next(source)
                    seen = torch.cat(run.inputs(draws), -1), draws.target, draws.weight
                    inputs, targets, weights = (part.to(device) for part in seen)
                number = step % BATCHES_AT_ONCE
                loss = weighted_loss(model(inputs[number]), targets[number], weights[number])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                decay.step()

    return go


def stacked_modules(runs: Sequence[Run], device: str = "cpu") -> Contestant:
    """Many runs as ``torch.func`` trains an ensemble: modules stacked, one of them under ``vmap``,
    Adam (fused) on the stack.

    As ``plain_loop`` in all else; batches are drawn as the engine draws them, once for arms that
    share them.

    Raises:
        ValueError: on runs of different learning rates, for which one Adam has no room.
    """
    rates = {run.row.learning_rate for run in runs}
    require(len(rates) == 1, "stacked_modules", "learning rates", "one for all runs", sorted(rates))

    def go(steps: int) -> None:
        models = [multilayer_perceptron(run.sizes).to(device) for run in runs]
        weights, _ = torch.func.stack_module_state(models)
        skeleton = copy.deepcopy(models[0]).to("meta")

        def loss_of_one(own: dict[str, Tensor], inputs: Tensor, *aim: Tensor) -> Tensor:
            return weighted_loss(torch.func.functional_call(skeleton, own, (inputs,)), *aim)

        losses = torch.vmap(loss_of_one)
        optimiser, decay = adam(weights.values(), *rates, steps, fused=True)
        source = Ensemble(runs, device)
        for step in range(steps):
            if step % BATCHES_AT_ONCE == 0:
                source.prepare(source.next_batches())
            prepared = (source.inputs, source.targets, source.weights)
            loss = losses(weights, *(part[step % BATCHES_AT_ONCE] for part in prepared)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()

    return go


class Workload(NamedTuple):
    """A run table and how its rows train."""

    ensemble: type[Ensemble]
    table: pd.DataFrame
    settings: TrainingSettings

    def first(self, rows: int) -> Workload:
        """Its first rows by seed, so that arms which share their draws come together, as in the
        experiments.
        """
        return self._replace(table=self.table.sort_values("seed", kind="stable").head(rows))

    def blocks(self, device: str) -> list[list[Run]]:
        """Its runs in the blocks in which ``train`` trains them."""
        rows = list(self.table.itertuples(index=False))
        return [
            [Run(rows[i], self.settings) for i in block]
            for block in blocks_of(self.table, self.settings, device)
        ]

    def engines(self, blocks: Sequence[Sequence[Run]], device: str) -> Contestant:
        """The engine on each block, side by side."""
        return beside([engine(partial(self.ensemble, block, device)) for block in blocks])


def workloads(
    feature: TrainingSettings,
    image: TrainingSettings,
    stability: TrainingSettings,
    n_train: int,
    s_c: float,
    learning_rate: float,
    steps: int,
    rows: int,
    seed: int,
) -> dict[str, Workload]:
    """The ensembles of the experiments, each with at least ``rows`` rows: every arm, or every
    cost, and enough seeds.
    """
    seeds, rates = -(-rows // len(GRANULARITIES)), [learning_rate]
    arms = run_table(GRANULARITIES, [0.0, s_c], [n_train], rates, [steps], seeds, seed)
    factors = {"n_train": n_train, "learning_rate": learning_rate, "steps": steps}
    factors |= {"lam": 1.0, "label_noise": 0.0}
    every = range(seed, seed + seeds)
    joint, alone = (dict.fromkeys(with_signals(costs), every) for costs in (JOINT_COSTS, COSTS))
    joint = arm_rows(joint, granularity="feature", s_c=s_c, **factors)
    alone = arm_rows(alone, granularity="none", s_c=0.0, **factors)
    return {
        "feature versus class": Workload(Ensemble, arms, feature),
        "on faces": Workload(Ensemble, arms, image),
        "denoiser with classifier": Workload(JointEnsemble, joint, stability),
        "classifier": Workload(ClassifierEnsemble, alone, stability),
    }


def training_turns(
    workload: Workload, rows: int, steps: int, turns: int, device: str
) -> pd.DataFrame:
    """Engine and products take turns, blocks side by side: ``race``'s table, rates in operations a
    second.
    """
    allowed = f"at most {len(workload.table)}, the table's"
    require(len(workload.table) >= rows, "training_turns", "rows", allowed, rows)
    blocks = workload.first(rows).blocks(device)
    ensembles = [workload.ensemble(runs, device) for runs in blocks]
    work = steps * sum(len(made.runs) * ensemble_operations(made) for made in ensembles)
    contestants = {
        "products": (beside([products(made) for made in ensembles]), steps, work),
        "engine": (workload.engines(blocks, device), steps, work),
    }
    return race(contestants, turns).assign(device=device_name(device), rows=rows)


def shares(turns: pd.DataFrame) -> pd.DataFrame:
    """The engine's rate over that of the products, turn by turn: one row a device and shape."""
    found = speedups(turns)
    return found[found["rival"] == "products"].drop(columns="rival").reset_index(drop=True)


def full_rows(settings: TrainingSettings) -> int:
    """Rows of which every thread trains a block of full size."""
    return torch.get_num_threads() * block_rows(settings)


def thread_turns(workload: Workload, steps: int, turns: int) -> pd.DataFrame:
    """The engine on one thread, two, four, ... and all of torch's, which take turns on the same
    rows, cut into blocks as ``train`` does: ``race``'s table, contestants "1", "2", ..., rates in
    run-steps a second.
    """
    most = torch.get_num_threads()
    workload = workload.first(full_rows(workload.settings))
    counts = sorted({2**power for power in range(most.bit_length())} | {most})
    work = steps * len(workload.table)
    try:
        return race({str(n): (_on_threads(n, workload), steps, work) for n in counts}, turns)
    finally:
        torch.set_num_threads(most)


def _on_threads(threads: int, workload: Workload) -> Contestant:
    """The engine's blocks on so many threads, which torch keeps."""
    torch.set_num_threads(threads)
    go_all = workload.engines(workload.blocks("cpu"), "cpu")

    def go(steps: int) -> None:
        torch.set_num_threads(threads)
        go_all(steps)

    return go


def thread_speedups(turns: pd.DataFrame) -> pd.DataFrame:
    """How many times as fast as on one thread: columns threads, median, low, high (quartiles)."""
    found = ratios(turns, "1").rename_axis("threads")
    return found.sort_index(key=lambda names: names.astype(int)).reset_index()


LOOPED = 4  # runs in one turn of the loops, whose time a run cannot depend on how many follow


def growth_turns(
    workload: Workload, rows: int, steps: int, turns: int, device: str, stacked: bool = True
) -> pd.DataFrame:
    """Engine, ``torch.func`` (if ``stacked``) and both loops take turns: ``race``'s table, rates in
    run-steps a second.

    The tuned loop has a fused Adam and one thread: so small products lose more by sharing them out
    than they gain.
    """
    workload = workload.first(rows)
    blocks = workload.blocks(device)
    runs = [run for block in blocks for run in block]
    few = runs[:LOOPED]
    contestants = {
        "engine": (workload.engines(blocks, device), steps, steps * rows),
        "loop": (plain_loop(few, device=device), steps, steps * len(few)),
        "loop, tuned": (beside([plain_loop(few, True, device)]), steps, steps * len(few)),
    }
    if stacked:
        contestants["torch.func"] = (stacked_modules(runs, device), steps, steps * rows)
    return race(contestants, turns).assign(device=device_name(device), rows=rows)


def growth(
    shapes: dict[str, Workload],
    rows: Sequence[int],
    steps: int,
    turns: int,
    device: str,
    progress: Progress,
    stacked: int,
) -> pd.DataFrame:
    """``growth_turns`` of every shape and number of rows; ``torch.func`` takes part up to
    ``stacked`` rows.
    """
    found = []
    with progress(total=len(shapes) * len(rows), desc="racing", unit="races") as bar:
        for (shape, workload), count in itertools.product(shapes.items(), rows):
            raced = growth_turns(workload, count, steps, turns, device, count <= stacked)
            found.append(raced.assign(shape=shape))
            bar.update()
    return pd.concat(found, ignore_index=True)


def speedups(turns: pd.DataFrame) -> pd.DataFrame:
    """How many times as fast as each rival the engine is, turn by turn: one row a device, shape,
    number of rows and rival.
    """
    tables = []
    for (device, shape, rows), table in turns.groupby(["device", "shape", "rows"], sort=False):
        for rival in table["contestant"].unique():
            found = ratios(table, rival).loc["engine"]
            tables.append({"device": device, "shape": shape, "rows": rows, "rival": rival, **found})
    return pd.DataFrame(tables)
