"""The experiment on the arcs: its run table, and what it leaves behind."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.diffusion import ancestral, dpmpp_2m
from gmmdiff.engine.evaluation import evaluate
from gmmdiff.engine.runs import COLUMNS, Progress, Run, TrainingSettings
from gmmdiff.engine.threads import Workers, side_by_side
from gmmdiff.engine.training import Trained, train
from gmmdiff.experiments.feature_vs_class.run_tables import (
    COMPARED,
    POINT,
    RunTables,
    conditions,
    first_seed,
    judged,
    measure,
    reverse_diffusion,
    run_of,
)
from gmmdiff.worlds.arcs import Arcs
from gmmdiff.worlds.world import find_defects

ANCESTRAL_STEPS = 1000


def parts(
    n_train: int,
    steps: int,
    s_c: float,
    learning_rate: float,
    seeds: int,
    control_seeds: int,
    seed: int,
    dimension: int,
    **network: Any,
) -> RunTables:
    """The one run table, ``judged``, and its settings.

    Args:
        network: further fields of ``TrainingSettings``.
    """
    settings, m = TrainingSettings(partial(Arcs, dimension), **network), 4
    rows = judged(n_train, steps, steps, s_c, m, learning_rate, seeds, control_seeds, seed)
    return {"judged": (rows, settings)}


def run_part(
    rows: pd.DataFrame,
    settings: TrainingSettings,
    device: str,
    progress: Progress,
    workers: Workers = side_by_side,
) -> dict[str, pd.DataFrame]:
    """Trains the runs and measures them: tables by name, see ``runs.measure``; with samples of the
    first seed, a strip of the reverse diffusion, the arms' conditions, the check of the sampler.
    """
    trained = train(rows, settings, device, progress, workers=workers)
    return measure(rows, trained, settings, progress, workers) | {
        "pictures": pictures(rows, trained, settings),
        "strip": reverse_strip(rows, trained, settings),
        "arms": conditions(rows, settings),
        "samplers": compare_samplers(rows, trained, settings, progress, workers),
    }


def _plane(run: Run, z: Tensor) -> dict[str, Tensor]:
    flat = z.double() @ run.seed_data.world.frame[:, :2]
    return {"x": flat[:, 0], "y": flat[:, 1]}


def pictures(
    rows: pd.DataFrame, trained: Trained, settings: TrainingSettings, n: int = 24
) -> pd.DataFrame:
    """Samples of the first seed's points in the arcs' plane, n a combination."""
    tables = []
    for number in first_seed(rows, POINT):
        run = run_of(rows, number, settings)
        world = run.seed_data.world
        combination = torch.arange(len(world.combinations)).repeat_interleave(n)
        z = run.generate(trained.parameters[number], combination, settings.evaluations)
        judged_as = world.judge(z.double())
        admitted = run.conditioning.admitted
        flags = find_defects(judged_as.combination, judged_as.malformed, combination, admitted)
        table = pd.DataFrame({**_plane(run, z), "combination": combination, "defect": flags.defect})
        table["held_out"] = torch.isin(combination, run.seed_data.held_out).numpy()
        tables.append(table.assign(granularity=run.row.granularity, s_c=POINT, seed=run.row.seed))
    return pd.concat(tables, ignore_index=True)


def reverse_strip(
    rows: pd.DataFrame, trained: Trained, settings: TrainingSettings, n: int = 60
) -> pd.DataFrame:
    """x_t along the sampler as the network sees it, in the arcs' plane: the feature arm's points,
    first seed.
    """
    (number,) = first_seed(rows, POINT, "feature")
    run = run_of(rows, number, settings)
    combination = torch.arange(len(run.seed_data.world.combinations)).repeat_interleave(n)
    moments = reverse_diffusion(run, trained.parameters[number], combination)
    return pd.concat(
        [pd.DataFrame({"t": t, **_plane(run, x), "combination": combination}) for t, x in moments],
        ignore_index=True,
    )


def compare_samplers(
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
        found = evaluate(rows, parameters, settings, progress, sampler, count, workers=workers)
        found = found[(found["group"] == "seen") & found["metric"].isin(["defect", "law"])]
        found = found[found["granularity"] != "real"][[*COLUMNS, "metric", "value"]]
        tables.append(found.assign(sampler=name, evaluations=count))
    return pd.concat(tables, ignore_index=True)
