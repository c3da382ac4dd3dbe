"""The experiment on pairs of real digits: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from gmmdiff.core.checks import require
from gmmdiff.experiments.feature_vs_class.image_runs import settings
from gmmdiff.experiments.feature_vs_class.run_tables import RunTables, judged
from gmmdiff.worlds.digits import Digits

CENTRE = 0.3  # about the mean grey of the data


def parts(
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
    """Run tables and settings by name, ``judged_n`` for every n_train: see ``runs.judged``.

    Args:
        steps, mixture_steps, learning_rate: of every ``n_train``, see ``runs.judged``.
        train, validation, judge: shares of the images, see ``Digits``.
        held_out: share of the combinations that is left out of training, in (0, 1).
        network: further fields of ``TrainingSettings``.
    """
    require(len(set(n_train)) == len(n_train), "digits", "n_train", "distinct sizes", n_train)
    lengths = {"steps": steps, "mixture_steps": mixture_steps, "learning_rate": learning_rate}
    for name, values in lengths.items():
        good = len(values) == len(n_train)
        require(good, "digits", name, "one for each n_train", values)
    world = partial(Digits, train=train, validation=validation, judge=judge)
    of_all, m = settings(world, round(held_out * 100), CENTRE, **network), 2
    return {
        f"judged_{n}": (judged(n, *lengths, s_c, m, rate, seeds, control_seeds, seed), of_all)
        for n, rate, *lengths in zip(n_train, learning_rate, steps, mixture_steps, strict=True)
    }
