"""What the experiment's parts have in common in every world: run tables, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.diffusion import dpmpp_2m
from gmmdiff.study.engine.evaluation import by_group, by_step, evaluate, floor
from gmmdiff.study.engine.parallel.threads import Workers
from gmmdiff.study.engine.runs import COLUMNS, Progress, Recipe, Run, run_table
from gmmdiff.study.engine.training import Trained

ANCESTRAL_STEPS = 1000
MEASURED = ("group", "metric", "value")
COMPARED = ("class", "feature")
MOMENTS = (1, 0.9, 0.75, 0.5, 0.25)  # times at which the reverse diffusion is shown


def arms_table(
    arms: Mapping[str, Sequence[float]], n_train: Sequence[int], steps: Sequence[int], **alike: Any
) -> pd.DataFrame:
    """The runs of every arm, a granularity with its scales, at every n_train and length.

    Args:
        alike: further arguments of ``run_table``.
    """
    tables = [
        run_table([name], s_c, n_train, steps=steps, **alike) for name, s_c in arms.items() if s_c
    ]
    return pd.concat(tables, ignore_index=True)


def with_arms(sweep: pd.DataFrame, arms: pd.DataFrame, factor: str) -> pd.DataFrame:
    """A sweep's runs and, for its seeds, those of the arms that differ in ``factor`` alone."""
    same = [name for name in COLUMNS if name != factor]
    alike = arms.merge(sweep[same].drop_duplicates(), on=same)
    return pd.concat([sweep, alike[arms.columns]], ignore_index=True)


def measure(
    rows: pd.DataFrame, trained: Trained, recipe: Recipe, progress: Progress, workers: Workers
) -> dict[str, pd.DataFrame]:
    """What trained runs are worth: tables by name.

    ``runs``: one row a run, condition (drawn, and for mixtures also at the mean), group of
    combinations and metric, the floor and whether a run diverged among them. ``places``: defects by
    combination. ``losses``: the training curves.
    """
    found = evaluate(rows, trained, recipe, progress, workers=workers)
    places = found[found["metric"] == "defect"].drop(columns="metric")
    mixtures = (rows["s_c"] > 0).to_numpy()
    measured = [by_group(pd.concat([found, floor(rows, recipe)])).assign(condition="drawn")]
    if mixtures.any():
        chosen = rows[mixtures], only(trained, mixtures)
        at_mean = evaluate(*chosen, recipe, progress, at_mean=True, workers=workers)
        measured.append(by_group(at_mean).assign(condition="mean"))
    all_of = {"condition": "drawn", "group": "all", "metric": "diverged"}
    measured.append(rows.assign(**all_of, value=trained.diverged.double().numpy()))
    return {
        "runs": pd.concat(measured, ignore_index=True)[[*COLUMNS, "condition", *MEASURED]],
        "places": places.groupby(
            ["granularity", "s_c", "n_train", "steps", "place", "group"], sort=False, as_index=False
        )["value"].mean(),
        "losses": by_step(rows, loss=trained.losses),
    }


def only(trained: Trained, keep: np.ndarray) -> Trained:
    """Some of the runs, of which the weights alone are used."""
    return trained._replace(parameters=trained.parameters[torch.tensor(keep)])


def conditions(rows: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """What the arms' conditions are, at the first seed: one row a granularity and s_c.

    Columns: dim, norm (of the means), gap (between two that the arm tells apart), noise (standard
    deviation of a coordinate).
    """
    found = []
    for row in rows.drop_duplicates(["granularity", "s_c"]).itertuples(index=False):
        arm = Run(row, recipe).conditioning
        told = {"dim": arm.dim, "norm": float(arm.means[0].norm()), "gap": arm.gap}
        found.append({"granularity": row.granularity, "s_c": row.s_c, **told, "noise": arm.scale})
    return pd.DataFrame(found)


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

    z = run.generate(parameters, combination, run.recipe.evaluations, watched)
    moments = [min(seen, key=lambda moment: abs(moment[0] - t)) for t in MOMENTS]
    return [*moments, (0.0, (z - run.recipe.centre) / run.data[2])]
