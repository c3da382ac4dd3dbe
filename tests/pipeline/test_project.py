"""The project's files agree with each other, and published numbers with the code beside them."""

import hashlib
import json
import re
import shutil
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from ruamel.yaml import YAML

from gmmdiff.judging import register
from gmmdiff.judging.rule import ENOUGH_SEEDS, FRAGILE
from gmmdiff.judging.tables import read_tables
from gmmdiff.pipeline import publishing, snapshot
from gmmdiff.pipeline.check_parameters import SECTIONS
from gmmdiff.pipeline.execution.errors import BadInput
from gmmdiff.pipeline.execution.parameters import SHARED, read_params
from tests.paths import PIPELINES, PUBLISHED, ROOT


@pytest.fixture(scope="module")
def lock():
    """Every stage's entry; DVC writes YAML 1.2, to which 1e-05 is a number."""
    locks = [YAML(typ="safe").load(folder / "dvc.lock") for folder in PIPELINES]
    return {name: entry for lock in locks for name, entry in lock["stages"].items()}


def md5(path):
    """DVC's hash of a file, or of a folder: that of the sorted list of its files."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    listing = [{"md5": md5(p), "relpath": p.relative_to(path).as_posix()} for p in files]
    return hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"


def test_locked_dependencies_are_the_working_tree(lock):
    stale = [
        f"{stage}: {dep['path']}"
        for stage, entry in lock.items()
        for dep in entry["deps"]
        if not dep["path"].startswith("reports/") and md5(ROOT / dep["path"]) != dep["md5"]
    ]
    assert stale == [], "run `dvc repro` and `make publish`"


def test_locked_parameters_are_those_of_params_yaml(lock):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage, entry in lock.items():
        for name, value in entry.get("params", {}).get("params.yaml", {}).items():
            found = params
            for part in name.split("."):
                found = found[part]
            assert found == value, (stage, name)


def test_a_change_of_every_parameter_is_seen():
    """`dvc exp run -S` acts on any of them: each belongs to a stage's parameters, and says so in
    params.yaml.
    """
    pipelines = [yaml.safe_load((folder / "dvc.yaml").read_text()) for folder in PIPELINES]
    stages = [stage for pipeline in pipelines for stage in pipeline["stages"].values()]
    watched = {name for stage in stages for name in stage.get("params", ())}
    assert (
        watched
        == set(SECTIONS) | set(SHARED)
        == set(read_params(ROOT / "params.yaml")) - {"cluster"}
    )  # which no result depends on


def test_locked_outputs_are_the_snapshot(lock):
    """But for what the snapshot leaves out, by its one rule."""
    outputs = [out for entry in lock.values() for out in entry.get("outs", [])]
    names = {Path(out["path"]).relative_to("reports"): out["md5"] for out in outputs}
    left_out = {name for name in names if not snapshot.published(name)}
    for name in names.keys() - left_out:
        assert md5(PUBLISHED / name) == names[name], name
    assert not [name for name in left_out if (PUBLISHED / name).exists()]
    parts = {name for name in left_out if str(name) != snapshot.FACES}
    assert {name.parts[1].endswith("_runs") for name in parts} == {True}
    folders = {name.parent.as_posix() for name in parts}
    assert folders | {snapshot.FACES} == set(snapshot.NOT_PUBLISHED)


def test_the_snapshot_is_small():
    size = sum(path.stat().st_size for path in PUBLISHED.rglob("*") if path.is_file())
    assert size <= 30e6


def test_manifest_lists_the_snapshot():
    manifest = json.loads((PUBLISHED / "manifest.json").read_text())
    assert manifest["dvc.lock"] == snapshot.digest(ROOT / "dvc.lock")
    assert manifest["files"] == snapshot.snapshot_files(PUBLISHED)


def test_what_belongs_to_the_machine_is_not_compared(tmp_path):
    for name in (
        "tables/performance/a.csv",
        "tables/performance_not.csv",
        "notebooks/performance.ipynb",
        "notebooks/report.ipynb",
        "index.html",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert list(snapshot.snapshot_files(tmp_path)) == [
        "notebooks/report.ipynb",
        "tables/performance_not.csv",
    ]


def test_claims_can_be_recomputed_from_the_published_tables():
    published = json.loads((PUBLISHED / "claims.json").read_text())
    found = [
        c
        for stage in dict.fromkeys(c.stage for c in register.REGISTER)
        for c in register.judge(stage, read_tables(PUBLISHED / "tables" / stage))
    ]
    assert found == published
    assert list(published[0]) == [
        "id",
        "statement",
        "source",
        "criterion",
        "estimate",
        "ci_low",
        "ci_high",
        "n_seeds",
        "world",
        "regime",
        "delta",
        "cells",
        "replication",
        "rival_verdict",
        "undertrained",
        "verdict",
        "stage",
        "details",
    ]


def test_every_sampled_claim_is_published_with_what_judges_it():
    published = json.loads((PUBLISHED / "claims.json").read_text())
    sampled = [claim for claim in published if claim["world"]]
    asked = [(c.id, c.world, c.regime) for c in register.REGISTER if c.world]
    assert [(claim["id"], claim["world"], claim["regime"]) for claim in sampled] == asked
    assert {(world, regime) for _, world, regime in asked} == {
        ("arcs", "dense"),
        ("faces", "dense"),
        ("faces", "sparse"),
        ("digits", "dense"),
        ("digits", "sparse"),
    }
    for claim in sampled:
        assert claim["n_seeds"] >= ENOUGH_SEEDS and claim["cells"] and claim["regime"]
        assert all(cell["delta"] > 0 and cell["state"] for cell in claim["cells"])
        assert set(claim["delta"].values()) >= {cell["delta"] for cell in claim["cells"]}
        assert all(len(cell["levels"]) == 2 for cell in claim["cells"])
        assert 0 <= claim["replication"] <= 1
        assert (claim["rival_verdict"] is not None) == (claim["replication"] < FRAGILE)
        assert claim["details"].startswith("Undertrained: ") == claim["undertrained"]


def test_readme_shows_the_published_claims():
    claims = json.loads((PUBLISHED / "claims.json").read_text())
    page = (ROOT / "README.md").read_text()
    assert (
        publishing.between_markers(ROOT / "README.md", publishing.readme_parts(PUBLISHED)) == page
    )
    asked = {claim["id"] for claim in claims if claim["world"]}  # exact ones are findings alone
    assert asked == set(re.findall(r'<a id="(\w+)"></a>', page))


def test_reproducing_shows_the_published_times():
    table = publishing.times_table(PUBLISHED / "environment")
    assert (
        publishing.between_markers(ROOT / "REPRODUCING.md", {"times": table})
        == (ROOT / "REPRODUCING.md").read_text()
    )


@pytest.mark.parametrize("page", ["README.md", "REPRODUCING.md"])
def test_links_and_commands_exist(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    names, places = re.findall(r'<a id="(\w+)">', text), [one for one in links if one[0] != "#"]
    assert len(places) > 6 and [link for link in places if not (ROOT / link).exists()] == []
    assert {link[1:] for link in links if link[0] == "#"} <= set(names)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:^|`)make (\w+)", text, re.M)) <= set(targets)


def test_a_missing_marker_is_named(tmp_path):
    (tmp_path / "page.md").write_text("no markers")
    with pytest.raises(BadInput, match=r"page.md: the markers .* must stand there"):
        publishing.between_markers(tmp_path / "page.md", {"claims": "table"})


def test_a_stale_lock_is_not_published(monkeypatch, tmp_path):
    monkeypatch.setattr(publishing, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(publishing, "stale_stages", lambda: {"theory_checks": ["changed"]})
    with pytest.raises(
        BadInput, match=r"dvc.lock is stale, run `dvc repro` first; changed: theory_checks"
    ):
        publishing.publish()
    assert not (tmp_path / "published").exists()


def test_a_stage_that_always_runs_is_not_stale(monkeypatch):
    always, changed = ["always changed"], {"changed deps": {"x": "modified"}}
    status = json.dumps({"pages": always, "report": [changed, *always]})
    monkeypatch.setattr(
        publishing.subprocess,
        "run",
        lambda *a, **k: publishing.subprocess.CompletedProcess(a, 0, status, ""),
    )
    assert list(publishing.stale_stages()) == ["report"]


def test_publishing_replaces_the_parts_and_keeps_the_soak(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publishing, "stale_stages", dict)
    for part in snapshot.PARTS:
        path = Path("reports", part) if "." in part else Path("reports", part, "new")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[]")
    shutil.copy(PUBLISHED / "claims.json", "reports/claims.json")
    for path in ("published/soak.csv", "published/tables/old"):
        Path("reports", path).parent.mkdir(parents=True, exist_ok=True)
        Path("reports", path).touch()
    Path("reports/environment/new").unlink()
    Path("reports/environment/stage.json").write_text(
        '{"seconds": 1, "memory": 2, "device": "cpu", "processors": 2}'
    )
    parts = {"README.md": ("findings", "claims", "time"), "REPRODUCING.md": ("times",)}
    for page, names in parts.items():
        marks = [f"<!-- {n}: written by the pipeline -->\n<!-- end of {n} -->\n" for n in names]
        Path(page).write_text("".join(marks))
    Path("params.yaml").touch()
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n  gone: {cmd: a}\n  kept: {cmd: b}\n")
    monkeypatch.setattr(publishing, "_dvc", lambda *command: "kept\n")
    monkeypatch.setattr(publishing.pages, "report_page", lambda folder, faces: f"{folder}, {faces}")
    publishing.publish()
    page = Path("reports/published/index.html").read_text()
    assert page == "reports/published, reports/ask_for_a_face"
    assert publishing.forget_old_stages(Path("dvc.lock")) == []
    assert "kept" in Path("dvc.lock").read_text() and "gone" not in Path("dvc.lock").read_text()
    listed = json.loads(Path("reports/published/manifest.json").read_text())["files"]
    assert set(listed) == {
        "claims.json",
        "metrics.json",
        "parameters.md",
        "parameters.ok",
        "tables/new",
        "figures/new",
        "notebooks/new",
        "denoisers/new",
    }
    assert (
        Path("reports/published/soak.csv").exists()
        and not Path("reports/published/tables/old").exists()
    )


def test_environments_agree():
    """Every requirement of pyproject.toml is pinned in the lock, in its range; conda uses that
    lock.
    """
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(r for group in project["optional-dependencies"].values() for r in group),
    ]
    for requirement in (each for each in map(Requirement, wanted) if each.name != "gmmdiff"):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pins and requirement.specifier.contains(pins[name]), requirement
    assert pins["torch"] == "2.13.0" and pins["dvc"] == "3.67.1"
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert "-r requirements.lock" in conda[-1]["pip"]


def test_notebooks_are_committed_without_outputs():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        book = nbformat.read(path, 4)
        code = [cell for cell in book.cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in code), path
        assert any("parameters" in cell.metadata.get("tags", []) for cell in code), path
