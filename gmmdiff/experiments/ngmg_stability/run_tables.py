"""The NGMG stability experiments, declared: run tables, what is measured of them, and tidy tables.

A trains a classifier of noisy points alone, B the denoiser with it (see
``gmmdiff.engine.joint.classifiers``).  Both stand raw and with every cost's signal matched to BCE's
at the start; matched to itself, BCE stands once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.costs import COSTS
from gmmdiff.core.streams import stream
from gmmdiff.engine.evaluation import Job, evaluate, run_by_run, validation_results
from gmmdiff.engine.joint.classifiers import SIGNALS, ClassifierEnsemble, JointEnsemble, attributes
from gmmdiff.engine.runs import BATCHES_AT_ONCE, Progress, Run, TrainingSettings
from gmmdiff.engine.threads import Tick, Workers, side_by_side
from gmmdiff.engine.training import Trained, train

JUDGED = ("BCE", "Brier", "NGMG s=1")  # by the claims; every other cost is reported
JOINT_COSTS = (*JUDGED, "NGMG scale mixture", "NGMG with entropy")
GRANULARITY = "feature"  # of the denoiser's condition in B
GROUPS = ("seen", "frequent", "rare", "held out")
QUALITY = ("wrong", "malformed", "defect", "copy", "law")  # of B's samples, by group
ARM = ["learning_rate", "lam", "cost", "signal"]
Arm = tuple[str, str]  # a cost and its signal


def kinds(costs: Iterable[str]) -> list[Arm]:
    """Every cost with every signal; matched to itself, BCE stands once."""
    both = itertools.product(SIGNALS, costs)
    return [(cost, signal) for signal, cost in both if (cost, signal) != ("BCE", "matched")]


def run_rows(arms: Iterable[Arm], seeds: Iterable[int], **factors: Any) -> pd.DataFrame:
    """Every arm with every seed; ``factors`` are the other columns, alike in all rows."""
    rows = [
        factors | {"seed": seed, "cost": cost, "signal": signal}
        for (cost, signal), seed in itertools.product(arms, list(seeds))
    ]
    return pd.DataFrame(rows, columns=list(JointEnsemble.columns))


def require_lam(owner: str, lam: Sequence[float]) -> None:
    """Refuses a grid of lambda without 0 or 1, or with one twice or below 0."""
    good = {0, 1} <= set(lam) and len(set(lam)) == len(lam) and min(lam) == 0
    require(
        good, owner, "lam", "0 (no cost), 1 (where N5 is asked) and larger or smaller ones", lam
    )


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

    ``label_noise_X``: experiment A at that noise.  ``lam_X``: experiment B at that lambda, 0 being
    the reference without a cost; the first of its learning rates is judged, the others are controls
    on ``other_seeds``, as is what no claim judges.
    """
    owner = "ngmg_stability"
    for name, levels in (
        ("label_noise", label_noise),
        ("learning_rate", learning_rate),
        ("joint_learning_rate", joint_learning_rate),
    ):
        require(len(set(levels)) == len(levels) > 0, owner, name, "distinct levels", levels)
    require_lam(owner, lam)
    require(seeds >= 1, owner, "seeds", ">= 1", seeds)
    good, allowed = 1 <= other_seeds <= seeds, f"in 1 .. seeds = {seeds}"
    require(good, owner, "other_seeds", allowed, other_seeds)
    every, few = (range(first_seed, first_seed + n) for n in (seeds, other_seeds))
    alone = {"granularity": "none", "s_c": 0.0, "n_train": n_train, "lam": 1.0}
    alone["steps"] = classifier_steps
    joint = {"granularity": GRANULARITY, "s_c": s_c, "n_train": n_train, "label_noise": 0.0}
    joint["steps"] = steps

    def tables(costs: Iterable[str], judged_on: range, **factors: Any) -> list[pd.DataFrame]:
        arms = kinds(costs)
        judged = run_rows([arm for arm in arms if arm[0] in JUDGED], judged_on, **factors)
        return [judged, run_rows([arm for arm in arms if arm[0] not in JUDGED], few, **factors)]

    found = {
        f"label_noise_{noise}": [
            table
            for rate in learning_rate
            for table in tables(COSTS, every, learning_rate=rate, label_noise=noise, **alone)
        ]
        for noise in label_noise
    }
    main, *controls = joint_learning_rate
    for level in lam:
        of_level = joint | {"lam": level}
        own = tables(JOINT_COSTS if level else ["BCE"], every, learning_rate=main, **of_level)
        for rate in controls:
            own += tables(JUDGED if level else ["BCE"], few, learning_rate=rate, **of_level)
        found[f"lam_{level}"] = own
    return {name: pd.concat(own, ignore_index=True) for name, own in found.items()}


