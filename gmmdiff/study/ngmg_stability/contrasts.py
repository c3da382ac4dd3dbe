"""What the runs of NGMG and of its rivals are compared by: paired contrasts, basins, spreads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gmmdiff.core.streams import numpy_stream
from gmmdiff.study.claims import Tables
from gmmdiff.study.statistics import paired
from gmmdiff.study.verdicts import Cell, assess

OURS = "NGMG s=1"  # judged; every other cost is reported
REFERENCE = "without a cost"
RIVALS = ("BCE", "Brier", REFERENCE)
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
    return (rival, signal if rival == "Brier" else "raw")


def with_reference(joint: pd.DataFrame) -> pd.DataFrame:
    """Experiment B at its published length, the run without a cost an arm at every lambda."""
    runs = joint[joint["steps"] == joint["steps"].min()]
    reference = runs[runs["lam"] == 0].assign(cost=REFERENCE)
    levels = [lam for lam in runs["lam"].unique() if lam]
    beside = [reference.assign(lam=lam) for lam in levels]
    return pd.concat([runs[runs["lam"] > 0], *beside], ignore_index=True)


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
            one, other = (cost, signal), _of_rival(rival, signal)
            if cost in ("BCE", REFERENCE, rival) or other not in arms:
                continue
            if rival == REFERENCE and metric == "accuracy":  # its classifier learns nothing
                continue
            both = arms[[one, other]].dropna()
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


def stability_contrasts(tables: Tables, costs: Sequence[str] | None = None) -> pd.DataFrame:
    """Experiment B: one row a lambda, learning rate, metric, cost, rival and signal."""
    runs = with_spread(with_reference(tables["joint"]))
    return cost_contrasts(runs, CELL, (*STABILITY, *QUALITY), costs)


def classifier_contrasts(tables: Tables, costs: Sequence[str] | None = None) -> pd.DataFrame:
    """Experiment A, every arm at its best learning rate.

    One row a label noise, metric, cost, rival and signal.
    """
    best = at_best_rate(with_spread(tables["classifier"]))
    runs = pd.concat([best, basins(tables["classifier"])], ignore_index=True)
    return cost_contrasts(runs, ["label_noise"], (*STABILITY, "accuracy", "basin"), costs)


def _arms(runs: pd.DataFrame, metric: str, cell: Sequence[str]) -> pd.DataFrame:
    """``(seeds, arms)`` of one metric; variations as logarithms, accuracy as error."""
    found = runs[runs["metric"] == ("accuracy" if metric == "error" else metric)]
    wide = found.pivot(index="seed", columns=[*cell, "cost", "signal"], values="value")
    if metric == "variation":
        return np.log(wide)
    return 1 - wide if metric == "error" else wide


def _arms_of(runs: pd.DataFrame, rival: str, signal: str, cost: str) -> dict[tuple, list[tuple]]:
    """In every cell the arms that N1 compares: the cost, its rival, and the run without a cost."""
    cells = sorted(set(runs[CELL].itertuples(index=False, name=None)))
    arms = [(cost, signal), _of_rival(rival, signal), (REFERENCE, "raw")]
    return {cell: [(*cell, *arm) for arm in arms] for cell in cells}


def measured_seeds(
    tables: Tables, rival: str, signal: str, cost: str = OURS
) -> tuple[dict[str, pd.DataFrame], dict[tuple, list[tuple]]]:
    """Spike rate and variation ``(seeds, arms)``, and the arms of every cell.

    A run without one finite norm has no variation: its seed is left out, everywhere.
    """
    runs = with_reference(tables["joint"])
    arms = _arms_of(runs, rival, signal, cost)
    columns = list(dict.fromkeys(arm for cell in arms.values() for arm in cell))
    wide = {metric: _arms(runs, metric, CELL)[columns] for metric in UNSTEADY}
    whole = pd.concat(wide.values(), axis=1).dropna().index
    return {metric: table.loc[whole] for metric, table in wide.items()}, arms


def steadiness(
    tables: Tables, rival: str, signal: str, delta: Mapping[str, float], cost: str = OURS
) -> Iterator[Cell]:
    """Cells of N1, N2 and N4: spike rate and variation at every lambda and learning rate.

    There is something to ask where either arm lies above the run without a cost by delta.
    """
    measured, arms = measured_seeds(tables, rival, signal, cost)
    for (metric, wide), (cell, columns) in itertools.product(measured.items(), arms.items()):
        ours, theirs, without = wide[columns].to_numpy().T
        factors = {"metric": metric} | dict(zip(CELL, cell, strict=True))
        yield Cell(factors, ours - theirs, delta[metric], (ours - without, theirs - without))


def errors(
    tables: Tables, rival: str, delta: Mapping[str, float], seeds: pd.Index | None = None
) -> Iterator[Cell]:
    """Cells of N3 and N4: the classifier's error at each arm's best rate, at every label noise.

    Args:
        seeds: which, all if None.
    """
    wide = _arms(at_best_rate(tables["classifier"]), "error", ["label_noise"])
    wide = wide if seeds is None else wide.loc[seeds]
    for noise in sorted({column[0] for column in wide}):
        ours, theirs = wide[[(noise, OURS, "raw"), (noise, rival, "raw")]].to_numpy().T
        yield Cell({"metric": "error", "label_noise": noise}, ours - theirs, delta["error"])


def defects(tables: Tables, delta: Mapping[str, float]) -> Iterator[Cell]:
    """Cells of N5: defects, less than delta above BCE's and above those without a cost."""
    wide = _arms(with_reference(tables["joint"]), "defect", CELL)
    for rival in ("BCE", REFERENCE):
        for cell in sorted({column[:2] for column in wide}):
            ours, theirs = wide[[(*cell, OURS, "raw"), (*cell, rival, "raw")]].to_numpy().T
            factors = {"metric": f"defects, minus {rival}"} | dict(zip(CELL, cell, strict=True))
            yield Cell(factors, ours - theirs, delta["defect"], margin=True)


