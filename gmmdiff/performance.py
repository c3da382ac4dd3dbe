"""How near the engine and the samplers come to what the machine and others can do, measured beside them.

All that train do the same work, the matrix products of a number of run-steps; a run-step is one optimiser step
of one run.  Speeds of a shared machine drift, so contestants take turns in short slices, and ratios are taken
turn by turn.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmdiff.checks import require
from gmmdiff.conditioning import GRANULARITIES
from gmmdiff.diffusion import ancestral, ddim, dpmpp_2m
from gmmdiff.distances import energy_distance
from gmmdiff.feature_vs_class import ANCESTRAL_STEPS
from gmmdiff.joint import ClassifierProgram, JointProgram
from gmmdiff.networks import StackedMLP
from gmmdiff.ngmg_stability import parts as stability_parts
from gmmdiff.statistics import paired
from gmmdiff.streams import numpy_stream, stream
from gmmdiff.training import (
    ADAM,
    LAST,
    PREPARED,
    SCHEDULE,
    Program,
    Progress,
    Recipe,
    Run,
    Trained,
    block_rows,
    blocks_of,
    run_table,
    side_by_side,
    train_block,
)

Contestant = Callable[[int], None]  # does so many steps
CUDA_MISSING = "not measured: no CUDA device here"
TARGETS = {  # what was asked for before anything was measured
    "training": 0.75,  # of the products' rate, on the CPU
    "loop": 8,  # times the loop's speed, at the small shape with 64 rows
    "cuda": 50,  # times the loop's speed on the same GPU, with 1024 rows
    "evaluations": 20,  # of DPM-Solver++(2M), as good as ancestral sampling
    "inside": 0.9,  # of a training stage's time, training or sampling
}
JUDGED_ROWS = {"loop": 64, "cuda": 1024}


# ---- who trains ---------------------------------------------------------------------------------------------


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


def _plain(run: Run) -> torch.nn.Sequential:
    """The run's denoiser as ``torch.nn`` has it."""
    layers = [part for pair in pairwise(run.sizes) for part in (torch.nn.Linear(*pair), torch.nn.SiLU())]
    return torch.nn.Sequential(*layers[:-1])


def _adam(weights: Iterator[Tensor], run: Run, steps: int, **options: bool) -> tuple[torch.optim.Adam, Any]:
    """The engine's Adam and its cosine decay, as ``torch.optim`` has them."""
    optimiser = torch.optim.Adam(weights, lr=run.row.learning_rate, betas=(ADAM["beta1"], ADAM["beta2"]), **options)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)


def plain_loop(runs: Sequence[Run], fused: bool = False, device: str = "cpu") -> Contestant:
    """What one would write without an engine: one run after another, ``torch.nn`` and ``torch.optim.Adam``.

    On the engine's batches, with its cosine decay, but without moving average and gradient norms: less work.

    Args:
        fused: Adam as one operation, which torch does not choose by itself on the CPU.
    """

    def go(steps: int) -> None:
        for run in runs:
            model = _plain(run).to(device)
            optimiser, decay = _adam(model.parameters(), run, steps, fused=fused)
            source = run.draws()
            for step in range(steps):
                if step % PREPARED == 0:
                    draws = next(source)
                    inputs, targets = torch.cat(run.inputs(draws), -1).to(device), draws.target.to(device)
                loss = torch.nn.functional.mse_loss(model(inputs[step % PREPARED]), targets[step % PREPARED])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                decay.step()

    return go


def ensemble(runs: Sequence[Run], device: str = "cpu") -> Contestant:
    """Many runs as ``torch.func`` trains an ensemble: modules stacked, one of them under ``vmap``, Adam (fused) on the stack.

    As ``plain_loop`` in all else; batches are drawn as the engine draws them, once for arms that share them.

    Raises:
        ValueError: on runs of different learning rates, for which one Adam has no room.
    """
    rates = {run.row.learning_rate for run in runs}
    require(len(rates) == 1, "ensemble", "learning rates", "one for all runs", sorted(rates))

    def go(steps: int) -> None:
        models = [_plain(run).to(device) for run in runs]
        weights, _ = torch.func.stack_module_state(models)
        skeleton = copy.deepcopy(models[0]).to("meta")

        def loss_of_one(own: dict[str, Tensor], inputs: Tensor, target: Tensor) -> Tensor:
            return torch.nn.functional.mse_loss(torch.func.functional_call(skeleton, own, (inputs,)), target)

        losses = torch.vmap(loss_of_one)
        optimiser, decay = _adam(weights.values(), runs[0], steps, fused=True)
        source = Program(runs, device)
        for step in range(steps):
            if step % PREPARED == 0:
                source.prepare(source.next_draws())
            loss = losses(weights, source.inputs[step % PREPARED], source.targets[step % PREPARED]).sum()
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


