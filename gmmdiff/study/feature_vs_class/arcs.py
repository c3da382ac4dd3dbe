"""The experiment on the arcs: its run tables, and what each of its parts leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.diffusion import ancestral, dpmpp_2m
from gmmdiff.study.engine.evaluation import by_group, evaluate
from gmmdiff.study.engine.parallel.threads import Workers, side_by_side
from gmmdiff.study.engine.runs import COLUMNS, Progress, Recipe, Run
from gmmdiff.study.engine.training import Trained, train
from gmmdiff.study.feature_vs_class.runs import (
    ANCESTRAL_STEPS,
    COMPARED,
    arms_table,
    measure,
    only,
    reverse_diffusion,
)
from gmmdiff.worlds.defects import find_defects


def _check(
    s_c: Sequence[float],
    n_train: Sequence[int],
    steps: Sequence[int],
    seeds: int,
    swept_s_c: Sequence[float],
    swept_steps: Sequence[int],
    swept_seeds: int,
) -> None:
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
    allowed = f"at least one scale beside s_c = {s_c}"
    require(len(set(swept_s_c) - set(s_c)) > 0, owner, "swept_s_c", allowed, swept_s_c)
    good, allowed = 1 <= swept_seeds <= seeds, f"in 1 .. seeds = {seeds}"
    require(good, owner, "swept_seeds", allowed, swept_seeds)


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
    _check(s_c, n_train, steps, seeds, swept_s_c, swept_steps, swept_seeds)
    length, largest = dict(zip(n_train, steps, strict=True)), max(n_train)
    other_s_c = [scale for scale in swept_s_c if scale not in s_c]
    alike = {"learning_rate": [learning_rate], "first_seed": first_seed}
    few = {**alike, "seeds": swept_seeds}
    judged = dict.fromkeys(("coarse", *COMPARED), s_c)
    arms, beside = judged | {"scrambled": [0.0]}, {"none": [0.0], "shared": [0.0]}
    found, both = {}, dict.fromkeys(COMPARED, s_c)
    for n in sorted(n_train):
        tables = [arms_table(arms, [n], [length[n]], seeds=seeds, **alike)]
        tables.append(arms_table(beside, [n], [length[n]], **few))
        found[str(n)] = pd.concat(tables, ignore_index=True)
    others = dict.fromkeys(COMPARED, other_s_c)
    found["s_c"] = arms_table(others, [largest], [length[largest]], **few)
    longer = [arms_table(judged, [n], [2 * length[n]], **few) for n in sorted(n_train)]
    shorter = arms_table(both, [largest], swept_steps, **few)
    found["steps"] = pd.concat([*longer, shorter], ignore_index=True)
    found["v_prediction"] = shorter
    return found


def recipe_of(part: str, recipe: Recipe) -> Recipe:
    """The recipe by which a part trains."""
    return replace(recipe, prediction="v_prediction") if part == "v_prediction" else recipe


def run_part(
    rows: pd.DataFrame,
    recipe: Recipe,
    device: str,
    progress: Progress,
    closely: bool,
    workers: Workers = side_by_side,
) -> dict[str, pd.DataFrame]:
    """Trains one part and measures it: tables by name, see ``runs.measure``.

    ``closely`` adds a picture of the samples of the first seed, a strip of the reverse diffusion
    and the check of the sampler.
    """
    trained = train(rows, recipe, device, progress, workers=workers)
    tables = measure(rows, trained, recipe, progress, workers)
    if closely:
        tables |= {
            "pictures": pictures(rows, trained, recipe),
            "strip": reverse_strip(rows, trained, recipe),
            "samplers": compare_samplers(rows, trained, recipe, progress, workers),
        }
    return tables


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
    moments = reverse_diffusion(run, trained.parameters[number], combination)
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
    rows, chosen = rows[keep], only(trained, keep)
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
