"""Run tables by name, made of the parameters that a notebook declares; what cannot be trained or
judged is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gmmdiff.core.checks import require
from gmmdiff.engine.runs import SeedData, TrainingSettings
from gmmdiff.engine.training import Ensemble

RunTable = tuple[pd.DataFrame, TrainingSettings]
RunTables = dict[str, RunTable]  # by name, each trained and kept by itself
DENSE = 30  # training samples of the average combination seen, from which a regime is called so
# Fields of ``TrainingSettings`` that every notebook declares.
NETWORK = ("width", "hidden", "batch", "ema", "evaluations", "n_eval")


def settings_of(parameters: Mapping[str, Any], **own: Any) -> TrainingSettings:
    """The settings of an experiment: what every one declares, and its ``own`` fields."""
    return TrainingSettings(**own, **{name: parameters[name] for name in NETWORK})


def choose(run_tables: RunTables, part: str) -> RunTable:
    """The run table called ``part``, and its settings.

    Raises:
        ValueError: when there is none.
    """
    require(part in run_tables, "run tables", "part", f"one of {', '.join(run_tables)}", repr(part))
    return run_tables[part]


def regime(n_train: int, settings: TrainingSettings) -> str:
    """How many training samples a combination has: dense or sparse."""
    return "dense" if n_train >= DENSE * len(SeedData(0, settings).seen) else "sparse"


def require_levels(
    owner: str, parameters: Mapping[str, Any], distinct: Sequence[str], **needed: tuple[bool, str]
) -> None:
    """Refuses what is not as ``needed``, by name whether it is and what is allowed, and a list that
    has to be ``distinct`` and holds a level twice.
    """
    twice = {name: len(set(parameters[name])) < len(parameters[name]) for name in distinct}
    rules = [(name, (not bad, "distinct levels")) for name, bad in twice.items()]
    for name, (good, allowed) in [*needed.items(), *rules]:
        require(good, owner, name, allowed, parameters[name])


def checked(
    owner: str,
    run_tables: RunTables,
    regimes: Sequence[str] = (),
    judged: str = "",
    ensemble: type[Ensemble] = Ensemble,
) -> RunTables:
    """The run tables, where all can be trained, and what claims judge has what they ask for.

    Args:
        regimes: those that must be there among the tables whose names begin with ``judged``, and
            no other.

    Raises:
        ValueError: also where nothing is held out, or a seed of a sparse table has no rare
            combination.
    """
    found = set()
    for name, (rows, settings) in run_tables.items():
        ensemble.check(rows, settings)
        if regimes and name.startswith(judged):
            allowed, got = "at least one combination", settings.held_out
            require(got > 0, owner, "held_out", allowed, got)
            for n, seed in rows[["n_train", "seed"]].drop_duplicates().itertuples(index=False):
                found.add(of_n := regime(n, settings))
                if of_n == "sparse":
                    _require_rare(f"{owner}, n_train {n}, seed {seed}", n, SeedData(seed, settings))
    allowed = f"judged {' and '.join(regimes)}, from {DENSE} samples a combination on dense"
    require(found == set(regimes), owner, "n_train", allowed, f"only {', '.join(sorted(found))}")
    return run_tables


def _require_rare(owner: str, n_train: int, seed_data: SeedData) -> None:
    groups = seed_data.groups(seed_data.combinations(n_train))
    allowed = "at least one combination with 1 to 5 images, on which F2 and F3 are judged"
    require("rare" in groups, owner, "rare combinations", allowed, "none")