# ---- the race -----------------------------------------------------------------------------------------------


def race(contestants: dict[str, tuple[Contestant, int, int]], repeats: int) -> pd.DataFrame:
    """Lets contestants take turns: one row a turn and contestant.

    Args:
        contestants: name -> what runs, for how many steps a turn, and how much work a turn is (floating-point operations, say).
        repeats: turns >= 1, after one that is not counted.

    Returns:
        columns turn, contestant, seconds, rate (work a second).
    """
    require(repeats >= 1, "race", "repeats", ">= 1", repeats)
    rows = []
    for turn in range(-1, repeats):
        for name, (go, steps, work) in contestants.items():
            start = time.perf_counter()
            go(steps)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
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


def middle(turns: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Median and quartiles of a column over the turns: one row a group, columns median, low, high."""
    found = turns.groupby(list(by), sort=False)[value].quantile([0.5, 0.25, 0.75]).unstack()
    return found.set_axis(["median", "low", "high"], axis=1).reset_index()


def device_name(device: str) -> str:
    """What a table's column ``device`` says: the GPU's name, or cpu."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


# ---- training -----------------------------------------------------------------------------------------------


class Workload(NamedTuple):
    """A run table and how its rows train."""

    program: type[Program]
    table: pd.DataFrame
    recipe: Recipe

    def first(self, rows: int) -> Workload:
        """Its first rows by seed, so that arms which share their draws come together, as in the experiments."""
        return self._replace(table=self.table.sort_values("seed", kind="stable").head(rows))

    def blocks(self, device: str) -> list[list[Run]]:
        """Its runs in the blocks in which ``train`` trains them."""
        rows = list(self.table.itertuples(index=False))
        return [[Run(rows[i], self.recipe) for i in block] for block in blocks_of(self.table, self.recipe, device)]


def workloads(
    feature: Recipe, stability: Recipe, n_train: int, s_c: float, learning_rate: float, steps: int, rows: int, seed: int
) -> dict[str, Workload]:
    """The three programs of the experiments, each with at least ``rows`` rows: every arm, or every cost, and enough seeds."""
    seeds, rates = -(-rows // len(GRANULARITIES)), [learning_rate]
    arms = run_table(GRANULARITIES, [0.0, s_c], [n_train], rates, [steps], seeds, seed)
    costs = stability_parts([0.0], rates, steps, [0.0, 1.0], rates, steps, n_train, s_c, seeds, seed)
    return {
        "feature versus class": Workload(Program, arms, feature),
        "denoiser with classifier": Workload(JointProgram, costs["lam_1.0"], stability),
        "classifier": Workload(ClassifierProgram, costs["label_noise_0.0"], stability),
    }


def training_turns(workload: Workload, rows: int, steps: int, turns: int, device: str) -> pd.DataFrame:
    """Engine and products take turns, blocks side by side: ``race``'s table, rates in operations a second."""
    require(len(workload.table) >= rows, "training_turns", "rows", f"at most {len(workload.table)}, the table's", rows)
    blocks = workload.first(rows).blocks(device)
    programs = [workload.program(runs, device) for runs in blocks]
    work = steps * sum(len(made.runs) * program_operations(made) for made in programs)
    contestants = {
        "products": (beside([products(made) for made in programs]), steps, work),
        "engine": (beside([engine(partial(workload.program, runs, device)) for runs in blocks]), steps, work),
    }
    return race(contestants, turns).assign(device=device_name(device), rows=rows)


def shares(turns: pd.DataFrame) -> pd.DataFrame:
    """The engine's rate over that of the products, turn by turn: one row a device and shape."""
    tables = []
    for (device, shape, rows), table in turns.groupby(["device", "shape", "rows"], sort=False):
        tables.append({"device": device, "shape": shape, "rows": rows, **ratios(table, "products").loc["engine"]})
    return pd.DataFrame(tables)


def full_rows(recipe: Recipe) -> int:
    """Rows of which every thread trains a block of full size."""
    return torch.get_num_threads() * block_rows(recipe)


LOOPED = 4  # runs in one turn of the loops, whose time a run cannot depend on how many follow


def growth_turns(workload: Workload, rows: int, steps: int, turns: int, device: str, stacked: bool = True) -> pd.DataFrame:
    """Engine, ``torch.func`` (if ``stacked``) and both loops take turns: ``race``'s table, rates in run-steps a second.

    The tuned loop has a fused Adam and one thread: so small products lose more by sharing them out than they gain.
    """
    workload = workload.first(rows)
    blocks = workload.blocks(device)
    runs = [run for block in blocks for run in block]
    few = runs[:LOOPED]
    contestants = {
        "engine": (beside([engine(partial(workload.program, block, device)) for block in blocks]), steps, steps * rows),
        "loop": (plain_loop(few, device=device), steps, steps * len(few)),
        "loop, tuned": (beside([plain_loop(few, True, device)]), steps, steps * len(few)),
    }
    if stacked:
        contestants["torch.func"] = (ensemble(runs, device), steps, steps * rows)
    return race(contestants, turns).assign(device=device_name(device), rows=rows)


def growth(shapes: dict[str, Workload], rows: Sequence[int], steps: int, turns: int, device: str, progress: Progress, stacked: int) -> pd.DataFrame:
    """``growth_turns`` of every shape and number of rows; ``torch.func`` takes part up to ``stacked`` rows."""
    found = []
    with progress(total=len(shapes) * len(rows), desc="racing", unit="races") as bar:
        for (shape, workload), count in itertools.product(shapes.items(), rows):
            found.append(growth_turns(workload, count, steps, turns, device, count <= stacked).assign(shape=shape))
            bar.update()
    return pd.concat(found, ignore_index=True)


def speedups(turns: pd.DataFrame) -> pd.DataFrame:
    """How many times as fast as each rival the engine is, turn by turn: one row a device, shape, number of rows and rival."""
    tables = []
    for (device, shape, rows), table in turns.groupby(["device", "shape", "rows"], sort=False):
        for rival in table["contestant"].unique():
            found = ratios(table, rival).loc["engine"]
            tables.append({"device": device, "shape": shape, "rows": rows, "rival": rival, **found})
    return pd.DataFrame(tables)


# ---- sampling -----------------------------------------------------------------------------------------------

MOMENTS = 1000  # steps of the discrete schedule that both sides share
SAMPLERS = {"ancestral": ancestral, "DDIM": ddim, "DPM-Solver++(2M)": dpmpp_2m}
THEIRS = {  # scheduler and options that make it the same method
    "ancestral": ("DDPMScheduler", {"clip_sample": False, "variance_type": "fixed_small"}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
    "DPM-Solver++(2M)": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2, "lower_order_final": False, "final_sigmas_type": "zero"}),
}


def moments() -> Tensor:
    """Times of the discrete schedule's steps, ``(MOMENTS,)`` rising: evenly from ``LAST``, below which no network was trained."""
    return torch.linspace(LAST, 0.999, MOMENTS, dtype=torch.float64)


def betas() -> Tensor:
    """The same schedule as ``diffusers`` takes it: 1 - alpha_k^2 / alpha_{k-1}^2, clipped at 0.999 as it clips."""
    kept = torch.cat([torch.ones(1, dtype=torch.float64), SCHEDULE.alpha(moments()) ** 2])
    return (1 - kept[1:] / kept[:-1]).clamp_max(0.999)


def _grid(count: int) -> Tensor:
    """The falling times that a scheduler with "trailing" spacing visits in ``count`` evaluations, then 0."""
    require(count >= 1 and MOMENTS % count == 0, "sampling", "evaluations", f"divisors of {MOMENTS}", count)
    return torch.cat([moments().flip(0)[:: MOMENTS // count], torch.zeros(1, dtype=torch.float64)]).float()


def ours(name: str, count: int) -> Callable:
    """Our sampler on the times of the discrete schedule, with a sampler's arguments (its ``times`` are not used)."""
    sampler, times = SAMPLERS[name], _grid(count)
    return lambda denoiser, x, _, *rest: sampler(denoiser, x, times, *rest)


@cache
def schedulers() -> dict[str, type]:
    """The schedulers of ``diffusers`` by our samplers' names; none where it is not installed.

    Its modules load as they are asked for, which two threads must not do at once: ``sides`` asks first.
    """
    if not find_spec("diffusers"):
        return {}
    with warnings.catch_warnings():  # it wants widgets for progress bars that nobody asks of it
        warnings.simplefilter("ignore")
        import diffusers

        return {name: getattr(diffusers, kind) for name, (kind, _) in THEIRS.items()}


def theirs(name: str, count: int) -> Callable:
    """The scheduler of ``diffusers`` with a sampler's arguments; it asks the denoiser at the same times.

    Raises:
        KeyError: where ``diffusers`` is not installed.
    """
    options = THEIRS[name][1] | {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    scheduler, times = schedulers()[name](trained_betas=betas().numpy(), **options), _grid(count)

    @torch.no_grad()
    def sampler(denoiser: Callable, x: Tensor, _times: Any, _schedule: Any, _prediction: str, generator: torch.Generator) -> Tensor:
        scheduler.set_timesteps(count)
        for number, t in zip(scheduler.timesteps, times, strict=False):
            x = scheduler.step(denoiser(x, t), number, x, generator=generator).prev_sample
        return x

    return sampler


def sides() -> dict[str, Callable]:
    """Who samples on the discrete schedule: we, and ``diffusers`` where it is installed."""
    return {"ours": ours} | ({"diffusers": theirs} if schedulers() else {})


def law_error(run: Run, z: Tensor, combination: Tensor) -> float:
    """Energy distance of samples ``(n, D)`` to as many true points of the same combination, mean over combinations."""
    real = run.world.manifold.sample(combination, stream(run.row.seed, "reference"))
    return float(np.mean([energy_distance(z[combination == c].double(), real[combination == c]) for c in combination.unique()]))


def sampling_errors(table: pd.DataFrame, trained: Trained, recipe: Recipe, evaluations: Sequence[int], progress: Progress) -> pd.DataFrame:
    """Error and seconds of every sampler, side and number of evaluations: one row a run.

    The side "ours, own times" is what the experiments use: times even in the log signal-to-noise ratio.  "real"
    are true points, the floor.  Ancestral sampling also takes ``ANCESTRAL_STEPS`` evaluations.
    """
    combination = torch.arange(16).repeat_interleave(recipe.n_eval)
    settings = [(name, count) for count in evaluations for name in SAMPLERS] + [("ancestral", ANCESTRAL_STEPS)]
    makers = {**sides(), "ours, own times": lambda name, count: SAMPLERS[name]}

    def one(job: tuple) -> list[tuple]:
        row, parameters = job
        run = Run(row, recipe)
        real = run.world.manifold.sample(combination, stream(row.seed, "floor"))
        rows = [("real", "", 0, row.seed, law_error(run, real, combination), math.nan)]
        for (name, count), (side, make) in itertools.product(settings, makers.items()):
            sampler, start = make(name, count), time.perf_counter()
            z = run.generate(parameters, combination, count, sampler)
            seconds = time.perf_counter() - start
            rows.append((name, side, count, row.seed, law_error(run, z, combination), seconds))
            bar.update()
        return rows

    with progress(total=len(table) * len(settings) * len(makers), desc="sampling", unit="samplings") as bar:
        found = side_by_side(one, zip(table.itertuples(index=False), trained.parameters, strict=True))
    columns = ["sampler", "side", "evaluations", "seed", "error", "seconds"]
    return pd.DataFrame(itertools.chain.from_iterable(found), columns=columns).assign(device="cpu")


def evaluation_turns(row: tuple, parameters: Tensor, recipe: Recipe, count: int, samples: int, turns: int) -> pd.DataFrame:
    """Every sampler of either side takes turns on one network: ``race``'s table, rates in evaluations a second, on one thread."""
    run = Run(row, recipe)
    combination = torch.arange(samples) % 16
    denoiser = run.predict(parameters, run.conditioning.sample(combination, stream(row.seed, "condition")).float())
    noise = torch.randn(samples, recipe.dimension, generator=stream(row.seed, "start"))

    def contestant(sampler: Callable) -> Contestant:
        return beside([lambda _: sampler(denoiser, noise, None, SCHEDULE, "v", stream(row.seed, "noise"))])

    entrants = {f"{name}|{side}": (contestant(make(name, count)), count, count) for name in SAMPLERS for side, make in sides().items()}
    found = race(entrants, turns)
    found[["sampler", "side"]] = found["contestant"].str.split("|", expand=True).to_numpy()
    return found.drop(columns="contestant").assign(samples=samples, device="cpu")


def evaluation_ratios(turns: pd.DataFrame) -> pd.DataFrame:
    """Our seconds an evaluation over those of ``diffusers``, turn by turn: one row a sampler and number of samples, none without it."""
    rows = []
    for (sampler, samples), table in turns.groupby(["sampler", "samples"], sort=False):
        wide = table.pivot(index="turn", columns="side", values="seconds")
        if "diffusers" in wide:
            median, low, high = (wide["ours"] / wide["diffusers"]).quantile([0.5, 0.25, 0.75])
            rows.append({"sampler": sampler, "samples": samples, "device": "cpu", "median": median, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["sampler", "samples", "device", "median", "low", "high"])


# ---- where the time goes ------------------------------------------------------------------------------------

LONGEST_GAP = 120  # seconds between two stages of one `dvc repro`; more, and they did not run in one go


def stage_times(records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The stages' records of their runs (``execution.run_records``), but for this stage's: one row a stage.

    Columns: stage, device, started, seconds, training, sampling, other (bars), outside (the share of the seconds that
    is neither training nor sampling), memory (MiB, the largest process).  What a record does not hold is NaN.
    """
    rows = []
    for stage, record in records.items():
        if stage == "performance":
            continue
        spent = record.get("spent")
        bars = {"training": math.nan, "sampling": math.nan, "other": math.nan, "outside": math.nan}
        if spent is not None:
            bars = {name: spent.get(name, 0.0) for name in ("training", "sampling")}
            bars["other"] = sum(spent.values()) - sum(bars.values())
            bars["outside"] = 1 - (bars["training"] + bars["sampling"]) / record["seconds"]
        known = {name: record.get(name, math.nan) for name in ("started", "memory")}
        rows.append({"stage": stage, "device": record["device"], "seconds": record["seconds"], **bars, **known})
    columns = ["stage", "device", "started", "seconds", "training", "sampling", "other", "outside", "memory"]
    found = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:], float))
    return found.assign(started=pd.to_datetime(found["started"], utc=True, format="ISO8601")).sort_values(["started", "stage"], ignore_index=True)


def pipeline_share(stages: pd.DataFrame) -> float:
    """Share of `dvc repro` outside the notebooks, from the first stage's start to the last one's end; NaN where it is not known.

    Not known: a start is not recorded, or the stages did not run in one go.
    """
    if stages.empty or stages["started"].isna().any():
        return math.nan
    ordered = stages.sort_values("started")
    start = (ordered["started"] - ordered["started"].iloc[0]).dt.total_seconds()
    end = (start + ordered["seconds"]).cummax()
    gaps = (start.iloc[1:].to_numpy() - end.iloc[:-1].to_numpy()).clip(0)
    return math.nan if (gaps > LONGEST_GAP).any() else float(gaps.sum() / end.iloc[-1])


# ---- in words -----------------------------------------------------------------------------------------------


def _against(value: float, target: float) -> str:
    return "met" if value >= target else "not met"


def training_sentence(ratio: pd.DataFrame) -> str:
    """What the engine's share of the products' rate says."""
    told = [f"{r.shape} on {r.device} {r.median:.0%} [{r.low:.0%}, {r.high:.0%}]" for r in ratio.itertuples()]
    cpu, target = ratio[ratio["device"] == "cpu"]["median"], TARGETS["training"]
    return (
        f"Of the rate of its own matrix products the engine reaches (median of the turns and quartiles): {'; '.join(told)}. "
        f"Target on the CPU, {target:.0%} at every shape: {_against(cpu.min(), target)} ({(cpu >= target).sum()} of {len(cpu)} shapes)."
    )


def growth_sentence(ratio: pd.DataFrame, target: str) -> str:
    """What the engine's speed against the loops and torch.func says; ``target``, "loop" or "cuda", is for the small shape."""
    told = []
    for (shape, rival), table in ratio[ratio["rival"] != "engine"].groupby(["shape", "rival"], sort=False):
        slower = table[table["median"] < 1]["rows"].tolist()
        most = table.loc[table["median"].idxmax()]
        never = "never slower" if not slower else f"slower with {', '.join(map(str, slower))} rows"
        told.append(f"{shape} shape, against {rival}: {never}, at most {most['median']:.1f} times as fast (with {most['rows']} rows)")
    rows = JUDGED_ROWS[target]
    judged = ratio[(ratio["shape"] == "small") & (ratio["rival"] == "loop") & (ratio["rows"] == rows)]
    found = "not measured"
    if len(judged):
        row = judged.iloc[0]
        found = f"{row['median']:.1f} [{row['low']:.1f}, {row['high']:.1f}], {_against(row['median'], TARGETS[target])}"
    return f"{'. '.join(told)}. Target, {TARGETS[target]} times the loop's speed at the small shape with {rows} rows: {found}."


def sampling_sentence(errors: pd.DataFrame) -> str:
    """Whether few evaluations of DPM-Solver++(2M) are as good as ancestral sampling with ``ANCESTRAL_STEPS``, paired by seed."""
    most = TARGETS["evaluations"]
    mine = errors[errors["side"] == "ours, own times"].set_index(["sampler", "evaluations", "seed"])["error"].sort_index()
    full = mine["ancestral", ANCESTRAL_STEPS]
    counts = sorted({n for name, n, _ in mine.index if name == "DPM-Solver++(2M)" and n <= most})
    if not counts:
        return f"DPM-Solver++(2M) with at most {most} evaluations: not measured."
    few = mine["DPM-Solver++(2M)", counts[-1]].loc[full.index]
    found = paired(few.to_numpy(), full.to_numpy(), numpy_stream(0, "performance"))
    verdict = "as good, within the interval" if found.low <= 0 <= found.high else "better" if found.high < 0 else "worse"
    real = errors[errors["sampler"] == "real"]["error"].mean()
    return (
        f"DPM-Solver++(2M) with {counts[-1]} evaluations minus ancestral sampling with {ANCESTRAL_STEPS}, on the times of the experiments: "
        f"energy distance {found.estimate:+.5f} [{found.low:+.5f}, {found.high:+.5f}] (IQM over {len(full)} seeds, 95 % interval, paired; "
        f"ancestral {full.mean():.5f}, real points {real:.5f}): {verdict}. Energy distance is not the only judge: the share of defects, "
        "which sees what it hardly weighs, is compared in notebook 02."
    )


def evaluation_sentence(ratio: pd.DataFrame) -> str:
    """Whether our samplers take longer an evaluation than those of diffusers."""
    if ratio.empty:
        return "`diffusers` is not installed here: its time an evaluation was not measured."
    told = [f"{r.sampler}, {r.samples} samples {r.median:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in ratio.itertuples()]
    no_longer = int((ratio["median"] <= 1).sum())
    return (
        f"Our seconds an evaluation over those of `diffusers` (median of the turns and quartiles): {'; '.join(told)}. "
        f"Target, no longer than theirs: {_against(no_longer, len(ratio))} ({no_longer} of {len(ratio)})."
    )


def stages_sentence(stages: pd.DataFrame) -> str:
    """The share of the training stages' time outside training and sampling, and that of the pipeline outside notebooks."""
    trained = stages[stages["training"] > 0]
    missing = int(stages["outside"].isna().sum())
    inside = 1 - (trained["outside"] * trained["seconds"]).sum() / trained["seconds"].sum() if len(trained) else math.nan
    target = TARGETS["inside"]
    first = "Training stages: not recorded."
    if not math.isnan(inside):
        first = f"Of the training stages' time {inside:.1%} is training or sampling (target {target:.0%}: {_against(inside, target)})."
    share = pipeline_share(stages)
    second = "not recorded, or the stages did not run in one go" if math.isnan(share) else f"{share:.1%}"
    note = f" {missing} of {len(stages)} records do not say how long their bars ran." if missing else ""
    return f"{first} Share of `dvc repro` outside the notebooks: {second}.{note}"
