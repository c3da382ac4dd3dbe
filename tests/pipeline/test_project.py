"""The project's files agree with each other, and published numbers with the code beside them."""

import hashlib
import json
import re
import shutil
import tomllib
from itertools import chain
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from ruamel.yaml import YAML

from gmmdiff.judging import register
from gmmdiff.judging.rule import ENOUGH_SEEDS
from gmmdiff.pipeline import pages, publishing, snapshot
from gmmdiff.pipeline.errors import BadInput
from gmmdiff.pipeline.parameters import read_params
from tests.paths import PIPELINES, PUBLISHED, ROOT


@pytest.fixture(scope="module")
def lock():
    """Every stage's entry; DVC writes YAML 1.2, to which 1e-05 is a number."""
    files = [folder / "dvc.lock" for folder in PIPELINES]
    locks = [YAML(typ="safe").load(file) for file in files if file.is_file()]
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
    for stage, entry in lock.items():
        for file, values in entry.get("params", {}).items():
            params = read_params(ROOT / file)
            assert {name: params[name] for name in values} == values, stage


def test_a_change_of_every_parameter_is_seen():
    """`dvc exp run -S` acts on any of them: each section belongs to a stage's parameters; only on
    the cluster no result depends.
    """
    for folder in PIPELINES:
        text, sections = (folder / "dvc.yaml").read_text(), read_params(folder / "params.yaml")
        assert {n for n in sections if not re.search(rf"\b{n}\b", text)} <= {"cluster"}


def test_locked_outputs_are_the_snapshot(lock):
    """But for what the snapshot leaves out, by its one rule."""
    outputs = [out for entry in lock.values() for out in entry.get("outs", [])]
    names = {Path(out["path"]).relative_to("reports"): out["md5"] for out in outputs}
    left_out = {name for name in names if not snapshot.published(name)}
    for name in names.keys() - left_out:
        assert md5(PUBLISHED / name) == names[name], name
    assert not [name for name in left_out if (PUBLISHED / name).exists()]
    assert {name.parts[0] for name in left_out} == {"notebooks", snapshot.FACES}


def test_the_snapshot_is_small_and_its_manifest_lists_it():
    size = sum(path.stat().st_size for path in PUBLISHED.rglob("*") if path.is_file())
    assert size <= 17e6
    manifest = json.loads((PUBLISHED / "manifest.json").read_text())
    assert manifest["dvc.lock"] == snapshot.digest(ROOT / "dvc.lock")
    assert manifest["files"] == snapshot.snapshot_files(PUBLISHED)


def test_what_belongs_to_the_machine_is_not_compared(tmp_path):
    compared = ["notebooks/report.ipynb", "tables/performance_not.csv"]
    apart = ["tables/performance/a.csv", "notebooks/performance.ipynb", "index.html"]
    for name in compared + apart:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert list(snapshot.snapshot_files(tmp_path)) == compared


def test_every_claim_of_the_register_is_published_with_what_judges_it():
    published = json.loads((PUBLISHED / "claims.json").read_text())
    asked = [(c.id, c.world, c.regime) for c in register.REGISTER]
    assert [(claim["id"], claim["world"], claim["regime"]) for claim in published] == asked
    for claim in (claim for claim in published if claim["world"]):
        assert claim["n_seeds"] >= ENOUGH_SEEDS and claim["cells"]
        assert set(claim["delta"].values()) >= {cell["delta"] for cell in claim["cells"]}
        assert all(len(cell["levels"]) == 2 for cell in claim["cells"])


def test_pages_show_the_published_claims_and_times():
    parts = {"times": pages.times_table(PUBLISHED / "environment")}
    parts = {"README.md": publishing.readme_parts(PUBLISHED), "REPRODUCING.md": parts}
    for name, own in parts.items():
        page = (ROOT / name).read_text()
        assert publishing.between_markers(ROOT / name, own) == page
    claims = json.loads((PUBLISHED / "claims.json").read_text())
    asked = {claim["id"] for claim in claims if claim["world"]}  # exact ones are findings alone
    assert asked == set(re.findall(r'<a id="(\w+)"></a>', (ROOT / "README.md").read_text()))


