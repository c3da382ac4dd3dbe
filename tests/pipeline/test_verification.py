"""The published results against themselves, and against results that differ in a known way."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gmmdiff.pipeline import verification
from gmmdiff.pipeline.errors import BadInput
from tests.paths import PUBLISHED, ROOT

VALUES = np.arange(10.0)


@pytest.fixture
def summaries(monkeypatch):
    """Summaries of a table with two arms, the second one's values shifted."""
    monkeypatch.setattr(verification, "TABLES", {"stage": ("runs",)})

    def summary(shift):
        runs = pd.DataFrame({"seed": range(10), "metric": "defect", "value": VALUES})
        arms = pd.concat([runs.assign(lam=1), runs.assign(lam=10, value=VALUES + shift)])
        return verification.summarise("stage", {"runs": arms})

    return summary


def test_a_summary_is_the_interquartile_mean_of_every_arm(summaries):
    found = summaries(100.0)
    assert found["arm"].to_list() == ["lam 1", "lam 10"] and found["n"].to_list() == [10, 10]
    assert found["estimate"].to_list() == pytest.approx([4.5, 104.5])
    assert (found["low"] < found["estimate"]).all() and (found["estimate"] < found["high"]).all()


@pytest.mark.parametrize(
    ("share", "inside"), [(0.0, True), (0.9, True), (1.1, False), (-0.9, True), (-1.1, False)]
)
def test_the_published_interval_is_widened_as_stated(summaries, share, inside):
    published = summaries(0.0)
    low, high = published.loc[1, ["low", "high"]]
    room = high - low + verification.RELATIVE * 4.5 + verification.ABSOLUTE
    end = (high if share > 0 else low) - 4.5
    here = published.assign(estimate=[4.5, 4.5 + end + share * room])
    found = verification.compare_metrics(here, published)
    assert found["inside"].to_list() == [True, inside] if share else found["inside"].all()
    missing = verification.compare_metrics(published.iloc[:1], published)
    assert missing["inside"].to_list() == [True, False] and np.isnan(missing["here"].iloc[1])


def test_verdicts_are_compared_by_claim_world_and_regime():
    names = (*verification.CLAIM, "statement", "verdict")
    there = [
        ("A", "arcs", "dense", "", "partly"),
        ("A", "faces", "sparse", "", "reproduced"),
        ("B", None, None, "", "reproduced"),
    ]
    here = [("A", "faces", "sparse", "", "reproduced"), ("A", "arcs", "dense", "", "mixed")]
    both = ([dict(zip(names, one, strict=True)) for one in claims] for claims in (here, there))
    found = verification.compare_verdicts(*both)
    assert [row["here"] for row in found] == ["mixed", "reproduced", "missing"]
    assert [row["same"] for row in found] == [False, True, False]


def test_the_conclusion_is_the_weakest_link():
    assert verification.conclusion(True, True, True) == "byte-identical"
    assert verification.conclusion(True, True, False) == "reproduced"
    assert verification.conclusion(True, False, False) == "verdicts reproduced"
    assert verification.conclusion(False, True, True) == "not reproduced"


def test_differences_are_leaf_by_leaf():
    one, other = {"seed": 1, "a": {"x": 1, "y": [2]}}, {"seed": 1, "a": {"x": 3}, "b": None}
    names = {"a.x": (1, 3), "a.y": ([2], None)}
    rows = verification.differences(one, other)
    assert {row["name"]: (row["here"], row["published"]) for row in rows} == names


@pytest.fixture(scope="module")
def metrics():
    return verification.metrics_of(PUBLISHED)


def test_every_table_with_repeats_is_summarised(metrics):
    tables = {(stage, name) for stage, own in verification.TABLES.items() for name in own}
    assert set(metrics.groupby(["stage", "table"]).groups) == tables and len(metrics) > 2000
    assert not metrics.duplicated(verification.KEY).any()
    assert np.isfinite(metrics[["estimate", "low", "high"]]).all(axis=None)


@pytest.fixture
def copy(tmp_path):
    """A copy of the published results, as if made here."""
    return Path(shutil.copytree(PUBLISHED, tmp_path / "reports"))


def test_the_published_results_verify_themselves(copy, capsys, monkeypatch, metrics):
    monkeypatch.setattr(verification, "metrics_of", lambda reports: metrics)
    found = verification.verify(copy, PUBLISHED, PUBLISHED / "params.yaml")
    assert found["conclusion"] == "byte-identical"
    assert found["files"]["same"] == found["files"]["of"] > 50
    assert found["metrics"]["inside"] == found["metrics"]["of"] == len(metrics)
    assert found["parameters"] == found["machine"] == []
    assert verification.show(found) == 0 and "byte-identical; more in" in capsys.readouterr().out


def test_what_differs_is_named(copy, capsys, monkeypatch):
    monkeypatch.setattr(verification, "TABLES", {"ngmg_stability": ("joint",)})
    claims, record = copy / "claims.json", copy / "environment" / "report.json"
    told = json.loads(claims.read_text())
    told[0]["verdict"] = "not reproduced"
    claims.write_text(json.dumps(told))
    record.write_text(json.dumps(json.loads(record.read_text()) | {"device": "another"}))
    path = copy / "tables" / "ngmg_stability_runs" / "joint" / "runs.csv"
    table = pd.read_csv(path)
    changed = table.query("metric == 'defect' and cost == 'BCE' and group == 'seen' and lam == 10")
    table.loc[changed.index, "value"] += 5
    table.to_csv(path, index=False)
    found = verification.verify(copy, PUBLISHED, ROOT / "params.yaml")
    assert found["conclusion"] == "not reproduced" and verification.show(found) == 1
    outside = found["metrics"]["outside"]
    assert {row["metric"] for row in outside} == {"defect"}
    assert len(outside) == changed["learning_rate"].nunique() > 0
    differing = {"claims.json", str(path.relative_to(copy))}
    assert set(found["files"]["differing"]) == differing
    assert [row["name"] for row in found["machine"]] == ["device"]
    text = capsys.readouterr().out
    for part in (f"{'T1':20} not reproduced", "outside: ngmg_stability", "other machine: device"):
        assert part in text


def test_without_results_there_is_nothing_to_verify(tmp_path):
    with pytest.raises(BadInput, match=r"claims.json: no such file; run `dvc repro` first"):
        verification.verify(tmp_path)
    (tmp_path / "claims.json").write_text("[]")  # published by code whose tables lay elsewhere
    with pytest.raises(BadInput, match=r"not as this code reads them; `make publish` replaces"):
        verification.verify(PUBLISHED, tmp_path)
