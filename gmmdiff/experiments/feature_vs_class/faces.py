"""The experiment on drawn faces: its run tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.runs import run_table
from gmmdiff.experiments.feature_vs_class.image_runs import settings
from gmmdiff.experiments.feature_vs_class.run_tables import (
    COMPARED,
    POINT,
    RunTables,
    judged,
    regime,
)
from gmmdiff.worlds.faces import CENTRE, Faces

CONTROLS = ("scrambled", "shared")


def parts(
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
    """Run tables and settings by name, each trained and kept by itself.

    ``judged_n``, for every n of ``judged_n_train``: see ``runs.judged``; where a combination has
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
    """
    owner, length = "faces", dict(zip(n_train, steps, strict=False))
    good = len(length) == len(n_train) == len(steps)
    require(good, owner, "n_train, steps", "distinct sizes, and steps for each", [*n_train, *steps])
    for name, sizes in (("judged_n_train", judged_n_train), ("story_n_train", [story_n_train])):
        require(set(sizes) <= set(n_train), owner, name, f"of n_train {list(n_train)}", sizes)
    good, allowed = len(mixture_steps) == len(judged_n_train), "one for each judged_n_train"
    require(good, owner, "mixture_steps", allowed, list(mixture_steps))
    good, allowed = list(story) == sorted(set(story)), "increasing numbers of steps"
    require(good and len(story) > 0, owner, "story", allowed, list(story))

    def of_m(m: int) -> Any:
        return settings(partial(Faces, m, size), round(held_out * 2**m), CENTRE, **network)

    alike, found = (learning_rate, seeds, control_seeds, seed), {}
    for n, longer in zip(judged_n_train, mixture_steps, strict=True):
        controls = CONTROLS if regime(n, of_m(attributes)) == "sparse" else ()
        rows = judged(n, length[n], longer, s_c, attributes, *alike, controls)
        found[f"judged_{n}"] = rows, of_m(attributes)
    few = {"learning_rate": [learning_rate], "seeds": control_seeds, "first_seed": seed}
    for m in mapped:
        others = [n for n in n_train if m != attributes or n not in judged_n_train]
        tables = [run_table(COMPARED, [POINT], [n], steps=[length[n]], **few) for n in others]
        require(len(tables) > 0, owner, "mapped", "an m at which some n_train is not judged", m)
        n_eval = max(2, network["n_eval"] * 2**attributes // 2**m)
        found[f"map_{m}"] = pd.concat(tables, ignore_index=True), replace(of_m(m), n_eval=n_eval)
    rows = run_table(COMPARED, [POINT, s_c], [story_n_train], steps=[max(story)], **few)
    found["story"] = rows, replace(of_m(attributes), checkpoints=tuple(story))
    return found
