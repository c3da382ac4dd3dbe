"""What the runs of NGMG and of its rivals are compared by: paired contrasts, basins, spreads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.claims import Tables
from gmmdiff.study.statistics import holm, paired

OURS = "NGMG s=1"  # judged; every other cost is reported
RIVALS = ("BCE", "Brier")
UNSTEADY = ("spike_rate", "variation")  # of the gradient norm: what N1 judges
STABILITY = (*UNSTEADY, "spread", "diverged")
QUALITY = ("accuracy", "defect", "energy_distance")
CELL = ["lam", "learning_rate"]  # of experiment B
NEAR_BEST = 0.95  # of the best accuracy: what still lies in the basin of learning rates


def with_spread(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, and the metric "spread".

    It is how far a final loss lies from its arm's median, relative to that; 1 if not finite.
    """
    last = runs[runs["metric"] == "final_loss"]
    arm = [name for name in runs if name not in ("seed", "value")]
    middle = last.groupby(arm)["value"].transform("median")
    away = ((last["value"] - middle).abs() / middle).replace(np.inf, np.nan).fillna(1.0)
    return pd.concat([runs, last.assign(metric="spread", value=away)], ignore_index=True)


def at_best_rate(classifier: pd.DataFrame) -> pd.DataFrame:
    """Experiment A's runs at every arm's learning rate of the best mean validation accuracy."""
    arm = ["label_noise", "cost", "signal"]
    validated = classifier[classifier["metric"] == "validation_accuracy"]
    found = validated.groupby([*arm, "learning_rate"], as_index=False)["value"].mean()
    best = found.loc[found.groupby(arm)["value"].idxmax(), [*arm, "learning_rate"]]
    return classifier.merge(best, on=[*arm, "learning_rate"])


def basins(classifier: pd.DataFrame) -> pd.DataFrame:
    """Decades of learning rate within 5 % of the arm's best accuracy.

    One row a noise, cost, signal and seed, with the metric "basin".
    """
    accuracy = classifier[classifier["metric"] == "accuracy"]
    arm = ["label_noise", "cost", "signal", "seed"]
    best = accuracy.groupby(arm)["value"].transform("max")
    near = accuracy[accuracy["value"] >= NEAR_BEST * best]
    rates = near.groupby(arm)["learning_rate"].agg(["min", "max"]).reset_index()
    return rates[arm].assign(metric="basin", value=np.log10(rates["max"] / rates["min"]))


def _of_rival(rival: str, signal: str) -> tuple[str, str]:
    """The arm that a rival stands for at one signal: matched to itself, BCE stands once."""
    return (rival, "raw" if rival == "BCE" else signal)


def cost_contrasts(
    runs: pd.DataFrame, cells: list[str], metrics: tuple[str, ...], costs: Sequence[str] | None
) -> pd.DataFrame:
    """Costs against each rival, raw and matched, paired by seed, in every cell and metric.

    Args:
        cells: the columns that make a cell.
        costs: which, all of the runs if None.
    """
    rows = []
    found = runs[runs["metric"].isin(metrics)].groupby([*cells, "metric"], sort=False)
    for (*cell, metric), table in found:
        arms = table.pivot(index="seed", columns=["cost", "signal"], values="value")
        for cost, rival, signal in itertools.product(
            costs or table["cost"].unique(), RIVALS, ("raw", "matched")
        ):
            if cost in ("BCE", rival):
                continue
            both = arms[[(cost, signal), _of_rival(rival, signal)]].dropna()
            if len(both) < 2:  # a run without one finite norm has no variation
                continue
            labels = dict(zip(cells, cell, strict=True)) | {
                "metric": metric,
                "cost": cost,
                "rival": rival,
                "signal": signal,
            }
            rng = numpy_stream(0, " ".join(map(str, labels.values())))
            contrast = paired(*both.to_numpy().T, rng)
            rows.append(labels | contrast._asdict() | {"n_seeds": len(both)})
    return pd.DataFrame(rows)


def _corrected(contrasts: pd.DataFrame, judged: pd.Series) -> pd.DataFrame:
    """The contrasts with corrected p values; a family is what is judged of one pair of arms."""
    family = contrasts[judged].groupby(["cost", "rival", "signal"])["p_value"]
    return contrasts.assign(corrected=family.transform(lambda p: holm(p.to_numpy())))


def _above_reference(runs: pd.DataFrame) -> set[tuple]:
    """Arms and metrics surely above the run without a cost, the paired interval above 0.

    Each as (lam, learning_rate, cost, signal, metric), of the metrics in ``UNSTEADY``.
    """
    watched = runs[runs["metric"].isin(UNSTEADY)]
    reference = watched[watched["lam"] == 0][["learning_rate", "metric", "seed", "value"]]
    beside = watched[watched["lam"] > 0].merge(
        reference, on=["learning_rate", "metric", "seed"], suffixes=("", "_reference")
    )
    found = set()
    for arm, pairs in beside.dropna().groupby([*CELL, "cost", "signal", "metric"]):
        both = pairs[["value", "value_reference"]].to_numpy().T
        if len(pairs) > 1 and paired(*both, numpy_stream(0, f"above {arm}")).low > 0:
            found.add(arm)
    return found


def stability_contrasts(tables: Tables, costs: Sequence[str] | None = None) -> pd.DataFrame:
    """Experiment B: one row a lambda, learning rate, metric, cost, rival and signal.

    ``above`` marks the cells (one lambda and learning rate of a cost, rival and signal) in which
    the spike rate or the variation of either is surely above that of the reference without a cost,
    the paired interval above 0: there is something to make stable.
    """
    runs = with_spread(tables["joint"][tables["joint"]["steps"] == tables["joint"]["steps"].min()])
    found = cost_contrasts(runs[runs["lam"] > 0], CELL, (*STABILITY, *QUALITY), costs)
    surely = _above_reference(runs)
    found["above"] = [
        any(
            (row.lam, row.learning_rate, *arm, metric) in surely
            for arm in ((row.cost, row.signal), _of_rival(row.rival, row.signal))
            for metric in UNSTEADY
        )
        for row in found.itertuples()
    ]
    return _corrected(found, found["metric"].isin(UNSTEADY) & found["above"])


def cells(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Every cost as N1 judges one: of the cells above the reference, how many are steadier.

    One row a cost, rival and signal: cells, both_lower (spike rate and variation are both surely
    lower than the rival's), and either_higher.
    """
    both = contrasts[contrasts["above"] & contrasts["metric"].isin(UNSTEADY)]
    both = both.assign(cells=1, both_lower=both["high"] < 0, either_higher=both["low"] > 0)
    arm, rule = ["rival", "signal", "cost"], {"both_lower": "all", "either_higher": "any"}
    found = both.groupby([*arm, *CELL]).agg({"cells": "first"} | rule)
    return found.groupby(arm).sum().reset_index()


def classifier_contrasts(tables: Tables, costs: Sequence[str] | None = None) -> pd.DataFrame:
    """Experiment A, every arm at its best learning rate.

    One row a label noise, metric, cost, rival and signal.
    """
    best = at_best_rate(with_spread(tables["classifier"]))
    runs = pd.concat([best, basins(tables["classifier"])], ignore_index=True)
    found = cost_contrasts(runs, ["label_noise"], (*STABILITY, "accuracy", "basin"), costs)
    return _corrected(found, found["metric"] == "accuracy")
