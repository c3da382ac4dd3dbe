"""The project's files agree with each other, and the published numbers with the code beside them."""

import hashlib
import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from ruamel.yaml import YAML

from gmmdiff import claims, publishing
from gmmdiff.execution import BadInput, read_tables

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "reports" / "published"


@pytest.fixture(scope="module")
def lock():
    return YAML(typ="safe").load(ROOT / "dvc.lock")["stages"]  # DVC writes YAML 1.2, to which 1e-05 is a number


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
        for name, value in entry["params"]["params.yaml"].items():
            found = params
            for part in name.split("."):
                found = found[part]
            assert found == value, (stage, name)


def test_locked_outputs_are_the_snapshot(lock):
    for stage, entry in lock.items():
        for out in entry["outs"]:
            assert md5(PUBLISHED / Path(out["path"]).relative_to("reports")) == out["md5"], (stage, out["path"])


def test_manifest_lists_the_snapshot():
    manifest = json.loads((PUBLISHED / "manifest.json").read_text())
    assert manifest["dvc.lock"] == publishing.digest(ROOT / "dvc.lock")
    assert manifest["files"] == publishing.snapshot_files(PUBLISHED)


def test_claims_can_be_recomputed_from_the_published_tables():
    published = json.loads((PUBLISHED / "claims.json").read_text())
    found = [c for stage in dict.fromkeys(c.stage for c in claims.REGISTER) for c in claims.judge(stage, read_tables(PUBLISHED / "tables" / stage))]
    assert found == published
    assert list(published[0]) == [
        "id", "statement", "source", "criterion", "estimate", "ci_low", "ci_high", "n_seeds", "verdict", "stage", "details",
    ]  # fmt: skip


def test_readme_shows_the_published_claims():
    text = (ROOT / "README.md").read_text()
    table = publishing.claims_table(json.loads((PUBLISHED / "claims.json").read_text()))
    assert publishing.write_between_markers(text, table) == text


def test_readme_links_and_commands_exist():
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert len(links) > 6 and [link for link in links if not (ROOT / link).exists()] == []
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:^|`)make (\w+)", text, re.M)) <= set(targets)


def test_readme_snippet_runs():
    snippet = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    names = {}
    exec(snippet, names)
    assert float(names["loss"].detach()) < 0.3 and float(names["distance"]) < 0.3


def test_a_missing_marker_is_named():
    with pytest.raises(BadInput, match=r"the markers .* must stand there"):
        publishing.write_between_markers("no markers", "table")


def test_a_stale_lock_is_not_published(monkeypatch, tmp_path):
    monkeypatch.setattr(publishing, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(publishing, "stale_stages", lambda: {"theory_checks": ["changed"]})
    with pytest.raises(BadInput, match=r"dvc.lock is stale, run `dvc repro` first; changed: theory_checks"):
        publishing.publish()
    assert not (tmp_path / "published").exists()


def test_publishing_replaces_the_parts_and_keeps_the_soak(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publishing, "stale_stages", dict)
    for part in publishing.PARTS:
        path = Path("reports", part) if "." in part else Path("reports", part, "new")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[]")
    for path in ("published/soak.csv", "published/tables/old"):
        Path("reports", path).parent.mkdir(parents=True, exist_ok=True)
        Path("reports", path).touch()
    Path("README.md").write_text("\n".join(publishing.MARKERS))
    Path("dvc.lock").touch()
    publishing.publish()
    listed = json.loads(Path("reports/published/manifest.json").read_text())["files"]
    assert set(listed) == {"index.html", "claims.json", "tables/new", "figures/new", "notebooks/new"}
    assert Path("reports/published/soak.csv").exists() and not Path("reports/published/tables/old").exists()


def test_a_differing_verdict_is_an_error(tmp_path, capsys):
    for name, verdict in (("here", "partly"), ("there", "reproduced")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "claims.json").write_text(json.dumps([{"id": "X1", "verdict": verdict, "statement": "s"}]))
    assert publishing.compare(tmp_path / "here", tmp_path / "there") == 1
    assert "verdicts that differ: X1" in capsys.readouterr().out
    assert publishing.compare(tmp_path / "there", tmp_path / "there") == 0


class Outside(HTMLParser):
    """Collects what a page would load from elsewhere, its images without text, and its scripts."""

    def __init__(self):
        super().__init__()
        self.found, self.images = [], 0

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "script" or (tag in ("link", "img", "iframe") and not (attributes.get("src") or "").startswith("data:")):
            self.found.append((tag, str(attributes)[:80]))
        if tag == "img":
            self.images += 1
            if not attributes.get("alt"):
                self.found.append((tag, "no alternative text"))


def test_the_report_is_one_self_contained_page():
    page = (PUBLISHED / "index.html").read_text()
    parser = Outside()
    parser.feed(page)
    assert parser.found == [] and parser.images == 20
    assert "$" not in re.sub(r"<[^>]*>", "", page) and "<math" in page
    assert "@import" not in page and "url(http" not in page


def test_environments_agree():
    """Every requirement of pyproject.toml is pinned in the lock, in its range; conda uses that lock."""
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(r for group in project["optional-dependencies"].values() for r in group)]
    for requirement in map(Requirement, wanted):
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
