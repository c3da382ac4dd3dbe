"""The experiment on pairs of real digits: its run tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from gmmdiff.experiments.feature_vs_class.arms import judged_arms
from gmmdiff.experiments.run_tables import RunTables, checked, require_levels, settings_of
from gmmdiff.worlds.digits import Digits

CENTRE = 0.3  # about the mean grey of the data
ATTRIBUTES = 2


def run_tables(parameters: Mapping[str, Any]) -> RunTables:
    """Run tables and settings by name: ``judged_n`` for every n of n_train, see ``judged_arms``.

    Args:
        parameters: as notebooks/02c_digits_runs.ipynb declares them.

    Raises:
        ValueError: on lists that do not fit together, and as ``checked``.
    """
    p, owner = SimpleNamespace(**parameters), "digits"
    lists, count = ("steps", "mixture_steps", "learning_rate"), len(p.n_train)
    needed = {name: (len(parameters[name]) == count, "one for each n_train") for name in lists}
    require_levels(owner, parameters, ["n_train"], **needed)
    own = {"world": Digits, "held_out": round(p.held_out * 100), "centre": CENTRE, "size": 1}
    settings = settings_of(parameters, **own)
    trainings = zip(p.n_train, p.learning_rate, p.steps, p.mixture_steps, strict=True)
    found = {f"judged_{one[0]}": (judged_arms(p, *one, ATTRIBUTES), settings) for one in trainings}
    return checked(owner, found, ["dense", "sparse"])
