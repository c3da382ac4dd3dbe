"""Run tables by name: ``run_tables`` of every experiment makes them of the parameters that its
notebook declares, and refuses what cannot be trained or judged.
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


def require_distinct(owner: str, **levels: Sequence[float]) -> None:
    """Refuses a list of levels that holds one twice."""
    for name, values in levels.items():
        require(len(set(values)) == len(values), owner, name, "distinct levels", values)


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
        ValueError: also where a seed of a sparse table has no rare combination.
    """
    found = set()
    for name, (rows, settings) in run_tables.items():
        ensemble.check(rows, settings)
        if regimes and name.startswith(judged):
            found |= {regime(n, settings) for n in rows["n_train"].unique()}
            _require_groups(owner, rows, settings)
    allowed = f"judged {' and '.join(regimes)}, from {DENSE} samples a combination on dense"
    require(found == set(regimes), owner, "n_train", allowed, f"only {', '.join(sorted(found))}")
    return run_tables


def _require_groups(owner: str, rows: pd.DataFrame, settings: TrainingSettings) -> None:
    require(settings.held_out > 0, owner, "held_out", "at least one combination", settings.held_out)
    for n_train, seed in rows[["n_train", "seed"]].drop_duplicates().itertuples(index=False):
        if regime(n_train, settings) == "sparse":
            seed_data = SeedData(seed, settings)
            groups = seed_data.groups(seed_data.combinations(n_train))
            where = f"{owner}, n_train {n_train}, seed {seed}"
            allowed = "at least one combination with 1 to 5 images, on which F2 and F3 are judged"
            require("rare" in groups, where, "rare combinations", allowed, "none")
