"""The feature-versus-class experiment: its run tables, and what each of its parts leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.diffusion import ancestral, dpmpp_2m
from gmmdiff.study.engine.evaluation import by_group, by_step, evaluate, floor
from gmmdiff.study.engine.parallel.threads import Workers, side_by_side
from gmmdiff.study.engine.runs import COLUMNS, Progress, Recipe, Run, run_table
from gmmdiff.study.engine.training import Trained, train
from gmmdiff.worlds.defects import find_defects

ANCESTRAL_STEPS = 1000
MEASURED = ("group", "metric", "value")


def _tables(
    arms: Mapping[str, Sequence[float]], n_train: Sequence[int], steps: Sequence[int], **alike: Any
) -> pd.DataFrame:
    """Every arm, a granularity with its scales, at every n_train and length."""
    tables = [
        run_table([name], s_c, n_train, steps=steps, **alike) for name, s_c in arms.items() if s_c
    ]
    return pd.concat(tables, ignore_index=True)


def parts(
    s_c: Sequence[float],
    n_train: Sequence[int],
    learning_rate: float,
    steps: Sequence[int],
    seeds: int,
    first_seed: int,
    swept_s_c: Sequence[float],
    swept_steps: Sequence[int],
    swept_seeds: int,
) -> dict[str, pd.DataFrame]:
    """Run tables by name, each trained and kept by itself.

    One part for each n_train, of so many steps, holds every arm, what no claim judges with
    ``swept_seeds``; controls stand as points alone.  With that many seeds: ``steps``, what the
    claims compare at twice the steps of every n_train, and class and feature at the largest one
    with fewer; ``v_prediction``, these fewer once more, for networks that predict v; ``s_c``, class
    and feature at the largest n_train with other scales.  Levels that the arms hold anyway are left
    out.
    """
    owner = "feature_vs_class"
    good = len(set(n_train)) == len(n_train) == len(steps)
    allowed = "distinct sizes, and one number of steps for each"
    require(good, owner, "n_train, steps", allowed, f"{list(n_train)}, {list(steps)}")
    allowed = "0 (point) and at least one larger scale (mixture)"
    require(min(s_c) == 0 < max(s_c), owner, "s_c", allowed, s_c)
    length, largest = dict(zip(n_train, steps, strict=True)), max(n_train)
    allowed = f"below {length[largest]}, the steps of the largest n_train"
    good = len(swept_steps) > 0 and max(swept_steps) < length[largest]
    require(good, owner, "swept_steps", allowed, swept_steps)
    other_s_c = [scale for scale in swept_s_c if scale not in s_c]
    allowed = f"at least one scale beside s_c = {s_c}"
    require(len(other_s_c) > 0, owner, "swept_s_c", allowed, swept_s_c)
    good, allowed = 1 <= swept_seeds <= seeds, f"in 1 .. seeds = {seeds}"
    require(good, owner, "swept_seeds", allowed, swept_seeds)
    alike = {"learning_rate": [learning_rate], "first_seed": first_seed}
    few, compared = {**alike, "seeds": swept_seeds}, ("class", "feature")
    judged = dict.fromkeys(("coarse", *compared), s_c)
    arms, beside = judged | {"scrambled": [0.0]}, {"none": [0.0], "shared": [0.0]}
    found, both = {}, dict.fromkeys(compared, s_c)
    for n in sorted(n_train):
        tables = [_tables(arms, [n], [length[n]], seeds=seeds, **alike)]
        tables.append(_tables(beside, [n], [length[n]], **few))
        found[str(n)] = pd.concat(tables, ignore_index=True)
    others = dict.fromkeys(compared, other_s_c)
    found["s_c"] = _tables(others, [largest], [length[largest]], **few)
    longer = [_tables(judged, [n], [2 * length[n]], **few) for n in sorted(n_train)]
    shorter = _tables(both, [largest], swept_steps, **few)
    found["steps"] = pd.concat([*longer, shorter], ignore_index=True)
    found["v_prediction"] = shorter
    return found


def recipe_of(part: str, recipe: Recipe) -> Recipe:
    """The recipe by which a part trains."""
    return replace(recipe, prediction="v_prediction") if part == "v_prediction" else recipe


def with_arms(sweep: pd.DataFrame, arms: pd.DataFrame, factor: str) -> pd.DataFrame:
    """A sweep's runs and, for its seeds, those of the arms that differ in ``factor`` alone."""
    same = [name for name in COLUMNS if name != factor]
    alike = arms.merge(sweep[same].drop_duplicates(), on=same)
    return pd.concat([sweep, alike[arms.columns]], ignore_index=True)


