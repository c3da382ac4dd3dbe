"""Claims N1 to N6, fixed before the numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import trim_mean

from gmmdiff.judging.claims import Claim, Judgement, by_rule, cell_table
from gmmdiff.judging.contrasts import Contrast, cells, undertrained
from gmmdiff.judging.rule import DELTA
from gmmdiff.judging.tables import Tables

OURS = "NGMG s=1"  # judged; every other cost is reported
REFERENCE = "without a cost"
WITHOUT = "cost == 'BCE' and lam == 0"  # its runs
JOINT = {"arcs": "joint", "faces": "faces_joint"}  # experiment B's table, by world
REGIMES = {"arcs": "dense", "faces": "sparse"}
STEADY = ("spike_rate", "variation")  # of the gradient norm
NO_WORSE = {"validation_loss": "all", "defect": "seen"}  # metric -> its group, in N5
NO_WORSE_AT = (0.1, 1.0)  # lambdas
NOT_FINITE = 1e6  # stands for a loss or a variation of a diverged run
LEVELS = {  # metric and group of experiment B -> its name in a table
    ("validation_loss", "all"): "validation loss",
    ("spike_rate", "all"): "spike rate",
    ("variation", "all"): "variation",
    ("defect", "seen"): "defects, seen",
    ("defect", "rare"): "defects, rare",
    ("defect", "held out"): "defects, held out",
    ("accuracy", "all"): "accuracy",
}


def judged_rate(joint: pd.DataFrame) -> pd.DataFrame:
    """Experiment B at the learning rate of the most seeds; the others are controls."""
    seeds = joint.groupby("learning_rate", sort=False)["seed"].nunique()
    judged = joint[joint["learning_rate"] == seeds.idxmax()]
    return judged.assign(lam=judged["lam"].astype(float))


def at_best_rate(classifier: pd.DataFrame) -> pd.DataFrame:
    """Experiment A's runs at every arm's learning rate of the best mean validation accuracy."""
    arm = ["label_noise", "cost", "signal"]
    validated = classifier[classifier["metric"] == "validation_accuracy"]
    means = validated.groupby([*arm, "learning_rate"])["value"].mean()
    best = means.loc[means.groupby(arm).idxmax()].index.to_frame(index=False)
    return classifier.merge(best)


def lams(joint: pd.DataFrame) -> list[float]:
    """The lambdas that are judged: those of ``OURS``."""
    runs = judged_rate(joint).query("lam > 0 and cost == @OURS and signal == 'raw'")
    return sorted(runs["lam"].unique().tolist())


def best_lambda(tables: Tables) -> dict[str, float]:
    """Every cost's lambda of the least validation loss on faces among those that are judged,
    geometric mean over the choosing seeds.
    """
    choice, among = tables["faces_choice"], lams(tables["faces_joint"])
    losses = choice[(choice["metric"] == "validation_loss") & choice["lam"].isin(among)]
    logs = np.log(losses["value"].clip(upper=NOT_FINITE))
    means = logs.groupby([losses["cost"], losses["lam"].astype(float)]).mean()
    return means.unstack().idxmin(axis=1).to_dict()


def runs_of(tables: Tables, world: str) -> pd.DataFrame:
    """What is compared in a world: experiment B at its judged rate, and on arcs as "error" that of
    experiment A's classifiers at each cost's best rate.
    """
    runs = judged_rate(tables[JOINT[world]])
    runs = runs.assign(value=runs["value"].fillna(NOT_FINITE).clip(upper=NOT_FINITE))
    if world != "arcs":
        return runs
    errors = at_best_rate(tables["classifier"]).query("metric == 'accuracy'")
    errors = errors.assign(metric="error", value=1 - errors["value"])
    return pd.concat([runs, errors], ignore_index=True)


def _contrast(
    metric: str,
    rival: str,
    group: str = "all",
    signal: str = "raw",
    lam: dict[str, float] | None = None,
    ours: str = OURS,
    **more: Any,
) -> Contrast:
    """Ours against another cost, or the run without one.

    Args:
        lam: of either, where the arms are not compared at every lambda of both.
        more: further fields of the contrast.
    """
    factors = {"metric": metric, "contrast": f"{ours} against {rival}"}
    factors |= {"group": group} if group != "all" else {}
    arms = {}
    for cost in (ours, rival):
        own = "raw" if cost == "BCE" else signal  # matched to itself, BCE stands once
        arms[cost] = f"cost == '{cost}' and signal == '{own}'"
        if cost == REFERENCE:
            arms[cost] = WITHOUT
        elif lam:
            arms[cost] += f" and lam == {lam[cost]}"
        arms[cost] += f" and group == '{group}'"
    if lam:
        at = lam.get(rival, lam[ours])
        factors |= {"lam": lam[ours]} | ({"rival_lam": at} if at != lam[ours] else {})
    return Contrast(factors, arms, **more)


def _steadier(rival: str, tables: Tables, world: str, signal: str = "raw") -> list[Contrast]:
    """Spike rate and variation at every lambda where either is above the run without a cost."""
    at = {"by": ("lam",), "above": WITHOUT}
    return [_contrast(metric, rival, signal=signal, **at) for metric in STEADY]


def _errs_less(rival: str, tables: Tables, world: str) -> list[Contrast]:
    """The classifier's error at each cost's best rate, at every label noise."""
    return [_contrast("error", rival, by=("label_noise",))] if world == "arcs" else []


def _better(rival: str, tables: Tables, world: str) -> list[Contrast]:
    return _steadier(rival, tables, world) + _errs_less(rival, tables, world)


def _no_worse(cost: str, tables: Tables, world: str) -> list[Contrast]:
    """Validation loss and defects less than delta above those without a cost."""
    return [
        _contrast(metric, REFERENCE, group, lam={cost: lam}, ours=cost, by=(), margin=DELTA[metric])
        for metric, group in NO_WORSE.items()
        for lam in lams(tables[JOINT[world]])
        if lam in NO_WORSE_AT
    ]


def _helps(rival: str, tables: Tables, world: str) -> list[Contrast]:
    """Defects on rare and on held-out combinations, each cost at its best lambda."""
    best = best_lambda(tables)
    return [_contrast("defect", rival, group, lam=best, by=()) for group in ("rare", "held out")]


class Asked(NamedTuple):
    """What decides a claim in a world, of which metrics, and where it is asked."""

    contrasts: Callable[[Tables, str], list[Contrast]]
    metrics: tuple[str, ...]
    worlds: tuple[str, ...] = ("arcs", "faces")


ASKED = {
    "N1": Asked(partial(_steadier, "BCE"), STEADY),
    "N2": Asked(partial(_steadier, "BCE", signal="matched"), STEADY),
    "N3": Asked(partial(_errs_less, "BCE"), ("error",), ("arcs",)),
    "N4": Asked(partial(_better, "Brier"), (*STEADY, "error")),
    "N5": Asked(partial(_no_worse, OURS), tuple(NO_WORSE)),
    "N6a": Asked(partial(_helps, REFERENCE), ("defect",), ("faces",)),
    "N6b": Asked(partial(_helps, "BCE"), ("defect",), ("faces",)),
}
CONTROL = {"N5, BCE": Asked(partial(_no_worse, "BCE"), ())}


def judge(tables: Tables, claim: str, world: str) -> Judgement:
    """By the rule of ``gmmdiff.judging.rule``."""
    contrasts, runs = ASKED[claim].contrasts(tables, world), runs_of(tables, world)
    short = undertrained(contrasts, runs)
    return by_rule(claim, cells(f"{claim} ({world})", contrasts, runs), short)


def cells_table(tables: Tables) -> pd.DataFrame:
    """Every cell of every claim, and BCE beside the run without a cost, N5's control, see
    ``gmmdiff.judging.claims.cell_table``; columns world and control.
    """
    found = []
    for world in JOINT:
        runs = runs_of(tables, world)
        for name, asked in (ASKED | CONTROL).items():
            if world in asked.worlds:
                own = cells(f"{name} ({world})", asked.contrasts(tables, world), runs)
                table = cell_table(name, own)
                found.append(table.assign(world=world, control=name in CONTROL))
    return pd.concat(found, ignore_index=True)


def levels(joint: pd.DataFrame) -> pd.DataFrame:
    """Every arm of experiment B: one row a learning rate, lambda, cost and signal, with its number
    of seeds and the interquartile means of what ``LEVELS`` names, where the runs have it.
    """
    arm = ["learning_rate", "lam", "cost", "signal"]
    values = joint.groupby([*arm, "metric", "group"], sort=False)["value"]
    wide = values.agg(trim_mean, 0.25).unstack(["metric", "group"])
    found = pd.DataFrame({name: wide[what] for what, name in LEVELS.items() if what in wide})
    found.insert(0, "seeds", joint.groupby(arm)["seed"].nunique())
    return found.reset_index()


CLAIMS = tuple(
    Claim(
        claim,
        "ngmg_stability",
        partial(judge, claim=claim, world=world),
        world,
        REGIMES[world],
        {name: DELTA[name] for name in asked.metrics if name != "error" or world == "arcs"},
    )
    for claim, asked in ASKED.items()
    for world in asked.worlds
)
