"""How much of a cost a denoiser bears before its validation loss rises (our definition).

A run's *tolerance* is the largest lambda up to which its validation loss stays within ``BAND`` of
that of the same seed's run without a cost.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from gmmdiff.core.statistics import bootstrap
from gmmdiff.core.streams import numpy_stream
from gmmdiff.judging.ngmg_stability import NOT_FINITE, judged_rate
from gmmdiff.judging.rule import DELTA

BAND = DELTA["validation_loss"]  # of the logarithm
ARM = ["cost", "signal"]


def loss_ratios(joint: pd.DataFrame) -> pd.DataFrame:
    """Logarithm of the validation loss over that of the same seed without a cost: one row a cost,
    signal, lambda and seed, in the column value.
    """
    losses = judged_rate(joint).query("metric == 'validation_loss'")
    logs = np.log(losses["value"].fillna(NOT_FINITE).clip(upper=NOT_FINITE))
    without = logs[losses["lam"] == 0].set_axis(losses.loc[losses["lam"] == 0, "seed"])
    found = losses.assign(value=logs - losses["seed"].map(without))[losses["lam"] > 0]
    return found[[*ARM, "lam", "seed", "value"]].reset_index(drop=True)


def tolerance(lam: np.ndarray, ratio: np.ndarray, band: float = BAND) -> float:
    """The largest lambda up to which a curve of ratios, linear in log lambda between the points of
    the grid, ``(k,)`` each, stays at or below ``band``; the last where it never leaves it, the
    first where it begins above.
    """
    above = np.flatnonzero(ratio > band)
    if not len(above):
        return float(lam[-1])
    if above[0] == 0:
        return float(lam[0])
    ends = slice(above[0] - 1, above[0] + 1)
    return float(np.exp(np.interp(band, ratio[ends], np.log(lam[ends]))))


def tolerances(joint: pd.DataFrame) -> pd.DataFrame:
    """The tolerance of every run: one row a seed, one column a cost and signal."""
    curves = loss_ratios(joint).sort_values("lam").groupby([*ARM, "seed"], sort=False)
    return curves[["lam", "value"]].apply(lambda curve: tolerance(*curve.to_numpy().T)).unstack(ARM)


def tolerance_table(joint: pd.DataFrame) -> pd.DataFrame:
    """Each cost's tolerance, IQM over seeds of log lambda with its 95 % interval, and in multiples
    of BCE's.

    Columns: cost, signal; lam, low, high; beyond, where lam is an end of the grid: "at least" or
    "at most"; times, times_low, times_high, of BCE's.
    """
    logs, rows = np.log(tolerances(joint)), []
    grid = joint.loc[joint["lam"] > 0, "lam"]
    for arm in loss_ratios(joint).groupby(ARM, sort=False).groups:
        own, bce = logs[arm].to_numpy(), logs["BCE", "raw"].to_numpy()
        interval = np.exp(bootstrap([own], numpy_stream(0, f"tolerance {arm}")))
        beside = np.exp(bootstrap([own - bce], numpy_stream(0, f"tolerance {arm} against BCE")))
        ends = {"at most": grid.min(), "at least": grid.max()}
        beyond = next((word for word, end in ends.items() if np.isclose(interval[0], end)), "")
        rows.append((*arm, *interval, beyond, *beside))
    columns = [*ARM, "lam", "low", "high", "beyond", "times", "times_low", "times_high"]
    return pd.DataFrame(rows, columns=columns)
