"""Tables of NGMG's experiments with known answers."""

import itertools

import pandas as pd

from gmmdiff.core.costs import COSTS
from gmmdiff.engine.joint.classifiers import JointEnsemble
from gmmdiff.experiments.ngmg_stability.arms import JUDGED, with_signals

SEEDS = range(20)
OURS = "NGMG s=1"
COLUMNS = [*JointEnsemble.columns, "group", "metric", "value"]
LEVELS = {  # metric and group -> its value without a cost
    ("spike_rate", "all"): 0.001,
    ("variation", "all"): 0.4,
    ("validation_loss", "all"): 0.13,
    ("long_enough", "all"): 1.0,
    ("accuracy", "all"): 0.9,
    ("defect", "seen"): 0.1,
    ("defect", "rare"): 0.2,
    ("defect", "held out"): 0.3,
    ("law", "rare"): 1.2,
}
FACTORS = ("variation", "validation_loss", "law")  # metrics that a change multiplies


def joint(change=lambda *_: 0.0, lam=(0.0, 0.1, 1.0, 10.0), seeds=SEEDS, rate=0.01):
    """Experiment B in which ``change(metric, group, cost, signal, lam)`` is added to the level
    without a cost, or of a factor times so much more.
    """
    rows = []
    for level, (cost, signal), seed in itertools.product(lam, with_signals(JUDGED), seeds):
        if not level and cost != "BCE":
            continue
        for (metric, group), value in LEVELS.items():
            more = change(metric, group, cost, signal, level) if level else 0.0
            wiggle = 1 + 0.0001 * ((7 * seed + len(cost)) % 5)
            value = value * (1 + more) * wiggle if metric in FACTORS else value * wiggle + more
            arm = ("feature", 0.0, 50, rate, 100, seed, cost, signal, level, 0.0)
            rows.append((*arm, group, metric, value))
    return pd.DataFrame(rows, columns=COLUMNS)


def classifier(better=lambda cost, noise: 0.0, seeds=SEEDS):
    """Experiment A in which each cost is so much more accurate than 0.8 at its best rate: 0.1 for
    NGMG, for others 0.01.
    """
    rows = []
    for noise, (cost, signal), rate, seed in itertools.product(
        (0.0, 0.2), with_signals(COSTS), (0.01, 0.1, 1.0), seeds
    ):
        best = rate == (0.1 if cost == OURS else 0.01)
        value = 0.8 + better(cost, noise) if best else 0.6
        for metric in ("accuracy", "validation_accuracy"):
            arm = ("none", 0.0, 50, rate, 100, seed, cost, signal, 1.0, noise)
            rows.append((*arm, "all", metric, value + 0.0001 * ((3 * seed + len(cost)) % 4)))
    return pd.DataFrame(rows, columns=COLUMNS)


def everything(change=lambda *_: 0.0, better=lambda *_: 0.0, chosen=None, seeds=SEEDS):
    """All tables that the claims read.

    Args:
        chosen: the ``change`` of the runs that choose a lambda, if another.
    """
    choice = joint(chosen or change, seeds=range(20, 25)).query("lam > 0 and signal == 'raw'")
    return {
        "joint": joint(change, (0.0, 1.0, 10.0), seeds),
        "faces_joint": joint(change, seeds=seeds),
        "faces_choice": choice,
        "classifier": classifier(better, seeds),
    }
