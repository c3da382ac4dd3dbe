"""How much of a cost a denoiser bears before its validation loss rises (our definition).

A run's *tolerance* is the largest lambda up to which its validation loss stays within ``BAND`` of
that of the same seed's run without a cost.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from gmmdiff.core.statistics import bootstrap, paired
from gmmdiff.core.streams import numpy_stream
from gmmdiff.judging.ngmg_stability import NOT_FINITE, judged_rate
from gmmdiff.judging.rule import DELTA

BAND = DELTA["validation_loss"]  # of the logarithm
ARM = ["cost", "signal"]


def loss_ratios(joint: pd.DataFrame) -> pd.DataFrame:
    """Logarithm of the validation loss over that of the same seed without a cost: one row a cost,
    signal, lambda and seed, in the column value.
    """
    runs = judged_rate(joint)
    losses = runs[runs["metric"] == "validation_loss"].copy()
    losses["value"] = np.log(losses["value"].fillna(NOT_FINITE).clip(upper=NOT_FINITE))
    without = losses[losses["lam"] == 0].set_index("seed")["value"]
    found = losses[losses["lam"] > 0]
    ratio = found["value"] - found["seed"].map(without)
    return found[[*ARM, "lam", "seed"]].assign(value=ratio).reset_index(drop=True)


def tolerance(lam: np.ndarray, ratio: np.ndarray, band: float = BAND) -> float:
    """The largest lambda up to which a curve stays at or below ``band``.

    Between two points of the grid the curve is linear in log lambda.

    Args:
        lam: ``(k,)`` > 0, ascending.
        ratio: ``(k,)``.

    Returns:
        in [lam[0], lam[-1]]: the first where the curve begins above the band, the last where it
        never leaves it.

    Example:
        >>> import numpy as np
        >>> from gmmdiff.judging.tolerance import tolerance
        >>> round(tolerance(np.array([0.1, 1.0, 10.0]), np.array([0.0, 0.0, 0.04]), 0.02), 3)
        3.162
    """
    above = np.flatnonzero(ratio > band)
    if not len(above):
        return float(lam[-1])
    after = int(above[0])
    if after == 0:
        return float(lam[0])
    ends = slice(after - 1, after + 1)
    return float(np.exp(np.interp(band, ratio[ends], np.log(lam[ends]))))


def tolerances(joint: pd.DataFrame) -> pd.DataFrame:
    """The tolerance of every run: one row a cost, signal and seed, in the column lam."""
    curves = loss_ratios(joint).sort_values("lam").groupby([*ARM, "seed"], sort=False)
    rows = [
        (*arm, tolerance(curve["lam"].to_numpy(), curve["value"].to_numpy()))
        for arm, curve in curves
    ]
    return pd.DataFrame(rows, columns=[*ARM, "seed", "lam"])


def tolerance_table(joint: pd.DataFrame) -> pd.DataFrame:
    """Each cost's tolerance, IQM over seeds of log lambda with its 95 % interval, and in multiples
    of BCE's.

    Columns: cost, signal; lam, low, high; beyond, where lam is an end of the grid: "at least" or
    "at most"; times, times_low, times_high, of BCE's.
    """
    found, rows = tolerances(joint), []
    logs = found.assign(lam=np.log(found["lam"])).pivot(index="seed", columns=ARM, values="lam")
    grid = joint.loc[joint["lam"] > 0, "lam"]
    for arm in found.groupby(ARM, sort=False).groups:
        own, bce = logs[arm].to_numpy(), logs["BCE", "raw"].to_numpy()
        interval = np.exp(bootstrap([own], numpy_stream(0, f"tolerance {arm}")))
        beside = np.exp(paired(own, bce, numpy_stream(0, f"tolerance {arm} against BCE")))
        beyond = "at most" if np.isclose(interval[0], grid.min()) else ""
        beyond = "at least" if np.isclose(interval[0], grid.max()) else beyond
        rows.append((*arm, *interval, beyond, *beside))
    columns = [*ARM, "lam", "low", "high", "beyond", "times", "times_low", "times_high"]
    return pd.DataFrame(rows, columns=columns)
