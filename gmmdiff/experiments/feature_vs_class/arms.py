"""The arms that are compared, alike in every world."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.runs import Run, TrainingSettings, run_table

COMPARED = ("class", "feature")
POINT = 0.0  # the s_c of an ordinary fixed embedding


def judged_arms(
    p: SimpleNamespace,
    n_train: int,
    learning_rate: float,
    steps: int,
    mixture_steps: int,
    attributes: int,
    controls: Sequence[str] = (),
) -> pd.DataFrame:
    """Class and feature, points and mixtures of scale ``s_c``, and the ``controls`` as points, with
    ``seeds``; with ``control_seeds`` no condition, and classes whose mixtures are scaled by their
    own smallest distance, which is sqrt(``attributes``) times that of features.

    Args:
        p: with s_c, seed, seeds and control_seeds.
        steps, mixture_steps: of the training, with point and with mixture conditions, which learn
            more slowly; features and classes have the same.

    Raises:
        ValueError: on more control seeds than seeds.
    """
    good, allowed = p.control_seeds <= p.seeds, f"in 1 .. seeds, which is {p.seeds}"
    require(good, "run table", "control_seeds", allowed, p.control_seeds)
    arms = [
        ([*COMPARED, *controls], POINT, steps, p.seeds),
        (COMPARED, p.s_c, mixture_steps, p.seeds),
        (["none"], POINT, steps, p.control_seeds),
        (["class"], p.s_c * attributes**0.5, mixture_steps, p.control_seeds),
    ]
    tables = [
        run_table(names, [scale], [n_train], [learning_rate], [length], count, p.seed)
        for names, scale, length, count in arms
    ]
    return pd.concat(tables, ignore_index=True)


def conditions(rows: pd.DataFrame, settings: TrainingSettings) -> pd.DataFrame:
    """The arms' conditions at the first seed, one row a granularity and s_c: dim, norm of a mean,
    gap between two that the arm tells apart, and noise, the standard deviation of a coordinate.
    """
    table = []
    for row in rows.drop_duplicates(["granularity", "s_c"]).itertuples(index=False):
        arm = Run(row, settings).conditioning
        norm = float(arm.means[0].norm())
        table.append((row.granularity, row.s_c, arm.dim, norm, arm.gap, arm.scale))
    return pd.DataFrame(table, columns=["granularity", "s_c", "dim", "norm", "gap", "noise"])