def run_part(
    rows: pd.DataFrame,
    recipe: Recipe,
    device: str,
    progress: Progress,
    closely: bool,
    workers: Workers = side_by_side,
) -> dict[str, pd.DataFrame]:
    """Trains one part and measures it: tables by name.

    ``runs``: one row a run, condition (drawn, and for mixtures also at the mean), group of
    combinations and metric, the floor and whether a run diverged among them. ``places``: defects by
    combination. ``losses``: the training curves. ``closely`` adds a picture of the samples of the
    first seed, a strip of the reverse diffusion and the check of the sampler.
    """
    trained = train(rows, recipe, device, progress, workers=workers)
    found = evaluate(rows, trained, recipe, progress, workers=workers)
    places = found[found["metric"] == "defect"].drop(columns="metric")
    mixtures = (rows["s_c"] > 0).to_numpy()
    measured = [by_group(pd.concat([found, floor(rows, recipe)])).assign(condition="drawn")]
    if mixtures.any():
        chosen = rows[mixtures], _only(trained, mixtures)
        at_mean = evaluate(*chosen, recipe, progress, at_mean=True, workers=workers)
        measured.append(by_group(at_mean).assign(condition="mean"))
    all_of = {"condition": "drawn", "group": "all", "metric": "diverged"}
    measured.append(rows.assign(**all_of, value=trained.diverged.double().numpy()))
    tables = {
        "runs": pd.concat(measured, ignore_index=True)[[*COLUMNS, "condition", *MEASURED]],
        "places": places.groupby(
            ["granularity", "s_c", "n_train", "steps", "place", "group"], sort=False, as_index=False
        )["value"].mean(),
        "losses": by_step(rows, loss=trained.losses),
    }
    if closely:
        tables |= {
            "pictures": pictures(rows, trained, recipe),
            "strip": reverse_strip(rows, trained, recipe),
            "samplers": compare_samplers(rows, trained, recipe, progress, workers),
        }
    return tables


def _only(trained: Trained, keep: np.ndarray) -> Trained:
    """Some of the runs, of which the weights alone are used."""
    return trained._replace(parameters=trained.parameters[torch.tensor(keep)])


def arms_table(rows: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
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


def _plane(run: Run, z: Tensor) -> dict[str, Tensor]:
    flat = z.double() @ run.scene.world.frame[:, :2]
    return {"x": flat[:, 0], "y": flat[:, 1]}


def pictures(rows: pd.DataFrame, trained: Trained, recipe: Recipe, n: int = 24) -> pd.DataFrame:
    """Samples of every arm's first seed in the arcs' plane, n a combination."""
    tables = []
    for number, row in enumerate(rows.itertuples(index=False)):
        if row.seed != rows["seed"].iloc[0]:
            continue
        run = Run(row, recipe)
        world = run.scene.world
        combination = torch.arange(len(world.combinations)).repeat_interleave(n)
        z = run.generate(trained.parameters[number], combination, recipe.evaluations)
        judged = world.judge(z.double())
        flags = find_defects(
            judged.combination, judged.off_manifold, combination, run.conditioning.admitted
        )
        table = pd.DataFrame({**_plane(run, z), "combination": combination, "defect": flags.defect})
        table["held_out"] = torch.isin(combination, run.scene.held_out).numpy()
        tables.append(table.assign(granularity=row.granularity, s_c=row.s_c, seed=row.seed))
    return pd.concat(tables, ignore_index=True)


def _feature_runs(rows: pd.DataFrame) -> pd.Series:
    """Which rows are the arm looked at closely: feature conditioning with the largest s_c."""
    return (rows["granularity"] == "feature") & (rows["s_c"] == rows["s_c"].max())


def reverse_strip(
    rows: pd.DataFrame, trained: Trained, recipe: Recipe, n: int = 60
) -> pd.DataFrame:
    """x_t along the sampler as the network sees it, in the arcs' plane: the feature arm's
    first seed.
    """
    number = int(_feature_runs(rows).to_numpy().argmax())
    run = Run(next(rows.iloc[[number]].itertuples(index=False)), recipe)
    combination = torch.arange(len(run.scene.world.combinations)).repeat_interleave(n)
    seen: list[tuple[float, Tensor]] = []

    def watched(denoise, x, times, *rest):  # the sampler, with an eye on what it asks the denoiser
        def look(x_t: Tensor, t: Tensor) -> Tensor:
            seen.append((float(t), x_t))
            return denoise(x_t, t)

        return dpmpp_2m(look, x, times, *rest)

    z = run.generate(trained.parameters[number], combination, recipe.evaluations, watched)
    moments = [
        min(seen, key=lambda moment: abs(moment[0] - t)) for t in (1, 0.9, 0.75, 0.5, 0.25)
    ] + [(0.0, z / run.data[2])]
    return pd.concat(
        [pd.DataFrame({"t": t, **_plane(run, x), "combination": combination}) for t, x in moments],
        ignore_index=True,
    )


def compare_samplers(
    rows: pd.DataFrame, trained: Trained, recipe: Recipe, progress: Progress, workers: Workers
) -> pd.DataFrame:
    """Defects of seen combinations under DPM-Solver++(2M) with several numbers of evaluations, and
    ancestral.

    One row a run of the feature arm, sampler and number of evaluations.
    """
    keep = _feature_runs(rows).to_numpy()
    rows, chosen = rows[keep], _only(trained, keep)
    settings = [
        ("DPM-Solver++(2M)", dpmpp_2m, count * recipe.evaluations // 4)
        for count in (1, 2, 4, 8, 16)
    ]
    tables = []
    for name, sampler, count in [*settings, ("ancestral", ancestral, ANCESTRAL_STEPS)]:
        found = by_group(evaluate(rows, chosen, recipe, progress, sampler, count, workers=workers))
        found = found[(found["group"] == "seen") & (found["metric"] == "defect")]
        tables.append(found[[*COLUMNS, "value"]].assign(sampler=name, evaluations=count))
    return pd.concat(tables, ignore_index=True)