def best_lambda(choice: pd.DataFrame) -> dict[str, float]:
    """Every cost's lambda of the fewest misses on seen combinations, mean over the seeds that
    choose.
    """
    misses = choice[(choice["metric"] == "miss") & (choice["signal"] == "raw")]
    found = misses.groupby(["cost", "lam"])["value"].mean().unstack("lam")
    return found.idxmin(axis=1).to_dict()


def helps(tables: Tables, rival: str, delta: Mapping[str, float]) -> Iterator[Cell]:
    """Cells of N6: misses on seen and on held-out combinations, each cost at its best lambda."""
    runs, best = with_reference(tables["joint"]), best_lambda(tables["choice"])
    for metric, least in delta.items():
        wide = _arms(runs, metric, ["lam"])
        theirs = wide[(best.get(rival, best[OURS]), rival, "raw")]
        factors = {"metric": f"{metric.replace('miss', 'misses')}, minus {rival}"}
        factors |= {"lam": best[OURS]} | ({"rival_lam": best[rival]} if rival in best else {})
        difference = wide[(best[OURS], OURS, "raw")] - theirs
        yield Cell(factors, difference.to_numpy(), least)


def every_cost(tables: Tables, delta: Mapping[str, float]) -> pd.DataFrame:
    """Every cost as N1 judges one: how many of its cells are in each state.

    One row a rival, signal and cost, with its number of seeds.
    """
    costs = [cost for cost in tables["joint"]["cost"].unique() if cost != "BCE"]
    rows = []
    for rival, signal, cost in itertools.product(("BCE", "Brier"), ("raw", "matched"), costs):
        if cost != rival:
            cells = list(steadiness(tables, rival, signal, delta, cost))
            states = pd.Series(assess(f"{cost}, {rival}, {signal}", cells)[1]).fillna("not judged")
            arm: dict[str, Any] = {"rival": rival, "signal": signal, "cost": cost}
            rows.append(
                arm | {"n_seeds": len(cells[0].difference)} | states.value_counts().to_dict()
            )
    return pd.DataFrame(rows).fillna(0)
