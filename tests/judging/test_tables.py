"""Tables joined as claims and figures read them."""

import pandas as pd
import pytest

from gmmdiff.judging.tables import feature_vs_class, ngmg_stability, read_tables, stage_tables
from tests.judging import feature_vs_class_tables as made_up, ngmg_stability_tables as costs


def left(folder, tables):
    """Writes tables, by stage and name, as runs leave them."""
    for stage, named in tables.items():
        (folder / stage).mkdir(parents=True)
        for name, table in named.items():
            table.to_csv(folder / stage / f"{name}.csv", index=False)
    return folder


def test_what_feature_vs_class_left_behind_is_joined(tmp_path):
    curves = made_up.validation(seeds=1)
    one = {"validation": curves.query("world == 'faces'").drop(columns="world")}
    own = one | {"strip": made_up.face_strip()}
    folder = left(
        tmp_path,
        {
            "feature_vs_class_runs/judged": own | {"runs": made_up.runs("dense", 4)},
            "faces_runs/judged_1000": own | {"runs": made_up.runs(n_train=1000)},
            "faces_runs/judged_4000": one | {"runs": made_up.runs("dense", n_train=4000)},
            "faces_runs/map_4": one | {"runs": made_up.runs("dense", 4)},
            "faces_runs/story": {"story": made_up.story(), "notices": made_up.notices()},
            "digits_runs/judged_1000": own | {"runs": made_up.runs(m=2)},
        },
    )
    found = feature_vs_class(folder)
    assert set(found) == {
        *("arcs", "strip", "faces", "faces_strip", "faces_map", "story", "notices"),
        *("digits", "digits_strip", "validation"),
    }
    assert found["faces"]["n_train"].unique().tolist() == [1000, 4000]
    points = found["faces_map"]
    assert set(points["attributes"]) == {4, 6} and set(points["s_c"]) == {0}
    assert set(points["granularity"]) == {"class", "feature"}
    counts = found["validation"]["world"].value_counts()
    assert counts["faces"] == 2 * counts["arcs"] == 2 * counts["digits"], "none of the map"


def test_what_ngmg_stability_left_behind_is_joined_in_the_order_of_its_levels(tmp_path):
    of_lam = dict(list(costs.joint(seeds=range(2)).groupby("lam")))
    of_noise = dict(list(costs.classifier(seeds=range(2)).groupby("label_noise")))
    stages = {f"ngmg_faces_runs/lam_{lam}": {"runs": runs} for lam, runs in of_lam.items()}
    stages["ngmg_faces_runs/choice"] = {"runs": of_lam[1.0]}
    norms = {"norm_curves": costs.norm_curves()}
    arcs = {f"lam_{lam}": {"runs": runs} | norms for lam, runs in of_lam.items()}
    arcs |= {f"label_noise_{noise}": {"runs": runs} for noise, runs in of_noise.items()}
    stages |= {f"ngmg_stability_runs/{name}": part for name, part in arcs.items()}
    stages["ngmg_stability"] = {"cells": pd.DataFrame({"claim": ["N1"]})}
    found = ngmg_stability(left(tmp_path, stages))
    assert found["faces_joint"]["lam"].unique().tolist() == [0, 0.1, 1, 10]
    assert len(found["joint"]) == len(found["faces_joint"]) == sum(map(len, of_lam.values()))
    assert len(found["faces_choice"]) == len(of_lam[1.0])
    assert len(found["norm_curves"]) == 4 * len(costs.norm_curves())
    assert found["classifier"]["label_noise"].unique().tolist() == [0, 0.2]
    assert set(stage_tables("ngmg_stability", tmp_path)) == {*found, "cells"}


def test_a_folder_without_tables_is_named(tmp_path):
    for read in (read_tables, feature_vs_class, ngmg_stability):
        with pytest.raises(FileNotFoundError, match=r"no tables here; run `dvc repro` first"):
            read(tmp_path)
