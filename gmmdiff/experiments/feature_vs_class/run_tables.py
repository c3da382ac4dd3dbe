"""What the experiment's parts have in common in every world: run tables, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.diffusion import dpmpp_2m
from gmmdiff.engine.evaluation import evaluate, validation_curves, validation_results
from gmmdiff.engine.runs import Progress, Run, SeedData, TrainingSettings, run_table
from gmmdiff.engine.threads import Workers
from gmmdiff.engine.training import Trained

COMPARED = ("class", "feature")
POINT = 0.0  # the s_c of an ordinary fixed embedding
DENSE = 30  # training samples of the average combination seen, from which a regime is called so
MOMENTS = (1, 0.9, 0.75, 0.5, 0.25)  # times at which the reverse diffusion is shown
RunTables = dict[str, tuple[pd.DataFrame, TrainingSettings]]  # run tables and settings by name


def judged(
    n_train: int,
    steps: int,
    mixture_steps: int,
    s_c: float,
    attributes: int,
    learning_rate: float,
    seeds: int,
    control_seeds: int,
    seed: int,
    controls: Sequence[str] = (),
) -> pd.DataFrame:
    """Class and feature, points and mixtures of scale ``s_c``, and the ``controls`` as points, with
    ``seeds``; with ``control_seeds`` no condition, and classes whose mixtures are scaled by their
    own smallest distance, which is sqrt(``attributes``) times that of features.

    Args:
        steps, mixture_steps: of the training, with point and with mixture conditions, which learn
            more slowly; features and classes have the same.

    Raises:
        ValueError: on s_c <= 0, or more control seeds than seeds.
    """
    require(s_c > 0, "run table", "s_c", "> 0, the scale of mixtures beside points", s_c)
    good, allowed = 1 <= control_seeds <= seeds, f"in 1 .. seeds, which is {seeds}"
    require(good, "run table", "control_seeds", allowed, control_seeds)
    arms = [
        ([*COMPARED, *controls], POINT, steps, seeds),
        (COMPARED, s_c, mixture_steps, seeds),
        (["none"], POINT, steps, control_seeds),
        (["class"], s_c * attributes**0.5, mixture_steps, control_seeds),
    ]
    tables = [
        run_table(names, [scale], [n_train], [learning_rate], [length], count, seed)
        for names, scale, length, count in arms
    ]
    return pd.concat(tables, ignore_index=True)


def regime(n_train: int, settings: TrainingSettings) -> str:
    """How many training samples a combination has: dense or sparse."""
    return "dense" if n_train >= DENSE * len(SeedData(0, settings).seen) else "sparse"


def with_place(table: pd.DataFrame, settings: TrainingSettings) -> pd.DataFrame:
    """The table with the regime of its n_train and the number m of attributes, before the columns
    that say what was measured.
    """
    regimes = {n: regime(n, settings) for n in table["n_train"].unique()}
    at = table.columns.get_loc("seed") + 1
    table = table.copy()
    table.insert(at, "regime", table["n_train"].map(regimes))
    table.insert(at + 1, "attributes", SeedData(0, settings).world.combinations.shape[1])
    return table


def measure(
    rows: pd.DataFrame,
    trained: Trained,
    settings: TrainingSettings,
    progress: Progress,
    workers: Workers,
) -> dict[str, pd.DataFrame]:
    """What trained runs are worth: tables by name, both ``with_place``.

    ``runs``: one row a run, condition (drawn, and for mixtures also at the mean), group of
    combinations and metric, the floor among them, and of the group "all" what the validation says.
    ``validation``: the validation curves.
    """
    both = ("drawn", "mean")
    found = evaluate(rows, trained.parameters, settings, progress, conditions=both, workers=workers)
    found = pd.concat([found, validation_results(rows, trained)], ignore_index=True)
    curves = validation_curves(rows, trained)
    return {"runs": with_place(found, settings), "validation": with_place(curves, settings)}


def conditions(rows: pd.DataFrame, settings: TrainingSettings) -> pd.DataFrame:
    """What the arms' conditions are, at the first seed: one row a granularity and s_c.

    Columns: dim, norm (of the means), gap (between two that the arm tells apart), noise (standard
    deviation of a coordinate).
    """
    found = []
    for row in rows.drop_duplicates(["granularity", "s_c"]).itertuples(index=False):
        arm = Run(row, settings).conditioning
        told = {"dim": arm.dim, "norm": float(arm.means[0].norm()), "gap": arm.gap}
        found.append({"granularity": row.granularity, "s_c": row.s_c, **told, "noise": arm.scale})
    return pd.DataFrame(found)


def first_seed(rows: pd.DataFrame, s_c: float, granularity: str | None = None) -> list[int]:
    """The numbers of the first seed's rows with this s_c, of one granularity or of all."""
    chosen = (rows["seed"] == rows["seed"].iloc[0]) & (rows["s_c"] == s_c)
    if granularity is not None:
        chosen &= rows["granularity"] == granularity
    return chosen.to_numpy().nonzero()[0].tolist()


def run_of(rows: pd.DataFrame, number: int, settings: TrainingSettings) -> Run:
    """One row of a run table, with what it is made of."""
    return Run(next(rows.iloc[[number]].itertuples(index=False)), settings)


def reverse_diffusion(
    run: Run, parameters: Tensor, combination: Tensor
) -> list[tuple[float, Tensor]]:
    """x_t ``(n, D)`` as the network sees it along the sampler, by time, and the samples at 0.

    Args:
        parameters: the denoiser's weights, ``(count,)``.
        combination: asked for, ``(n,)``.
    """
    seen: list[tuple[float, Tensor]] = []

    def watched(denoise: Callable, x: Tensor, times: Tensor, *rest: Any) -> Tensor:
        def look(x_t: Tensor, t: Tensor) -> Tensor:  # what the sampler asks the denoiser
            seen.append((float(t), x_t))
            return denoise(x_t, t)

        return dpmpp_2m(look, x, times, *rest)

    z = run.generate(parameters, combination, run.settings.evaluations, watched)
    moments = [min(seen, key=lambda moment: abs(moment[0] - t)) for t in MOMENTS]
    return [*moments, (0.0, (z - run.settings.centre) / run.data[2])]
