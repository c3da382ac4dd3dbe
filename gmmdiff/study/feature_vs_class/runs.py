"""The feature-versus-class experiment: its run tables, and what each of its parts leaves behind."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.conditioning import GRANULARITIES
from gmmdiff.core.diffusion import ancestral, dpmpp_2m
from gmmdiff.study.engine.evaluation import by_group, by_step, evaluate, floor
from gmmdiff.study.engine.parallel.threads import Workers, side_by_side
from gmmdiff.study.engine.runs import COLUMNS, Progress, Recipe, Run, run_table
from gmmdiff.study.engine.training import Trained, train
from gmmdiff.worlds.defects import find_defects

ANCESTRAL_STEPS = 1000


def parts(
    s_c: Sequence[float],
    n_train: Sequence[int],
    learning_rate: float,
    steps: int,
    seeds: int,
    first_seed: int,
    swept_s_c: Sequence[float],
    swept_steps: Sequence[int],
    swept_seeds: int,
) -> dict[str, pd.DataFrame]:
    """Run tables by name, each trained and kept by itself.

    One part for each n_train holds every arm: granularity x s_c x seeds.  ``s_c`` sweeps the scale
    of the components at the middle n_train, for class and feature, ``steps`` the training length at
    the largest, for coarse too; levels that the arms hold anyway are left out.
    """
    owner, sizes = "feature_vs_class", sorted(n_train)
    require(len(set(sizes)) == len(sizes), owner, "n_train", "distinct sizes", sizes)
    allowed = "0 (point) and at least one larger scale (mixture)"
    require(min(s_c) == 0 < max(s_c), owner, "s_c", allowed, s_c)
    allowed = f"at least one of twice steps = {steps} or more"
    require(max(swept_steps) >= 2 * steps, owner, "swept_steps", allowed, swept_steps)
    other_s_c = [scale for scale in swept_s_c if scale not in s_c]
    other_steps = [length for length in swept_steps if length != steps]
    allowed = f"at least one scale beside s_c = {s_c}"
    require(len(other_s_c) > 0, owner, "swept_s_c", allowed, swept_s_c)
    rate, all_seeds, few_seeds = [learning_rate], (seeds, first_seed), (swept_seeds, first_seed)
    middle, largest, compared = [sizes[len(sizes) // 2]], [sizes[-1]], ["class", "feature"]
    found = {str(n): run_table(GRANULARITIES, s_c, [n], rate, [steps], *all_seeds) for n in sizes}
    found["s_c"] = run_table(compared, other_s_c, middle, rate, [steps], *few_seeds)
    found["steps"] = run_table(["coarse", *compared], s_c, largest, rate, other_steps, *few_seeds)
    return found


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

    ``runs``: one row a run, group of combinations and metric, the floor and whether a run diverged
    among them. ``places``: defects by combination. ``losses``: the training curves. ``closely``
    adds a picture of the samples of the first seed, a strip of the reverse diffusion and the check
    of the sampler.
    """
    trained = train(rows, recipe, device, progress, workers=workers)
    found = evaluate(rows, trained, recipe, progress, workers=workers)
    places = found[found["metric"] == "defect"].drop(columns="metric")
    diverged = rows.assign(group="all", metric="diverged", value=trained.diverged.double().numpy())
    tables = {
        "runs": pd.concat(
            [by_group(pd.concat([found, floor(rows, recipe)], ignore_index=True)), diverged],
            ignore_index=True,
        ),
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


def _plane(run: Run, z: Tensor) -> dict[str, Tensor]:
    flat = z.double() @ run.world.manifold.frame[:, :2]
    return {"x": flat[:, 0], "y": flat[:, 1]}


def pictures(rows: pd.DataFrame, trained: Trained, recipe: Recipe, n: int = 24) -> pd.DataFrame:
    """Samples of every arm's first seed in the manifold's plane, n a combination."""
    combination = torch.arange(16).repeat_interleave(n)
    tables = []
    for number, row in enumerate(rows.itertuples(index=False)):
        if row.seed != rows["seed"].iloc[0]:
            continue
        run = Run(row, recipe)
        z = run.generate(trained.parameters[number], combination, recipe.evaluations)
        manifold, held_out = run.world.manifold, run.world.held_out
        flags = find_defects(
            manifold.distances(z.double()),
            combination,
            run.conditioning.admitted,
            manifold.tolerance(),
        )
        table = pd.DataFrame({**_plane(run, z), "combination": combination, "defect": flags.defect})
        table["held_out"] = torch.isin(combination, held_out).numpy()
        tables.append(table.assign(granularity=row.granularity, s_c=row.s_c, seed=row.seed))
    return pd.concat(tables, ignore_index=True)


def _feature_runs(rows: pd.DataFrame) -> pd.Series:
    """Which rows are the arm looked at closely: feature conditioning with the largest s_c."""
    return (rows["granularity"] == "feature") & (rows["s_c"] == rows["s_c"].max())


def reverse_strip(
    rows: pd.DataFrame, trained: Trained, recipe: Recipe, n: int = 60
) -> pd.DataFrame:
    """x_t along the sampler as the network sees it, in the manifold's plane: the feature arm's
    first seed.
    """
    number = int(_feature_runs(rows).to_numpy().argmax())
    run = Run(next(rows.iloc[[number]].itertuples(index=False)), recipe)
    combination = torch.arange(16).repeat_interleave(n)
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
    rows, chosen = rows[keep], trained._replace(parameters=trained.parameters[torch.tensor(keep)])
    settings = [
        ("DPM-Solver++(2M)", dpmpp_2m, count * recipe.evaluations // 4)
        for count in (1, 2, 4, 8, 16)
    ]
    tables = []
    for name, sampler, count in [*settings, ("ancestral", ancestral, ANCESTRAL_STEPS)]:
        found = by_group(evaluate(rows, chosen, recipe, progress, sampler, count, workers))
        found = found[(found["group"] == "seen") & (found["metric"] == "defect")]
        tables.append(found[[*COLUMNS, "value"]].assign(sampler=name, evaluations=count))
    return pd.concat(tables, ignore_index=True)
