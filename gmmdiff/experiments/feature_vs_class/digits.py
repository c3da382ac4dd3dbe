"""The experiment on pairs of real digits: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from gmmdiff.core.checks import require
from gmmdiff.engine.runs import TrainingSettings
from gmmdiff.experiments.feature_vs_class.arms import judged_arms
from gmmdiff.experiments.run_tables import RunTables, checked, require_distinct
from gmmdiff.worlds.digits import Digits

CENTRE = 0.3  # about the mean grey of the data
ATTRIBUTES = 2


def run_tables(
    n_train: Sequence[int],
    steps: Sequence[int],
    mixture_steps: Sequence[int],
    s_c: float,
    learning_rate: Sequence[float],
    seeds: int,
    control_seeds: int,
    seed: int,
    train: float,
    validation: float,
    judge: float,
    held_out: float,
    **network: Any,
) -> RunTables:
    """Run tables and settings by name, ``judged_n`` for every n_train: see ``judged_arms``.

    Args:
        steps, mixture_steps, learning_rate: of every ``n_train``, see ``judged_arms``.
        train, validation, judge: shares of the images, see ``Digits``.
        held_out: share of the combinations that is left out of training, in (0, 1).
        network: further fields of ``TrainingSettings``.

    Raises:
        ValueError: also as ``checked``.
    """
    owner = "digits"
    require_distinct(owner, n_train=n_train)
    lengths = {"steps": steps, "mixture_steps": mixture_steps, "learning_rate": learning_rate}
    for name, values in lengths.items():
        require(len(values) == len(n_train), owner, name, "one for each n_train", values)
    world = partial(Digits, train=train, validation=validation, judge=judge)
    settings = TrainingSettings(world, round(held_out * 100), centre=CENTRE, size=1, **network)
    found = {}
    for n, points, mixtures, rate in zip(n_train, *lengths.values(), strict=True):
        arms = (n, points, mixtures, s_c, ATTRIBUTES, rate, seeds, control_seeds, seed)
        found[f"judged_{n}"] = judged_arms(*arms), settings
    return checked(owner, found, ["dense", "sparse"])
