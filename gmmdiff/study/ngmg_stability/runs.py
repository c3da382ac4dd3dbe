"""The NGMG stability experiments, declared: run tables, what is measured of them, and tidy tables.

A trains a classifier of noisy points alone, B the denoiser with it (see
``gmmdiff.study.engine.classifiers``).  Both stand raw and with every cost's signal matched to BCE's
at the start; matched to itself, BCE stands once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.costs import COSTS
from gmmdiff.core.streams import stream
from gmmdiff.study.engine.classifiers import SIGNALS, ClassifierEnsemble, JointEnsemble, attributes
from gmmdiff.study.engine.evaluation import by_group, by_step, evaluate, run_by_run
from gmmdiff.study.engine.parallel.threads import Tick, Workers, side_by_side
from gmmdiff.study.engine.runs import PREPARED, Progress, Recipe, Run
from gmmdiff.study.engine.training import Trained, train

JUDGED = ("BCE", "Brier", "NGMG s=1")  # by the claims; every other cost is reported
JOINT_COSTS = (*JUDGED, "NGMG scale mixture", "NGMG with entropy")
GRANULARITY = "feature"  # of the denoiser's condition in B
SEEN = ("defect", "miss", "energy_distance")  # measured on seen combinations in B


def kinds(costs: Iterable[str]) -> list[tuple[str, str]]:
    """Every cost with every signal; matched to itself, BCE stands once."""
    both = itertools.product(SIGNALS, costs)
    return [(cost, signal) for signal, cost in both if (cost, signal) != ("BCE", "matched")]


def run_rows(
    arms: Iterable[tuple[str, str, int]],
    learning_rate: Sequence[float],
    *,
    lam: float,
    label_noise: float,
    granularity: str,
    s_c: float,
    n_train: int,
    steps: int,
    first_seed: int,
) -> pd.DataFrame:
    """Every arm, a cost with its signal, at every learning rate, with so many seeds."""
    rows = [
        (
            granularity,
            s_c,
            n_train,
            rate,
            steps,
            first_seed + number,
            cost,
            signal,
            lam,
            label_noise,
        )
        for rate, (cost, signal, seeds) in itertools.product(learning_rate, list(arms))
        for number in range(seeds)
    ]
    return pd.DataFrame(rows, columns=list(JointEnsemble.columns))


def parts(
    label_noise: Sequence[float],
    learning_rate: Sequence[float],
    classifier_steps: int,
    lam: Sequence[float],
    joint_learning_rate: Sequence[float],
    steps: int,
    n_train: int,
    s_c: float,
    seeds: int,
    other_seeds: int,
    first_seed: int,
) -> dict[str, pd.DataFrame]:
    """Run tables by name, each trained and kept by itself.

    ``label_noise_X``: experiment A at that noise.  ``lam_X``: experiment B at that lambda; 0, which
    has to be among them, is the reference without a cost, also trained twice as long.
    """
    owner = "ngmg_stability"
    for name, levels in (
        ("label_noise", label_noise),
        ("learning_rate", learning_rate),
        ("lam", lam),
        ("joint_learning_rate", joint_learning_rate),
    ):
        require(len(set(levels)) == len(levels) > 0, owner, name, "distinct levels", levels)
    allowed = "0 (the reference) and at least one larger"
    require(min(lam) == 0 < max(lam), owner, "lam", allowed, lam)
    require(seeds >= 1, owner, "seeds", ">= 1", seeds)
    require(
        1 <= other_seeds <= seeds, owner, "other_seeds", f"in 1 .. seeds = {seeds}", other_seeds
    )
    alike = {"n_train": n_train, "first_seed": first_seed}
    alone = alike | {"lam": 1.0, "granularity": "none", "s_c": 0.0, "steps": classifier_steps}
    joint = alike | {"label_noise": 0.0, "granularity": GRANULARITY, "s_c": s_c}

    def arms(costs: Iterable[str]) -> list[tuple[str, str, int]]:
        """Raw and, but for BCE, matched; what no claim judges with the first ``other_seeds``."""
        return [(*kind, seeds if kind[0] in JUDGED else other_seeds) for kind in kinds(costs)]

    found = {
        f"label_noise_{noise}": run_rows(arms(COSTS), learning_rate, label_noise=noise, **alone)
        for noise in label_noise
    }
    for level in lam:
        costs, lengths = (JOINT_COSTS, [steps]) if level else (("BCE",), [steps, 2 * steps])
        told = {"lam": level, **joint}
        tables = [run_rows(arms(costs), joint_learning_rate, steps=n, **told) for n in lengths]
        found[f"lam_{level}"] = pd.concat(tables, ignore_index=True)
    return found


def accuracies(
    run: Run, ensemble: type[ClassifierEnsemble], parameters: Tensor, n: int
) -> dict[str, float]:
    """Share of true attributes that a trained classifier finds in n batches from n fresh points,
    for each of two uses.

    *validation_accuracy* chooses a learning rate, *accuracy* is told.
    """
    trained, found = ensemble([run], "cpu"), {}
    trained.parameters[:, : trained.count] = parameters
    for name in ("validation_accuracy", "accuracy"):
        points, combinations = run.scene.points(n, name)
        batches = run.draw(
            ((points - run.recipe.centre) / run.data[2]).float(),
            combinations,
            (1, n),
            stream(run.row.seed, f"{name} batch"),
            stream(run.row.seed, f"{name} condition"),
        )
        trained.take([batches])
        found[name] = float(
            ((trained.logits(0) > 0) == (attributes(run, batches) > 0)).double().mean()
        )
    return found


def _classify(
    job: tuple[pd.DataFrame, Tensor],
    tick: Tick,
    recipe: Recipe,
    ensemble: type[ClassifierEnsemble],
    n: int,
) -> dict[str, float]:
    rows, parameters = job
    (row,) = rows.itertuples(index=False)
    found = accuracies(Run(row, recipe), ensemble, parameters, n)
    tick(1)
    return found


def run_part(
    rows: pd.DataFrame,
    recipe: Recipe,
    n_test: int,
    device: str,
    progress: Progress,
    workers: Workers = side_by_side,
) -> dict[str, pd.DataFrame]:
    """Trains one part and measures it: tables by name.

    ``runs``: one row a run and metric.  ``traces``: for B, loss and largest gradient norm of every
    few steps.

    *diverged*: a weight is not finite, or the loss ends above where it began.  *final_loss*: of the
    last steps; of the denoiser in B, the row's own cost in A.
    """
    rows = rows.reset_index(drop=True)
    joint = rows["granularity"].iloc[0] == GRANULARITY
    ensemble = JointEnsemble if joint else ClassifierEnsemble
    trained = train(rows, recipe, device, progress, ensemble, workers)
    wide = rows.assign(**_steadiness(rows, trained))
    function = partial(_classify, recipe=recipe, ensemble=ensemble, n=n_test)
    with progress(total=len(rows), desc="classifying", unit="runs") as bar:
        wide = wide.join(pd.DataFrame(workers(function, run_by_run(rows, trained), bar.update)))
    runs = wide.melt(list(rows), var_name="metric")
    if not joint:
        return {"runs": runs}
    denoiser = ensemble([Run(next(rows.itertuples(index=False)), recipe)], "cpu").networks[0]
    weights = trained.parameters[:, : denoiser.parameters.shape[1]]
    denoisers = trained._replace(parameters=weights)
    drawn = by_group(evaluate(rows, denoisers, recipe, progress, workers=workers))
    seen = drawn[(drawn["group"] == "seen") & drawn["metric"].isin(SEEN)]
    other = drawn[(drawn["group"] == "held out") & (drawn["metric"] == "miss")]
    both = [seen, other.assign(metric="held-out miss")]
    runs = pd.concat([runs, *(one.drop(columns="group") for one in both)], ignore_index=True)
    return {"runs": runs, "traces": by_step(rows, loss=trained.losses, norm=trained.norms)}


def _steadiness(rows: pd.DataFrame, trained: Trained) -> dict[str, np.ndarray]:
    """What the training itself says of each run, see ``run_part``."""
    ends = torch.tensor((rows["steps"].to_numpy() - 1) // PREPARED)
    first, last = trained.losses[:, 0], trained.losses.gather(1, ends.unsqueeze(1)).squeeze(1)
    measured = {
        "spike_rate": trained.spike_rate,
        "variation": trained.variation,
        "final_loss": last,
        "diverged": trained.diverged | ~(last <= first),
    }
    return {name: value.double().numpy() for name, value in measured.items()}