@pytest.mark.parametrize("page", ["README.md", "REPRODUCING.md"])
def test_links_and_commands_exist(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    names, files = re.findall(r'<a id="(\w+)">', text), [one for one in links if one[0] != "#"]
    assert len(files) > 6 and [link for link in files if not (ROOT / link).exists()] == []
    assert {link[1:] for link in links if link[0] == "#"} <= set(names)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.M)) <= set(targets)
    modules = re.findall(r"-m (gmmdiff[\w.]*)", text)
    assert all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in modules)


def test_a_stale_lock_or_a_missing_marker_is_named(monkeypatch, tmp_path):
    always, changed = ["always changed"], {"changed deps": {"x": "modified"}}
    status = {name: [changed, *always] for name in ("pages", "report", "other/dvc.yaml:more")}
    monkeypatch.setattr(publishing, "_dvc", lambda *command: json.dumps(status))
    monkeypatch.setattr(publishing, "PUBLISHED", tmp_path / "published")
    with pytest.raises(BadInput, match=r"stale, run `dvc repro` first; changed: report$"):
        publishing.publish()
    assert not (tmp_path / "published").exists()
    (tmp_path / "page.md").write_text("no markers")
    with pytest.raises(BadInput, match=r"page.md: the markers .* must stand there"):
        publishing.between_markers(tmp_path / "page.md", {"claims": "table"})


def test_publishing_replaces_the_parts_and_keeps_the_soak(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publishing, "stale_stages", list)
    parts = [part if "." in part else f"{part}/new" for part in snapshot.PARTS]
    more = ["published/soak.csv", "published/tables/old", "notebooks/faces_runs/story.ipynb"]
    for path in (Path("reports", part) for part in parts + more):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[]")
    shutil.copy(PUBLISHED / "claims.json", "reports/claims.json")
    record = {"seconds": 1, "memory": 2, "device": "cpu", "processors": 2}
    Path("reports/environment/stage.json").write_text(json.dumps(record))
    readme = ("headlines", "findings", "claims", "time")
    marked = {"README.md": readme, "REPRODUCING.md": ("times",)}
    for page, names in marked.items():
        marks = [f"<!-- {n}: written by the pipeline -->\n<!-- end of {n} -->\n" for n in names]
        Path(page).write_text("".join(marks))
    Path("params.yaml").touch()
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n  gone: {cmd: a}\n  kept: {cmd: b}\n")
    monkeypatch.setattr(publishing, "_dvc", lambda *command: "kept\n")
    monkeypatch.setattr(publishing.pages, "report_page", lambda folder, faces: f"{folder}, {faces}")
    publishing.publish()
    published = Path("reports/published")
    assert (published / "index.html").read_text() == "reports/published, reports/ask_for_a_face"
    assert "kept" in Path("dvc.lock").read_text() and "gone" not in Path("dvc.lock").read_text()
    listed = json.loads((published / "manifest.json").read_text())["files"]
    assert set(listed) == {part for part in parts if not part.startswith("environment")}
    assert (published / "soak.csv").exists() and not (published / "tables/old").exists()
    assert "| stage | 1 | 2 | cpu | 2 |" in Path("REPRODUCING.md").read_text()


def test_environments_agree():
    """Every requirement of pyproject.toml is pinned in the lock, in its range; conda uses that
    lock.
    """
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    for requirement in (each for each in map(Requirement, wanted) if each.name != "gmmdiff"):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pins and requirement.specifier.contains(pins[name]), requirement
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert "-r requirements.lock" in conda[-1]["pip"]


def test_notebooks_are_committed_without_outputs():
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in code), path
        assert any("parameters" in cell.metadata.get("tags", []) for cell in code), path
