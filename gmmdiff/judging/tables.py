"""The tables that stages left behind, joined as claims and figures read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from gmmdiff.core.statistics import iqm
from gmmdiff.judging.claims import Tables


def read_tables(folder: Path | str) -> dict[str, pd.DataFrame]:
    """All tables of one stage by name, from FOLDER/*.csv.

    Raises:
        FileNotFoundError: when there is none.
    """
    paths = sorted(Path(folder).glob("*.csv"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no tables here; run `dvc repro` first")
    return {path.stem: pd.read_csv(path) for path in paths}


def joined(world: str, parts: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """The tables of one world's parts.

    WORLD: the runs of what is judged.  WORLD_map: class and feature as points, of what is judged
    and of the parts called map.  "validation": their validation curves, with the world.
    WORLD_pictures and WORLD_strip; "story" and "notices", where there are some.
    """
    judged = [tables for name, tables in parts.items() if name.startswith("judged")]
    runs = pd.concat([tables["runs"] for tables in judged], ignore_index=True)
    curves = pd.concat([tables["validation"] for tables in judged], ignore_index=True)
    found = {world: runs, "validation": curves.assign(world=world)}
    mapped = [tables["runs"] for name, tables in parts.items() if name.startswith("map")]
    if mapped:
        every = pd.concat([runs, *mapped], ignore_index=True)
        points = every.query("s_c == 0 and granularity in ['class', 'feature']")
        found[f"{world}_map"] = points
    for tables in parts.values():
        found |= {
            f"{world}_{name}": tables[name] for name in ("pictures", "strip") if name in tables
        }
        found |= {name: tables[name] for name in ("story", "notices") if name in tables}
    return found


def iqm_by(table: pd.DataFrame, index: str, columns: str) -> pd.DataFrame:
    """Interquartile means of ``value``: a row a level of ``index``, a column a level of
    ``columns``.
    """
    return table.pivot_table(
        index=index, columns=columns, values="value", aggfunc=lambda v: float(iqm([v.to_numpy()]))
    ).reset_index()
