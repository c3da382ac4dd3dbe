"""What is measured of both experiments' trained runs: tidy tables."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from gmmdiff.core.streams import stream
from gmmdiff.engine.evaluation import Job, evaluate, run_by_run, validation_results
from gmmdiff.engine.joint.classifiers import ClassifierEnsemble, JointEnsemble, attributes
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import BATCHES_AT_ONCE, Progress, Run, TrainingSettings
from gmmdiff.engine.threads import Tick, Workers, side_by_side
from gmmdiff.engine.training import Trained, train
from gmmdiff.experiments.ngmg_stability.arms import GRANULARITY

GROUPS = ("seen", "frequent", "rare", "held out")
QUALITY = ("wrong", "malformed", "defect", "copy", "law")  # of B's samples, by group
ARM = ["learning_rate", "lam", "cost", "signal"]


def accuracies(
    job: Job, tick: Tick, settings: TrainingSettings, ensemble: type[ClassifierEnsemble], n: int
) -> dict[str, float]:
    """Share of true attributes that a trained classifier finds in batches from n fresh points:
    *validation_accuracy* chooses a learning rate, *accuracy* is reported.
    """
    rows, parameters = job
    (row,) = rows.itertuples(index=False)
    run, found = Run(row, settings), {}
    trained = ensemble([run], "cpu")
    trained.parameters[:, : trained.count] = parameters
    for name, split in (("validation_accuracy", "validation"), ("accuracy", "test")):
        streams = (stream(row.seed, f"{name} {what}") for what in ("batch", "condition"))
        batches = run.draw(*run.scaled(n, name, split), (1, n), *streams)
        trained.take([batches])
        right = (trained.logits(0) > 0) == (attributes(run, batches) > 0)
        found[name] = float(right.double().mean())
    tick(1)
    return found


def run_part(
    rows: pd.DataFrame,
    settings: TrainingSettings,
    device: str,
    progress: Progress,
    workers: Workers = side_by_side,
    *,
    n_test: int,
) -> dict[str, pd.DataFrame]:
    """Trains one part and measures it: tables by name.

    ``runs``: one row a run, group of combinations and metric; what is said of a whole run has the
    group "all".  ``norm_curves``: for B, see there.

    Args:
        n_test: points that a classifier is tested on.
    """
    rows = rows.reset_index(drop=True)
    joint = rows["granularity"].iloc[0] == GRANULARITY
    ensemble = JointEnsemble if joint else ClassifierEnsemble
    trained = train(rows, settings, device, progress, ensemble, workers)
    function = partial(accuracies, settings=settings, ensemble=ensemble, n=n_test)
    with progress(total=len(rows), desc="classifying", unit="runs") as bar:
        wide = pd.DataFrame(workers(function, run_by_run(rows, trained), bar.update))
    for name in ("spike_rate", "variation", "diverged"):
        wide[name] = getattr(trained, name).double().numpy()
    columns = [*rows.columns, "group"]
    runs = rows.assign(group="all").join(wide).melt(columns, var_name="metric")
    if not joint:
        return {"runs": runs}
    first = Run(next(rows.itertuples(index=False)), settings)
    weights = trained.parameters[:, : StackedMLP.count(first.sizes)]  # the denoiser's
    sampled = evaluate(rows, weights, settings, progress, workers=workers)
    kept = sampled["group"].isin(GROUPS) & sampled["metric"].isin(QUALITY)
    sampled = sampled[kept & (sampled["granularity"] != "real")]
    validated = validation_results(rows, trained).query("metric != 'diverged'")
    runs = pd.concat([runs, validated, sampled], ignore_index=True)[[*columns, "metric", "value"]]
    return {"runs": runs, "norm_curves": norm_curves(rows, trained)}


def norm_curves(rows: pd.DataFrame, trained: Trained) -> pd.DataFrame:
    """Largest gradient norm of every ``BATCHES_AT_ONCE`` steps, one row an arm and step: median of
    the seeds, and worst, of the seed of most spikes, whose rate is worst_spike_rate.
    """
    tables = {}
    for arm, numbers in rows.groupby(ARM, sort=False).indices.items():
        norms, spikes = trained.norms[numbers].numpy(), trained.spike_rate[numbers].numpy()
        steps = BATCHES_AT_ONCE * np.arange(1, norms.shape[1] + 1)
        worst = int(np.nan_to_num(spikes, nan=-1).argmax())
        table = pd.DataFrame({"step": steps.clip(max=rows["steps"].iloc[numbers[0]])})
        table["median"], table["worst"] = np.median(norms, 0), norms[worst]
        tables[arm] = table.assign(worst_spike_rate=spikes[worst])
    return pd.concat(tables, names=ARM).reset_index(ARM).reset_index(drop=True)
