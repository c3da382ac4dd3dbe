"""What is measured of trained runs, alike in every world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from torch import Tensor

from gmmdiff.core.diffusion import dpmpp_2m
from gmmdiff.engine.evaluation import evaluate, validation_curves, validation_results
from gmmdiff.engine.runs import Progress, Run, SeedData, TrainingSettings
from gmmdiff.engine.threads import Workers
from gmmdiff.engine.training import Trained
from gmmdiff.experiments.run_tables import regime

MOMENTS = (1, 0.9, 0.75, 0.5, 0.25)  # times at which the reverse diffusion is shown


def _with_regime(table: pd.DataFrame, settings: TrainingSettings) -> pd.DataFrame:
    """The table with the regime of its n_train and the number m of attributes after the seed."""
    regimes = {n: regime(n, settings) for n in table["n_train"].unique()}
    after = table.columns.get_loc("seed") + 1
    table.insert(after, "regime", table["n_train"].map(regimes))
    table.insert(after + 1, "attributes", SeedData(0, settings).world.combinations.shape[1])
    return table


def measure(
    rows: pd.DataFrame,
    trained: Trained,
    settings: TrainingSettings,
    progress: Progress,
    workers: Workers,
) -> dict[str, pd.DataFrame]:
    """What trained runs are worth: tables by name, both with regime and attributes.

    ``runs``: one row a run, condition (drawn, and for mixtures also at the mean), group of
    combinations and metric, the floor among them, and of the group "all" what the validation says.
    ``validation``: the validation curves.
    """
    both = ("drawn", "mean")
    runs = evaluate(rows, trained.parameters, settings, progress, conditions=both, workers=workers)
    runs = pd.concat([runs, validation_results(rows, trained)], ignore_index=True)
    curves = validation_curves(rows, trained)
    return {"runs": _with_regime(runs, settings), "validation": _with_regime(curves, settings)}


def first_seed(rows: pd.DataFrame, settings: TrainingSettings) -> dict[int, Run]:
    """The first seed's runs by the numbers of their rows, points first; they share its data."""
    seed = rows["seed"].iloc[0]
    seed_data = SeedData(seed, settings)
    own = [(n, row) for n, row in enumerate(rows.itertuples(index=False)) if row.seed == seed]
    own.sort(key=lambda numbered: numbered[1].s_c)
    return {n: Run(row, settings, seed_data) for n, row in own}


def reverse_strip(
    rows: pd.DataFrame,
    trained: Trained,
    settings: TrainingSettings,
    asked: Callable[[SeedData], Tensor],
    show: Callable[[Run, Tensor], pd.DataFrame],
) -> pd.DataFrame:
    """x_t along the sampler as the network sees it, and the samples at 0: of the first seed's
    feature arm, points; one row a sample and time, with the columns of ``show``, t and combination.

    Args:
        asked: the combinations ``(n,)`` that are asked for.
        show: x_t ``(n, D)`` -> n rows.
    """
    runs = first_seed(rows, settings)
    number = next(n for n, run in runs.items() if run.row.granularity == "feature")
    run, seen = runs[number], []

    def watched(denoise: Callable, x: Tensor, times: Tensor, *rest: Any) -> Tensor:
        def look(x_t: Tensor, t: Tensor) -> Tensor:  # what the sampler asks the denoiser
            seen.append((float(t), x_t))
            return denoise(x_t, t)

        return dpmpp_2m(look, x, times, *rest)

    combination = asked(run.seed_data)
    z = run.generate(trained.parameters[number], combination, settings.evaluations, watched)
    moments = [min(seen, key=lambda moment: abs(moment[0] - t)) for t in MOMENTS]
    moments.append((0.0, (z - settings.centre) / run.data[2]))
    tables = [show(run, x).assign(t=t, combination=combination) for t, x in moments]
    return pd.concat(tables, ignore_index=True)
