"""What a sample costs and is worth: our samplers beside those of diffusers."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.diffusion import ancestral, ddim, dpmpp_2m
from gmmdiff.core.distances import energy_distance
from gmmdiff.core.streams import stream
from gmmdiff.engine.runs import LAST_TIME, SCHEDULE, Progress, Run, TrainingSettings
from gmmdiff.engine.training import Trained, side_by_side
from gmmdiff.study.speed.race import Contestant, beside, race

MOMENTS = 1000  # steps of the discrete schedule that both sides share
SAMPLERS = {"ancestral": ancestral, "DDIM": ddim, "DPM-Solver++(2M)": dpmpp_2m}
THEIRS = {  # scheduler and options that make it the same method
    "ancestral": ("DDPMScheduler", {"clip_sample": False, "variance_type": "fixed_small"}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
    "DPM-Solver++(2M)": (
        "DPMSolverMultistepScheduler",
        {
            "algorithm_type": "dpmsolver++",
            "solver_order": 2,
            "lower_order_final": False,
            "final_sigmas_type": "zero",
        },
    ),
}


def moments() -> Tensor:
    """Times of the discrete schedule's steps, ``(MOMENTS,)`` rising: evenly from ``LAST_TIME``,
    below which no network was trained.
    """
    return torch.linspace(LAST_TIME, 0.999, MOMENTS, dtype=torch.float64)


def betas() -> Tensor:
    """The same schedule as ``diffusers`` takes it: 1 - alpha_k^2 / alpha_{k-1}^2, clipped at 0.999
    as it clips.
    """
    kept = torch.cat([torch.ones(1, dtype=torch.float64), SCHEDULE.alpha(moments()) ** 2])
    return (1 - kept[1:] / kept[:-1]).clamp_max(0.999)


def _grid(count: int) -> Tensor:
    """The falling times that a scheduler with "trailing" spacing visits in ``count`` evaluations,
    then 0.
    """
    good = count >= 1 and MOMENTS % count == 0
    require(good, "sampling", "evaluations", f"divisors of {MOMENTS}", count)
    visited = moments().flip(0)[:: MOMENTS // count]
    return torch.cat([visited, visited.new_zeros(1)]).float()


def ours(name: str, count: int) -> Callable:
    """Our sampler on the times of the discrete schedule, with a sampler's arguments (its ``times``
    are not used).
    """
    sampler, times = SAMPLERS[name], _grid(count)
    return lambda denoiser, x, _, *rest: sampler(denoiser, x, times, *rest)


@cache
def schedulers() -> dict[str, type]:
    """The schedulers of ``diffusers`` by our samplers' names; none where it is not installed.

    Its modules load as they are asked for, which two threads must not do at once: ``sides`` asks
    first.
    """
    if not find_spec("diffusers"):
        return {}
    with warnings.catch_warnings():  # it wants widgets for progress bars that nobody asks of it
        warnings.simplefilter("ignore")
        import diffusers

        return {name: getattr(diffusers, kind) for name, (kind, _) in THEIRS.items()}


def theirs(name: str, count: int) -> Callable:
    """The scheduler of ``diffusers`` with a sampler's arguments; it asks the denoiser at the same
    times.

    Raises:
        KeyError: where ``diffusers`` is not installed.
    """
    options = THEIRS[name][1] | {"prediction_type": "sample", "timestep_spacing": "trailing"}
    scheduler, times = schedulers()[name](trained_betas=betas().numpy(), **options), _grid(count)

    @torch.no_grad()
    def sampler(
        denoiser: Callable,
        x: Tensor,
        _times: Any,
        _schedule: Any,
        _prediction: str,
        generator: torch.Generator,
    ) -> Tensor:
        scheduler.set_timesteps(count)
        for number, t in zip(scheduler.timesteps, times, strict=False):
            x = scheduler.step(denoiser(x, t), number, x, generator=generator).prev_sample
        return x

    return sampler


def sides() -> dict[str, Callable]:
    """Who samples on the discrete schedule: we, and ``diffusers`` where it is installed."""
    return {"ours": ours} | ({"diffusers": theirs} if schedulers() else {})


def law_error(run: Run, z: Tensor, combination: Tensor) -> float:
    """Energy distance of samples ``(n, D)`` to as many true points of the same combination, mean
    over combinations.
    """
    real = run.seed_data.world.sample(combination, stream(run.row.seed, "reference"), "test")
    parts = [combination == c for c in combination.unique()]
    return float(np.mean([energy_distance(z[part].double(), real[part]) for part in parts]))


def sampling_errors(
    table: pd.DataFrame,
    trained: Trained,
    settings: TrainingSettings,
    evaluations: Sequence[int],
    progress: Progress,
) -> pd.DataFrame:
    """Error and seconds of every sampler, side and number of evaluations: one row a run.

    The side "ours, own times" is what the experiments use: times even in the log signal-to-noise
    ratio.  "real" are true points, the floor.  Ancestral sampling also takes ``MOMENTS``
    evaluations.
    """
    samplings = [(name, count) for count in evaluations for name in SAMPLERS] + [
        ("ancestral", MOMENTS)
    ]
    makers = {**sides(), "ours, own times": lambda name, count: SAMPLERS[name]}

    def one(job: tuple) -> list[tuple]:
        row, parameters = job
        run = Run(row, settings)
        every = torch.arange(len(run.seed_data.world.combinations))
        combination = every.repeat_interleave(settings.n_eval)
        real = run.seed_data.world.sample(combination, stream(row.seed, "floor"), "test")
        rows = [("real", "", 0, row.seed, law_error(run, real, combination), math.nan)]
        for (name, count), (side, make) in itertools.product(samplings, makers.items()):
            sampler, start = make(name, count), time.perf_counter()
            z = run.generate(parameters, combination, count, sampler)
            seconds = time.perf_counter() - start
            rows.append((name, side, count, row.seed, law_error(run, z, combination), seconds))
            bar.update()
        return rows

    with progress(
        total=len(table) * len(samplings) * len(makers), desc="sampling", unit="samplings"
    ) as bar:
        found = side_by_side(
            one, zip(table.itertuples(index=False), trained.parameters, strict=True)
        )
    columns = ["sampler", "side", "evaluations", "seed", "error", "seconds"]
    return pd.DataFrame(itertools.chain.from_iterable(found), columns=columns).assign(device="cpu")


def evaluation_turns(
    row: tuple, parameters: Tensor, settings: TrainingSettings, count: int, samples: int, turns: int
) -> pd.DataFrame:
    """Every sampler of either side takes turns on one network: ``race``'s table, rates in
    evaluations a second, on one thread.
    """
    run = Run(row, settings)
    combination = torch.arange(samples) % len(run.seed_data.world.combinations)
    denoiser = run.predict(
        parameters, run.conditioning.sample(combination, stream(row.seed, "condition")).float()
    )
    noise = torch.randn(samples, run.dimension, generator=stream(row.seed, "start"))

    def contestant(sampler: Callable) -> Contestant:
        given = denoiser, noise, None, SCHEDULE, "sample"
        return beside([lambda _: sampler(*given, stream(row.seed, "noise"))])

    entrants = {
        f"{name}|{side}": (contestant(make(name, count)), count, count)
        for name in SAMPLERS
        for side, make in sides().items()
    }
    found = race(entrants, turns)
    found[["sampler", "side"]] = found["contestant"].str.split("|", expand=True).to_numpy()
    return found.drop(columns="contestant").assign(samples=samples, device="cpu")


def evaluation_ratios(turns: pd.DataFrame) -> pd.DataFrame:
    """Our seconds an evaluation over those of ``diffusers``, turn by turn: one row a sampler and
    number of samples, none without it.
    """
    rows = []
    for (sampler, samples), table in turns.groupby(["sampler", "samples"], sort=False):
        wide = table.pivot(index="turn", columns="side", values="seconds")
        if "diffusers" in wide:
            found = (wide["ours"] / wide["diffusers"]).quantile([0.5, 0.25, 0.75])
            rows.append((sampler, samples, "cpu", *found))
    return pd.DataFrame(rows, columns=["sampler", "samples", "device", "median", "low", "high"])
