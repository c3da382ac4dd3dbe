"""What is measured of trained runs, alike in every world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.diffusion import adams_bashforth_moulton, ancestral, dpmpp_2m
from gmmdiff.engine.evaluation import evaluate, validation_curves, validation_results
from gmmdiff.engine.runs import COLUMNS, Progress, Run, SeedData, TrainingSettings
from gmmdiff.engine.threads import Workers, side_by_side
from gmmdiff.engine.training import Trained
from gmmdiff.experiments.feature_vs_class.arms import COMPARED
from gmmdiff.experiments.run_tables import regime

SAMPLERS = {"DPM-Solver++(2M)": dpmpp_2m, "Adams-Bashforth-Moulton": adams_bashforth_moulton}
SHARES = (0.3, 0.6, 1, 2)  # of the experiment's evaluations: those that samplers are tried with
ANCESTRAL = 10  # times these: with five or fifty times them it draws the same, see REPRODUCING.md
MOMENTS = (1, 0.9, 0.75, 0.5, 0.25)  # times at which the reverse diffusion is shown


class Part(NamedTuple):
    """Trained runs, and what it takes to measure them."""

    rows: pd.DataFrame
    settings: TrainingSettings
    trained: Trained
    progress: Progress
    workers: Workers = side_by_side

    def evaluate(self, parameters: Tensor, **options: Any) -> pd.DataFrame:
        """As ``evaluation.evaluate``, of these weights of the runs."""
        own = self.rows, parameters, self.settings, self.progress
        return evaluate(*own, workers=self.workers, **options)

    def first_seed(self) -> dict[int, Run]:
        """The first seed's runs by the numbers of their rows, points first; they share its data."""
        rows = self.rows.reset_index(drop=True)
        own = rows[rows["seed"] == rows["seed"].iloc[0]].sort_values("s_c", kind="stable")
        seed_data = SeedData(own["seed"].iloc[0], self.settings)
        runs = (Run(row, self.settings, seed_data) for row in own.itertuples(index=False))
        return dict(zip(own.index, runs, strict=True))

    def generate(self, number: int, run: Run, combination: Tensor, *sampler: Callable) -> Tensor:
        """Samples ``(n, D)`` of the run in row ``number`` for the combinations ``(n,)``."""
        evaluations = self.settings.evaluations
        return run.generate(self.trained.parameters[number], combination, evaluations, *sampler)


def _with_regime(table: pd.DataFrame, settings: TrainingSettings) -> pd.DataFrame:
    """The table with the regime of its n_train and the number m of attributes after the seed."""
    regimes = {n: regime(n, settings) for n in table["n_train"].unique()}
    after = table.columns.get_loc("seed") + 1
    table.insert(after, "regime", table["n_train"].map(regimes))
    table.insert(after + 1, "attributes", SeedData(0, settings).world.combinations.shape[1])
    return table


def measure(part: Part) -> dict[str, pd.DataFrame]:
    """What trained runs are worth: tables by name, both with regime and attributes.

    ``runs``: one row a run, condition (drawn, and for mixtures also at the mean), group of
    combinations and metric, the floor among them, and of the group "all" what the validation says.
    ``validation``: the validation curves.
    """
    runs = part.evaluate(part.trained.parameters, conditions=("drawn", "mean"))
    runs = pd.concat([runs, validation_results(part.rows, part.trained)], ignore_index=True)
    tables = {"runs": runs, "validation": validation_curves(part.rows, part.trained)}
    return {name: _with_regime(table, part.settings) for name, table in tables.items()}


def reverse_strip(
    part: Part, asked: Callable[[SeedData], Tensor], show: Callable[[Run, Tensor], pd.DataFrame]
) -> pd.DataFrame:
    """x_t along the sampler as the network sees it, and the samples at 0: of the first seed's
    feature arm, points; one row a sample and time, with the columns of ``show``, t and combination.

    Args:
        asked: the combinations ``(n,)`` that are asked for.
        show: x_t ``(n, D)`` -> n rows.
    """
    runs, seen = part.first_seed(), []
    number, run = next((n, run) for n, run in runs.items() if run.row.granularity == "feature")

    def watched(denoise: Callable, x: Tensor, times: Tensor, *rest: Any) -> Tensor:
        def look(x_t: Tensor, t: Tensor) -> Tensor:  # what the sampler asks the denoiser
            seen.append((float(t), x_t))
            return denoise(x_t, t)

        return dpmpp_2m(look, x, times, *rest)

    combination = asked(run.seed_data)
    z = part.generate(number, run, combination, watched)
    moments = [min(seen, key=lambda moment: abs(moment[0] - t)) for t in MOMENTS]
    moments.append((0.0, (z - part.settings.centre) / run.data[2]))
    tables = [show(run, x).assign(t=t, combination=combination) for t, x in moments]
    return pd.concat(tables, ignore_index=True)


def compare_samplers(part: Part) -> pd.DataFrame:
    """Defects, copies and law of seen combinations under every sampler at several numbers of
    evaluations, beside ancestral: of class and feature, points and mixtures of the features' scale,
    on the seeds of the controls.
    """
    rows = part.rows
    few = rows.loc[rows["granularity"] == "none", "seed"]
    scales = rows.loc[rows["granularity"] == "feature", "s_c"]
    keep = rows["granularity"].isin(COMPARED) & rows["s_c"].isin(scales) & rows["seed"].isin(few)
    own = part._replace(rows=rows[keep])
    parameters = part.trained.parameters[torch.tensor(keep.to_numpy())]
    counts = sorted({max(2, round(share * part.settings.evaluations)) for share in SHARES})
    tried = [(name, sampler, n) for name, sampler in SAMPLERS.items() for n in counts]
    tables = []
    tried.append(("ancestral", ancestral, ANCESTRAL * part.settings.evaluations))
    for name, sampler, n in tried:
        table = own.evaluate(parameters, sampler=sampler, evaluations=n)
        kept = (table["group"] == "seen") & table["metric"].isin(["defect", "copy", "law"])
        table = table[kept & (table["granularity"] != "real")][[*COLUMNS, "metric", "value"]]
        tables.append(table.assign(sampler=name, evaluations=n))
    return pd.concat(tables, ignore_index=True)
