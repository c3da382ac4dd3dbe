"""What the claims of NGMG compare: arms paired by seed, each at the weight that it is asked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from gmmdiff.core.statistics import iqm
from gmmdiff.judging.rule import DELTA, Cell

OURS = "NGMG s=1"  # judged; every other cost is reported
REFERENCE = "without a cost"
UNSTEADY = ("spike_rate", "variation")  # of the gradient norm
NO_WORSE = {"validation_loss": "all", "defect": "seen"}  # metric -> its group, in N5
NO_WORSE_AT = (0.1, 1.0)  # lambdas
HELPED = ("rare", "held out")  # groups of N6
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
    return joint[joint["learning_rate"] == seeds.idxmax()]


def undertrained(joint: pd.DataFrame, cells: Sequence[Cell]) -> bool:
    """Whether fewer than nine in ten of the runs that the cells compare were trained long enough;
    no, where none is of experiment B.
    """
    compared = set()
    for cell in (cell for cell in cells if "lam" in cell.factors):
        lam = cell.factors["lam"]
        lams = lam, cell.factors.get("rival_lam", lam)
        named = zip(cell.arms, lams, strict=True)
        compared |= {("BCE", 0.0) if name == REFERENCE else (name, at) for name, at in named}
    runs = judged_rate(joint).query("metric == 'long_enough'").set_index(["cost", "lam"])["value"]
    found = runs[runs.index.isin(compared)]
    return bool(10 * found.sum() < 9 * len(found))


def at_best_rate(classifier: pd.DataFrame) -> pd.DataFrame:
    """Experiment A's runs at every arm's learning rate of the best mean validation accuracy."""
    arm = ["label_noise", "cost", "signal"]
    validated = classifier[classifier["metric"] == "validation_accuracy"]
    found = validated.groupby([*arm, "learning_rate"], as_index=False)["value"].mean()
    best = found.loc[found.groupby(arm)["value"].idxmax(), [*arm, "learning_rate"]]
    return classifier.merge(best, on=[*arm, "learning_rate"])


def best_lambda(choice: pd.DataFrame, among: Sequence[float]) -> dict[str, float]:
    """Every cost's lambda of the least validation loss, geometric mean over the choosing seeds.

    Args:
        among: the lambdas that are judged.
    """
    losses = choice[(choice["metric"] == "validation_loss") & choice["lam"].isin(among)]
    logs = np.log(losses["value"].clip(upper=NOT_FINITE))
    return logs.groupby([losses["cost"], losses["lam"]]).mean().unstack().idxmin(axis=1).to_dict()


class Joint:
    """Experiment B, read by arm: values ``(seeds,)``, alike ordered.

    Args:
        runs: experiment B; read at the learning rate that is judged.
    """

    def __init__(self, runs: pd.DataFrame) -> None:
        runs = judged_rate(runs)
        self._with_cost = runs[runs["lam"] > 0]
        values = runs["value"].fillna(NOT_FINITE).clip(upper=NOT_FINITE)
        arms = ["metric", "group", "lam", "cost", "signal"]
        self._wide = runs.assign(value=values).pivot(index="seed", columns=arms, values="value")

    def lams(self, signal: str = "raw") -> list[float]:
        """The lambdas at which there is ``OURS`` with that signal."""
        alike = (self._with_cost["cost"] == OURS) & (self._with_cost["signal"] == signal)
        return sorted(self._with_cost.loc[alike, "lam"].unique())

    def arm(self, metric: str, cost: str, lam: float, signal: str, group: str) -> np.ndarray:
        """One arm's values; of ``REFERENCE`` whatever lambda and signal.

        Matched to itself, BCE stands once.
        """
        if cost == REFERENCE:
            cost, lam = "BCE", 0
        signal = "raw" if cost == "BCE" else signal
        return self._wide[metric, group, lam, cost, signal].to_numpy()

    def cell(
        self,
        metric: str,
        first: str,
        second: str,
        lam: float,
        signal: str = "raw",
        group: str = "all",
        second_lam: float | None = None,
        margin: bool = False,
        above: bool = False,
    ) -> Cell:
        """One cost beside another.

        Args:
            second_lam: of the second, if another than lam.
            margin: whether the first may be worse by less than delta.
            above: whether there is nothing to ask unless one is above the reference by delta.
        """
        other = lam if second_lam is None else second_lam
        arms = {
            cost: self.arm(metric, cost, at, signal, group)
            for cost, at in ((first, lam), (second, other))
        }
        factors = {"metric": metric, "contrast": f"{first} against {second}"}
        factors |= {"group": group} if group != "all" else {}
        factors |= {"lam": float(lam)} | ({"rival_lam": float(other)} if other != lam else {})
        gaps = []
        if above:
            without = {REFERENCE: self.arm(metric, REFERENCE, 0, "raw", group)}
            pairs = ({cost: values} | without for cost, values in arms.items())
            gaps = [Cell.between(factors, pair).difference for pair in pairs]
        return Cell.between(factors, arms, gaps, DELTA[metric] if margin else None)


def steadiness(joint: pd.DataFrame, rival: str, signal: str) -> Iterator[Cell]:
    """Cells of N1, N2 and N4: spike rate and variation at every lambda."""
    runs = Joint(joint)
    for metric in UNSTEADY:
        for lam in runs.lams(signal):
            yield runs.cell(metric, OURS, rival, lam, signal, above=True)


def errors(classifier: pd.DataFrame, rival: str) -> Iterator[Cell]:
    """Cells of N3 and N4: the classifier's error at each arm's best rate, at every label noise."""
    best = at_best_rate(classifier)
    shown = best[(best["metric"] == "accuracy") & (best["signal"] == "raw")]
    wide = 1 - shown.pivot(index="seed", columns=["label_noise", "cost"], values="value")
    for noise in sorted(classifier["label_noise"].unique()):
        arms = {cost: wide[noise, cost].to_numpy() for cost in (OURS, rival)}
        factors = {"metric": "error", "contrast": f"{OURS} against {rival}", "label_noise": noise}
        yield Cell.between(factors, arms)


def no_worse(joint: pd.DataFrame, cost: str = OURS) -> Iterator[Cell]:
    """Cells of N5: validation loss and defects, less than delta above those without a cost."""
    runs = Joint(joint)
    for metric, group in NO_WORSE.items():
        for lam in (lam for lam in runs.lams() if lam in NO_WORSE_AT):
            yield runs.cell(metric, cost, REFERENCE, lam, group=group, margin=True)


def helps(joint: pd.DataFrame, choice: pd.DataFrame, rival: str) -> Iterator[Cell]:
    """Cells of N6: defects on rare and on held-out combinations, each cost at its best lambda."""
    runs = Joint(joint)
    best = best_lambda(choice, runs.lams())
    for group in HELPED:
        theirs = best.get(rival, best[OURS])
        yield runs.cell("defect", OURS, rival, best[OURS], group=group, second_lam=theirs)


def levels(joint: pd.DataFrame) -> pd.DataFrame:
    """Every arm of experiment B: one row a learning rate, lambda, cost and signal, with its number
    of seeds and the interquartile means of what ``LEVELS`` names, where the runs have it.
    """
    arm = ["learning_rate", "lam", "cost", "signal"]
    values = joint.groupby([*arm, "metric", "group"], sort=False)["value"]
    wide = values.agg(lambda column: float(iqm([column.to_numpy()]))).unstack(["metric", "group"])
    there = {name: wide[what] for what, name in LEVELS.items() if what in wide}
    found = pd.DataFrame(there)
    found.insert(0, "seeds", joint.groupby(arm)["seed"].nunique())
    return found.reset_index()
