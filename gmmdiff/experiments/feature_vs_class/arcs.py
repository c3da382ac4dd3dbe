"""The experiment on the arcs: its run table, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.engine.runs import Progress, Run, SeedData, TrainingSettings
from gmmdiff.engine.threads import Workers, side_by_side
from gmmdiff.engine.training import train
from gmmdiff.experiments.feature_vs_class.arms import POINT, conditions, judged_arms
from gmmdiff.experiments.feature_vs_class.measuring import (
    Part,
    compare_samplers,
    measure,
    reverse_strip,
)
from gmmdiff.experiments.run_tables import RunTables, checked, settings_of
from gmmdiff.worlds.arcs import Arcs
from gmmdiff.worlds.world import find_defects

ATTRIBUTES = 4


def run_tables(parameters: Mapping[str, Any]) -> RunTables:
    """The one run table, ``judged``, see ``judged_arms``, and its settings.

    Args:
        parameters: as notebooks/02a_feature_vs_class_runs.ipynb declares them.

    Raises:
        ValueError: as ``checked``.
    """
    p = SimpleNamespace(**parameters)
    own = {"world": partial(Arcs, p.dimension), "held_out": p.held_out, "rare": p.rare}
    rows = judged_arms(p, p.n_train, p.learning_rate, p.steps, p.steps, ATTRIBUTES)
    tables = {"judged": (rows, settings_of(parameters, **own))}
    return checked("feature_vs_class", tables, ["dense"])


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
    part = Part(rows, settings, trained, progress, workers)
    strip = reverse_strip(part, partial(_every, n=60), _plane)
    return measure(part) | {
        "arms": conditions(rows, settings),
        "pictures": _pictures(part),
        "strip": strip[["t", "x", "y", "combination"]],
        "samplers": compare_samplers(part),
    }


def _every(seed_data: SeedData, n: int) -> Tensor:
    """Every combination n times."""
    return torch.arange(len(seed_data.world.combinations)).repeat_interleave(n)


def _plane(run: Run, z: Tensor) -> pd.DataFrame:
    """Points ``(n, D)`` in the arcs' plane: x and y."""
    return pd.DataFrame((z.double() @ run.seed_data.world.frame[:, :2]).numpy(), columns=["x", "y"])


def _pictures(part: Part) -> pd.DataFrame:
    """Samples of the first seed's points in the arcs' plane, 24 a combination."""
    tables = []
    for number, run in part.first_seed().items():
        if run.row.s_c != POINT:
            continue
        combination = _every(run.seed_data, 24)
        z = part.generate(number, run, combination)
        judged = run.seed_data.world.judge(z.double())
        admitted = run.conditioning.admitted
        flags = find_defects(judged.combination, judged.malformed, combination, admitted)
        table = _plane(run, z).assign(combination=combination, defect=flags.defect)
        table["held_out"] = torch.isin(combination, run.seed_data.held_out).numpy()
        tables.append(table.assign(granularity=run.row.granularity, s_c=POINT, seed=run.row.seed))
    return pd.concat(tables, ignore_index=True)
