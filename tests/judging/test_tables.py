"""Tables joined as claims and figures read them."""

import pytest

from gmmdiff.judging.tables import feature_vs_class, ngmg_stability, read_tables, stage_tables
from tests.paths import PUBLISHED

TABLES = PUBLISHED / "tables"


def test_what_feature_vs_class_left_behind_is_joined():
    found = feature_vs_class(TABLES)
    assert set(found) == {
        *("arcs", "pictures", "strip", "arms", "samplers", "faces_samplers", "digits_samplers"),
        *("faces", "faces_pictures", "faces_strip", "faces_map", "story", "notices"),
        *("digits", "digits_pictures", "digits_strip", "validation"),
    }
    assert found["faces"]["n_train"].unique().tolist() == [1000, 4000]
    points = found["faces_map"]
    assert set(points["attributes"]) == {4, 6, 8} and set(points["s_c"]) == {0}
    assert set(points["granularity"]) == {"class", "feature"}
    curves = found["validation"]
    assert list(curves["world"].unique()) == ["arcs", "faces", "digits"]
    assert set(curves.loc[curves["world"] == "faces", "attributes"]) == {6}, "none of the map"


def test_what_ngmg_stability_left_behind_is_joined():
    found = ngmg_stability(TABLES)
    assert found["faces_joint"]["lam"].unique().tolist() == [0, 0.1, 1, 10]
    assert found["joint"]["lam"].unique().tolist() == [0, 1, 10]
    assert found["classifier"]["label_noise"].unique().tolist() == [0, 0.2]
    assert not set(found["faces_choice"]["seed"]) & set(found["faces_joint"]["seed"])
    assert set(stage_tables("ngmg_stability", TABLES)) == {
        *found,
        *read_tables(TABLES / "ngmg_stability"),
    }


def test_parts_stand_in_the_order_of_their_numbers(tmp_path):
    for experiment, part in (("feature_vs_class", "judged"), ("digits", "judged_4")):
        _write_part(tmp_path / f"{experiment}_runs" / part)
    for part in ("map_16", "map_4", "judged_4"):
        _write_part(tmp_path / "faces_runs" / part)
    found = feature_vs_class(tmp_path)["faces_map"]
    assert found["part"].to_list() == ["judged_4", "map_4", "map_16"]


def _write_part(folder):
    folder.mkdir(parents=True)
    for name in ("runs", "validation"):
        (folder / f"{name}.csv").write_text(f"part,s_c,granularity\n{folder.name},0,class\n")


def test_a_folder_without_tables_is_named(tmp_path):
    for read in (read_tables, feature_vs_class, ngmg_stability):
        with pytest.raises(FileNotFoundError, match=r"no tables here; run `dvc repro` first"):
            read(tmp_path)
