"""The tables that the runs left behind, joined as claims and figures read them.

A folder of tables has one folder for every experiment's own parts, such as ``faces_runs/map_4``,
and one for what notebooks made of them, such as ``feature_vs_class``.  Where there is none, each of
these functions raises a FileNotFoundError.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

Tables = Mapping[str, pd.DataFrame]  # by name


def read_tables(folder: Path | str) -> dict[str, pd.DataFrame]:
    """All tables of one folder by name, from FOLDER/*.csv."""
    return {path.stem: pd.read_csv(path) for path in _inside(folder, "*.csv")}


def _inside(folder: Path | str, pattern: str) -> list[Path]:
    """Paths in a folder by name, "map_4" before "map_16"."""

    def order(path: Path) -> tuple[str, float, str]:
        name, _, number = path.name.rpartition("_")
        return (name, float(number), "") if name and path.is_dir() else ("", 0, path.name)

    if paths := sorted(Path(folder).glob(pattern), key=order):
        return paths
    raise FileNotFoundError(f"{folder}: no tables here; run `dvc repro` first")


def _parts(folder: Path | str) -> dict[str, Tables]:
    """The tables of an experiment's parts by name."""
    return {part.name: read_tables(part) for part in _inside(folder, "*/")}


def _joined(parts: Mapping[str, Tables], table: str, *kinds: str) -> pd.DataFrame:
    """One table of all parts of some kinds, one below the other."""
    own = [tables[table] for name, tables in parts.items() if name.startswith(kinds)]
    return pd.concat(own, ignore_index=True)


def feature_vs_class(folder: Path | str) -> dict[str, pd.DataFrame]:
    """What the claims F1 to F8 and their figures read, from a folder of tables.

    ``arcs``, ``faces``, ``digits``: the runs of what is judged.  ``faces_map``: class and feature
    as points, of what is judged and of the map.  ``validation``: all validation curves, with their
    world.  ``WORLD_pictures``, ``WORLD_strip``, of the first seed, and ``WORLD_samplers``: without
    a prefix of the arcs.  ``arms``: of the arcs.  ``story``, ``notices``: of faces trained far
    longer.
    """
    found, curves = {}, []
    for world, runs in (("arcs", "feature_vs_class"), ("faces", "faces"), ("digits", "digits")):
        parts = _parts(Path(folder) / f"{runs}_runs")
        found[world] = _joined(parts, "runs", "judged")
        curves.append(_joined(parts, "validation", "judged").assign(world=world))
        for name, table in (one for tables in parts.values() for one in tables.items()):
            if name not in ("runs", "validation"):
                alone = world == "arcs" or name in ("story", "notices")
                found[name if alone else f"{world}_{name}"] = table
        if world == "faces":
            every = _joined(parts, "runs", "judged", "map")
            found["faces_map"] = every.query("s_c == 0 and granularity in ['class', 'feature']")
    return found | {"validation": pd.concat(curves, ignore_index=True)}


def ngmg_stability(folder: Path | str) -> dict[str, pd.DataFrame]:
    """What the claims N1 to N6 and their figures read, from a folder of tables.

    ``classifier``: experiment A's runs.  ``joint``, ``norm_curves``: experiment B's on the arcs.
    ``faces_joint``, ``faces_choice``: B's on faces, what is judged and what chooses a lambda.
    """
    parts = ("ngmg_stability_runs/alone", "ngmg_stability_runs/joint")
    parts += ("ngmg_faces_runs/joint", "ngmg_faces_runs/choice")
    alone, joint, faces, choice = (read_tables(Path(folder) / part) for part in parts)
    return {
        "classifier": alone["runs"],
        "joint": joint["runs"],
        "norm_curves": joint["norm_curves"],
        "faces_choice": choice["runs"],
        "faces_joint": faces["runs"],
    }


RUNS = {"feature_vs_class": feature_vs_class, "ngmg_stability": ngmg_stability}


def stage_tables(stage: str, folder: Path | str) -> dict[str, pd.DataFrame]:
    """Everything that one stage's claims, figures and report read, from a folder of tables: its
    runs', where it has some, and what its notebook made of them.
    """
    runs = RUNS[stage](folder) if stage in RUNS else {}
    return runs | read_tables(Path(folder) / stage)