def accuracies(
    run: Run, ensemble: type[ClassifierEnsemble], parameters: Tensor, n: int
) -> dict[str, float]:
    """Share of true attributes that a trained classifier finds in n batches from n fresh points,
    for each of two uses.

    *validation_accuracy* chooses a learning rate, *accuracy* is told.

    Args:
        parameters: of all its networks, ``(1, count)``.
    """
    trained, found = ensemble([run], "cpu"), {}
    trained.parameters[:, : trained.count] = parameters
    for name, split in (("validation_accuracy", "validation"), ("accuracy", "test")):
        streams = (stream(run.row.seed, f"{name} {what}") for what in ("batch", "condition"))
        batches = run.draw(*run.scaled(n, name, split), (1, n), *streams)
        trained.take([batches])
        right = (trained.logits(0) > 0) == (attributes(run, batches) > 0)
        found[name] = float(right.double().mean())
    return found


def _classify(
    job: Job, tick: Tick, settings: TrainingSettings, ensemble: type[ClassifierEnsemble], n: int
) -> dict[str, float]:
    rows, parameters = job
    (row,) = rows.itertuples(index=False)
    found = accuracies(Run(row, settings), ensemble, parameters, n)
    tick(1)
    return found


def run_part(
    rows: pd.DataFrame,
    settings: TrainingSettings,
    n_test: int,
    device: str,
    progress: Progress,
    workers: Workers = side_by_side,
) -> dict[str, pd.DataFrame]:
    """Trains one part and measures it: tables by name.

    ``runs``: one row a run, group of combinations and metric; what is said of a whole run has the
    group "all".  ``norm_curves``: for B, see there.
    """
    rows = rows.reset_index(drop=True)
    joint = rows["granularity"].iloc[0] == GRANULARITY
    ensemble = JointEnsemble if joint else ClassifierEnsemble
    trained = train(rows, settings, device, progress, ensemble, workers)
    function = partial(_classify, settings=settings, ensemble=ensemble, n=n_test)
    with progress(total=len(rows), desc="classifying", unit="runs") as bar:
        wide = pd.DataFrame(workers(function, run_by_run(rows, trained), bar.update))
    for name in ("spike_rate", "variation", "diverged"):
        wide[name] = getattr(trained, name).double().numpy()
    columns = [*rows.columns, "group"]
    runs = rows.assign(group="all").join(wide).melt(columns, var_name="metric")
    if not joint:
        return {"runs": runs}
    denoiser = ensemble([Run(next(rows.itertuples(index=False)), settings)], "cpu").networks[0]
    weights = trained.parameters[:, : denoiser.parameters.shape[1]]
    sampled = evaluate(rows, weights, settings, progress, workers=workers)
    kept = sampled["group"].isin(GROUPS) & sampled["metric"].isin(QUALITY)
    tables = [
        runs,
        validation_results(rows, trained).query("metric != 'diverged'"),
        sampled[kept & (sampled["granularity"] != "real")],
    ]
    runs = pd.concat([table[[*columns, "metric", "value"]] for table in tables], ignore_index=True)
    return {"runs": runs, "norm_curves": norm_curves(rows, trained)}


def norm_curves(rows: pd.DataFrame, trained: Trained) -> pd.DataFrame:
    """Largest gradient norm of every ``BATCHES_AT_ONCE`` steps: one row an arm and step.

    Columns: those of ``ARM``; step; median of the seeds; worst, the seed of most spikes, whose rate
    is worst_spike_rate.
    """
    tables = []
    for arm, numbers in rows.groupby(ARM, sort=False).indices.items():
        norms, spikes = trained.norms[numbers].numpy(), trained.spike_rate[numbers].numpy()
        steps = BATCHES_AT_ONCE * np.arange(1, norms.shape[1] + 1)
        table = pd.DataFrame({"step": steps.clip(max=rows["steps"].iloc[numbers[0]])})
        worst = int(np.nan_to_num(spikes, nan=-1).argmax())
        table["median"], table["worst"] = np.median(norms, 0), norms[worst]
        told = dict(zip(ARM, arm, strict=True)) | {"worst_spike_rate": spikes[worst]}
        tables.append(table.assign(**told))
    return pd.concat(tables, ignore_index=True)[
        [*ARM, "step", "median", "worst", "worst_spike_rate"]
    ]
