"""The tables that the runs left behind, joined as claims and figures read them.

A folder of tables has one folder for every experiment's own parts, such as ``faces_runs/map_4``,
and one for what notebooks made of them, such as ``feature_vs_class``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

Tables = Mapping[str, pd.DataFrame]  # by name


def read_tables(folder: Path | str) -> dict[str, pd.DataFrame]:
    """All tables of one folder by name, from FOLDER/*.csv.

    Raises:
        FileNotFoundError: when there is none.
    """
    paths = sorted(Path(folder).glob("*.csv"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no tables here; run `dvc repro` first")
    return {path.stem: pd.read_csv(path) for path in paths}


def _parts(folder: Path | str) -> dict[str, dict[str, pd.DataFrame]]:
    """The tables of an experiment's parts by name, "map_4" before "map_16"."""

    def order(part: Path) -> tuple[str, float]:
        name, _, number = part.name.rpartition("_")
        return (name, float(number)) if name else (number, 0)

    parts = sorted((path for path in Path(folder).glob("*") if path.is_dir()), key=order)
    if not parts:
        raise FileNotFoundError(f"{folder}: no tables here; run `dvc repro` first")
    return {part.name: read_tables(part) for part in parts}


def _joined(parts: Mapping[str, Tables], table: str, kind: str) -> pd.DataFrame:
    """One table of all parts of a kind, one below the other."""
    own = [tables[table] for name, tables in parts.items() if name.startswith(kind)]
    return pd.concat(own, ignore_index=True)


def feature_vs_class(folder: Path | str) -> dict[str, pd.DataFrame]:
    """What the claims F1 to F8 and their figures read, from a folder of tables.

    ``arcs``, ``faces``, ``digits``: the runs of what is judged.  ``faces_map``: class and feature
    as points, of what is judged and of the map.  ``validation``: all validation curves, with their
    world.  ``WORLD_pictures``, ``WORLD_strip``: of the first seed, without a prefix of the arcs.
    ``arms``, ``samplers``: of the arcs.  ``story``, ``notices``: of faces trained far longer.

    Raises:
        FileNotFoundError: when there is none.
    """
    found, curves = {}, []
    for world, runs in (("arcs", "feature_vs_class"), ("faces", "faces"), ("digits", "digits")):
        parts = _parts(Path(folder) / f"{runs}_runs")
        found[world] = _joined(parts, "runs", "judged")
        curves.append(_joined(parts, "validation", "judged").assign(world=world))
        prefix = "" if world == "arcs" else f"{world}_"
        for tables in parts.values():
            found |= {
                name if name in ("story", "notices") else prefix + name: table
                for name, table in tables.items()
                if name not in ("runs", "validation")
            }
        if world == "faces":
            every = pd.concat([found[world], _joined(parts, "runs", "map")], ignore_index=True)
            found["faces_map"] = every.query("s_c == 0 and granularity in ['class', 'feature']")
    return found | {"validation": pd.concat(curves, ignore_index=True)}


def ngmg_stability(folder: Path | str) -> dict[str, pd.DataFrame]:
    """What the claims N1 to N6 and their figures read, from a folder of tables.

    ``classifier``: experiment A's runs.  ``joint``, ``norm_curves``: experiment B's on the arcs.
    ``faces_joint``, ``faces_choice``: B's on faces, what is judged and what chooses a lambda.

    Raises:
        FileNotFoundError: when there is none.
    """
    arcs, faces = (
        _parts(Path(folder) / f"{name}_runs") for name in ("ngmg_stability", "ngmg_faces")
    )
    return {
        "classifier": _joined(arcs, "runs", "label_noise"),
        "joint": _joined(arcs, "runs", "lam"),
        "norm_curves": _joined(arcs, "norm_curves", "lam"),
        "faces_choice": _joined(faces, "runs", "choice"),
        "faces_joint": _joined(faces, "runs", "lam"),
    }


RUNS = {"feature_vs_class": feature_vs_class, "ngmg_stability": ngmg_stability}


def stage_tables(stage: str, folder: Path | str) -> dict[str, pd.DataFrame]:
    """Everything that one stage's claims, figures and report read, from a folder of tables: its
    runs', where it has some, and what its notebook made of them.

    Raises:
        FileNotFoundError: when there is none.
    """
    runs = RUNS[stage](folder) if stage in RUNS else {}
    return runs | read_tables(Path(folder) / stage)
