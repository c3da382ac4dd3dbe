"""What the parts of a world of images leave behind, joined as the claims and figures read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from gmmdiff.study.claims import Tables
from gmmdiff.study.feature_vs_class.runs import with_arms


def joined(world: str, parts: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """The tables of one world's parts, called KIND_SETTING as in ``faces`` and ``digits``.

    WORLD: what is judged.  WORLD_steps: that and other lengths of training, on their seeds.
    WORLD_map: what is judged of the points, and the other sizes of the training set, where there
    are some.  WORLD_pictures and WORLD_strip: of the setting looked at closely.
    """
    of = {
        kind: {
            name.partition("_")[2]: tables
            for name, tables in parts.items()
            if name.startswith(f"{kind}_")
        }
        for kind in ("judged", "steps", "map")
    }
    judged = {setting: tables["runs"] for setting, tables in of["judged"].items()}
    lengths = [
        with_arms(tables["runs"], judged[setting], "steps").drop_duplicates()
        for setting, tables in of["steps"].items()
    ]
    found = {world: _stacked(judged.values()), f"{world}_steps": _stacked(lengths)}
    if of["map"]:
        every = _stacked([found[world], *(tables["runs"] for tables in of["map"].values())])
        found[f"{world}_map"] = every.query("s_c == 0 and granularity in ['class', 'feature']")
    for tables in of["judged"].values():
        for name in {"pictures", "strip"} & set(tables):
            found[f"{world}_{name}"] = tables[name]
    return found


def _stacked(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(list(tables), ignore_index=True)
