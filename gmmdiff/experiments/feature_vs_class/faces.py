"""The experiment on drawn faces: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.runs import TrainingSettings, run_table
from gmmdiff.experiments.feature_vs_class.arms import COMPARED, POINT, judged_arms
from gmmdiff.experiments.run_tables import RunTables, checked, regime
from gmmdiff.worlds.faces import CENTRE, Faces

CONTROLS = ("scrambled", "shared")


def run_tables(
    attributes: int,
    mapped: Sequence[int],
    n_train: Sequence[int],
    steps: Sequence[int],
    judged_n_train: Sequence[int],
    mixture_steps: Sequence[int],
    story_n_train: int,
    story: Sequence[int],
    s_c: float,
    learning_rate: float,
    seeds: int,
    control_seeds: int,
    seed: int,
    size: int,
    held_out: float,
    **network: Any,
) -> RunTables:
    """Run tables and settings by name.

    ``judged_n``, for every n of ``judged_n_train``: see ``judged_arms``; where a combination has
    few images, with the controls scrambled and shared.  ``map_m``, for every m of ``mapped``:
    class and feature, points, with ``control_seeds`` at every n_train that is not judged at that m,
    and as many samples in all as there.
    ``story``: class and feature, points and mixtures, with as many seeds, trained for the last of
    the steps ``story`` and measured at each.

    Args:
        attributes: the number m of attributes of what is judged.
        steps: of the training with points at every ``n_train``.
        mixture_steps: of that with mixtures at every ``judged_n_train``.
        held_out: share of the combinations that is left out of training, in (0, 1).
        network: further fields of ``TrainingSettings``.

    Raises:
        ValueError: also as ``checked``.
    """
    owner, length = "faces", dict(zip(n_train, steps, strict=False))
    good = len(length) == len(n_train) == len(steps)
    require(good, owner, "n_train, steps", "distinct sizes, and steps for each", [*n_train, *steps])
    good, allowed = set(judged_n_train) <= set(n_train), f"of n_train {list(n_train)}"
    require(good, owner, "judged_n_train", allowed, judged_n_train)
    # The first seed of what is judged there is trained again for the denoisers.
    allowed = f"one of judged_n_train {list(judged_n_train)}"
    require(story_n_train in judged_n_train, owner, "story_n_train", allowed, story_n_train)
    good, allowed = len(mixture_steps) == len(judged_n_train), "one for each judged_n_train"
    require(good, owner, "mixture_steps", allowed, list(mixture_steps))
    good = list(story) == sorted(set(story))
    require(good, owner, "story", "increasing numbers of steps", list(story))

    def settings(m: int) -> TrainingSettings:
        left_out = round(held_out * 2**m)
        return TrainingSettings(partial(Faces, m, size), left_out, centre=CENTRE, size=1, **network)

    found = {}
    for n, longer in zip(judged_n_train, mixture_steps, strict=True):
        controls = CONTROLS if regime(n, settings(attributes)) == "sparse" else ()
        numbers = (s_c, attributes, learning_rate, seeds, control_seeds, seed)
        rows = judged_arms(n, length[n], longer, *numbers, controls)
        found[f"judged_{n}"] = rows, settings(attributes)
    few = {"learning_rate": [learning_rate], "seeds": control_seeds, "first_seed": seed}
    for m in mapped:
        others = [n for n in n_train if m != attributes or n not in judged_n_train]
        tables = [run_table(COMPARED, [POINT], [n], steps=[length[n]], **few) for n in others]
        require(len(tables) > 0, owner, "mapped", "an m at which some n_train is not judged", m)
        n_eval = max(2, network["n_eval"] * 2**attributes // 2**m)
        rows = pd.concat(tables, ignore_index=True)
        found[f"map_{m}"] = rows, replace(settings(m), n_eval=n_eval)
    rows = run_table(COMPARED, [POINT, s_c], [story_n_train], steps=[max(story)], **few)
    found["story"] = rows, replace(settings(attributes), checkpoints=tuple(story))
    return checked(owner, found, ["dense", "sparse"], "judged")
