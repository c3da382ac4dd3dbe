"""The experiment on drawn faces: its run tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.runs import TrainingSettings, run_table
from gmmdiff.experiments.feature_vs_class.arms import COMPARED, POINT, judged_arms
from gmmdiff.experiments.run_tables import RunTables, checked, regime, require_levels, settings_of
from gmmdiff.worlds.faces import CENTRE, Faces

CONTROLS = ("scrambled", "shared")


def run_tables(parameters: Mapping[str, Any]) -> RunTables:
    """Run tables and settings by name.

    ``judged_n``, for every n of ``judged_n_train``: see ``judged_arms``; where a combination has
    few images, with the controls scrambled and shared.  ``map_m``, for every m of ``mapped``:
    class and feature, points, with ``control_seeds`` at every n_train that is not judged at that m,
    and as many samples in all as there.
    ``story``: class and feature, points and mixtures, with as many seeds, trained for the last of
    the steps ``story`` and measured at each.

    Args:
        parameters: as notebooks/02b_faces_runs.ipynb declares them.

    Raises:
        ValueError: on lists that do not fit together, and as ``checked``.
    """
    p, owner = SimpleNamespace(**parameters), "faces"
    length, sizes = dict(zip(p.n_train, p.steps, strict=False)), [*p.n_train, *p.steps]
    good = len(length) == len(p.n_train) == len(p.steps)
    require(good, owner, "n_train, steps", "distinct sizes, and steps for each", sizes)
    judged = p.judged_n_train
    needed = {
        "judged_n_train": (set(judged) <= set(p.n_train), f"of n_train {p.n_train}"),
        # The first seed of what is judged there is trained again for the denoisers.
        "story_n_train": (p.story_n_train in judged, f"one of judged_n_train {judged}"),
        "mixture_steps": (len(p.mixture_steps) == len(judged), "one for each judged_n_train"),
        "story": (p.story == sorted(set(p.story)), "increasing numbers of steps"),
    }
    require_levels(owner, parameters, [], **needed)

    def settings(m: int) -> TrainingSettings:
        own = {"world": partial(Faces, m, p.size), "held_out": round(p.held_out * 2**m)}
        return settings_of(parameters, **own, centre=CENTRE, size=1)

    found, of_all = {}, settings(p.attributes)
    for n, longer in zip(judged, p.mixture_steps, strict=True):
        controls = CONTROLS if regime(n, of_all) == "sparse" else ()
        rows = judged_arms(p, n, p.learning_rate, length[n], longer, p.attributes, controls)
        found[f"judged_{n}"] = rows, of_all
    few = {"learning_rate": [p.learning_rate], "seeds": p.control_seeds, "first_seed": p.seed}
    for m in p.mapped:
        others = [n for n in p.n_train if m != p.attributes or n not in judged]
        tables = [run_table(COMPARED, [POINT], [n], steps=[length[n]], **few) for n in others]
        require(len(tables) > 0, owner, "mapped", "an m at which some n_train is not judged", m)
        n_eval = max(2, p.n_eval * 2**p.attributes // 2**m)
        rows = pd.concat(tables, ignore_index=True)
        found[f"map_{m}"] = rows, replace(settings(m), n_eval=n_eval)
    rows = run_table(COMPARED, [POINT, p.s_c], [p.story_n_train], steps=[max(p.story)], **few)
    found["story"] = rows, replace(of_all, checkpoints=tuple(p.story))
    return checked(owner, found, ["dense", "sparse"], "judged")
