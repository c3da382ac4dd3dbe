"""The experiment on pairs of real digits: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.study.feature_vs_class.images import POINTS, Parts, check, recipe
from gmmdiff.study.feature_vs_class.runs import COMPARED, arms_table
from gmmdiff.worlds.digits import Digits

CENTRE = 0.3  # about the mean grey of the data


def parts(
    n_train: Sequence[int],
    steps: Sequence[int],
    n_eval: int,
    s_c: Sequence[float],
    learning_rate: float,
    seeds: int,
    seed: int,
    swept_steps: Sequence[int],
    swept_seeds: int,
    train: float,
    judge: float,
    held_out: float,
    **network: Any,
) -> Parts:
    """Run tables and recipes by name, each trained and kept by itself, two for every n_train.

    ``judged_n``: class and feature, points and mixtures, and with ``swept_seeds`` the unconditional
    arm.  ``steps_n``, with that many seeds: the first two at twice the steps, and at the smallest
    n_train with fewer.

    Args:
        train, judge: see ``Digits``.
    """
    good, allowed = len(set(n_train)) == len(n_train) == len(steps), "distinct, and as many steps"
    require(good, "digits", "n_train", allowed, f"{list(n_train)} and {list(steps)}")
    length, smallest = dict(zip(n_train, steps, strict=True)), min(n_train)
    check("digits", s_c, seeds, swept_seeds, swept_steps, length[smallest])
    world, left_out = partial(Digits, train=train, judge=judge), round(held_out * 100)
    of_all = recipe(world, left_out, CENTRE, n_eval=n_eval, **network)
    alike = {"learning_rate": [learning_rate], "first_seed": seed}
    few, judged, found = {**alike, "seeds": swept_seeds}, dict.fromkeys(COMPARED, s_c), {}
    for n in sorted(n_train):
        tables = [arms_table(judged, [n], [length[n]], seeds=seeds, **alike)]
        tables.append(arms_table({"none": POINTS}, [n], [length[n]], **few))
        found[f"judged_{n}"] = pd.concat(tables, ignore_index=True), of_all
        lengths = [*(swept_steps if n == smallest else ()), 2 * length[n]]
        found[f"steps_{n}"] = arms_table(judged, [n], lengths, **few), of_all
    return found
