"""The experiment on the arcs: its run table, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.diffusion import ancestral, dpmpp_2m
from gmmdiff.engine.evaluation import evaluate
from gmmdiff.engine.runs import COLUMNS, Progress, Run, SeedData, TrainingSettings
from gmmdiff.engine.threads import Workers, side_by_side
from gmmdiff.engine.training import Trained, train
from gmmdiff.experiments.feature_vs_class.arms import COMPARED, POINT, conditions, judged_arms
from gmmdiff.experiments.feature_vs_class.measuring import first_seed, measure, reverse_strip
from gmmdiff.experiments.run_tables import RunTables, checked, settings_of
from gmmdiff.worlds.arcs import Arcs
from gmmdiff.worlds.world import find_defects

ANCESTRAL_STEPS = 1000
ATTRIBUTES = 4


def run_tables(parameters: Mapping[str, Any]) -> RunTables:
    """The one run table, ``judged``, see ``judged_arms``, and its settings.

    Args:
        parameters: as notebooks/02a_feature_vs_class_runs.ipynb declares them.

    Raises:
        ValueError: as ``checked``.
    """
    p = SimpleNamespace(**parameters)
    world = partial(Arcs, p.dimension)
    settings = settings_of(parameters, world=world, held_out=p.held_out, rare=p.rare)
    rows = judged_arms(p, p.n_train, p.learning_rate, p.steps, p.steps, ATTRIBUTES)
    return checked("feature_vs_class", {"judged": (rows, settings)}, ["dense"])


def run_part(
    rows: pd.DataFrame,
    settings: TrainingSettings,
    device: str,
    progress: Progress,
    workers: Workers = side_by_side,
) -> dict[str, pd.DataFrame]:
    """Trains the runs and measures them: tables by name, see ``measure``; also the ``arms``, see
    ``conditions``, samples of the first seed, its reverse diffusion, and the check of the sampler.
    """
    trained = train(rows, settings, device, progress, workers=workers)
    return measure(rows, trained, settings, progress, workers) | {
        "arms": conditions(rows, settings),
        "pictures": _pictures(rows, trained, settings),
        "strip": reverse_strip(rows, trained, settings, partial(_every, n=60), _plane)[
            ["t", "x", "y", "combination"]
        ],
        "samplers": _compare_samplers(rows, trained, settings, progress, workers),
    }


def _every(seed_data: SeedData, n: int) -> Tensor:
    """Every combination n times."""
    return torch.arange(len(seed_data.world.combinations)).repeat_interleave(n)


def _plane(run: Run, z: Tensor) -> pd.DataFrame:
    """Points ``(n, D)`` in the arcs' plane: x and y."""
    return pd.DataFrame((z.double() @ run.seed_data.world.frame[:, :2]).numpy(), columns=["x", "y"])


def _pictures(rows: pd.DataFrame, trained: Trained, settings: TrainingSettings) -> pd.DataFrame:
    """Samples of the first seed's points in the arcs' plane, 24 a combination."""
    tables = []
    for number, run in first_seed(rows, settings).items():
        if run.row.s_c != POINT:
            continue
        combination = _every(run.seed_data, 24)
        z = run.generate(trained.parameters[number], combination, settings.evaluations)
        judged = run.seed_data.world.judge(z.double())
        admitted = run.conditioning.admitted
        flags = find_defects(judged.combination, judged.malformed, combination, admitted)
        table = _plane(run, z).assign(combination=combination, defect=flags.defect)
        table["held_out"] = torch.isin(combination, run.seed_data.held_out).numpy()
        tables.append(table.assign(granularity=run.row.granularity, s_c=POINT, seed=run.row.seed))
    return pd.concat(tables, ignore_index=True)


def _compare_samplers(
    rows: pd.DataFrame,
    trained: Trained,
    settings: TrainingSettings,
    progress: Progress,
    workers: Workers,
) -> pd.DataFrame:
    """Defects and law of seen combinations under DPM-Solver++(2M) with several numbers of
    evaluations, and ancestral: one row a run, metric, sampler and number of evaluations.

    Of class and feature as points, on the seeds of the controls.
    """
    few = rows.loc[rows["granularity"] == "none", "seed"]
    keep = rows["granularity"].isin(COMPARED) & (rows["s_c"] == POINT) & rows["seed"].isin(few)
    rows, parameters = rows[keep], trained.parameters[torch.tensor(keep.to_numpy())]
    samplings = [
        ("DPM-Solver++(2M)", dpmpp_2m, count * settings.evaluations // 4) for count in (1, 2, 4, 8)
    ]
    tables = []
    for name, sampler, count in [*samplings, ("ancestral", ancestral, ANCESTRAL_STEPS)]:
        table = evaluate(rows, parameters, settings, progress, sampler, count, workers=workers)
        kept = (table["group"] == "seen") & table["metric"].isin(["defect", "law"])
        table = table[kept & (table["granularity"] != "real")][[*COLUMNS, "metric", "value"]]
        tables.append(table.assign(sampler=name, evaluations=count))
    return pd.concat(tables, ignore_index=True)
