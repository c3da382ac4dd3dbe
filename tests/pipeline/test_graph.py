"""Every stage depends on what it runs; what only judges or draws retrains nothing; no wing looks
down.
"""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml

import gmmdiff
from tests.paths import PIPELINES, ROOT
from tests.pipeline.soak import copy_of_the_tree

WINGS = ("core", "worlds", "study", "pipeline")
PARTS = [yaml.safe_load((folder / "dvc.yaml").read_text())["stages"] for folder in PIPELINES]
STAGES = {name: stage for part in PARTS for name, stage in part.items()}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in (ROOT / "gmmdiff").rglob("*.py")
    if path.name != "__init__.py"
}


def imported(source):
    """The modules of gmmdiff that a source names in an import, at the top or inside a function."""
    tree, found = ast.parse(source), set()
    tree.body = [node for node in tree.body if "TYPE_CHECKING" not in ast.unparse(node)[:20]]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gmmdiff":
            names = [alias.name for alias in node.names]
            if node.module == "gmmdiff":  # a public name
                found |= {gmmdiff._HOME[name] for name in names}
            else:
                found |= {f"{node.module}.{n}" for n in names} & set(MODULES) or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("gmmdiff")}
    return found


@cache
def imports_of(module):
    return imported(MODULES[module].read_text())


def reached(modules):
    """The modules and all that they import, directly or not."""
    found = set(modules)
    while more := set().union(*map(imports_of, found)) - found:
        found |= more
    return found


def notebook_of(stage):
    books = [
        dep
        for dep in STAGES[stage]["deps"]
        if dep.startswith("notebooks/") and dep.endswith(".ipynb")
    ]
    return ROOT / books[0] if len(books) == 1 else None


def entry(stage):
    """The module that a stage's command runs."""
    (name,) = re.findall(r"python -m (\S+)", STAGES[stage]["cmd"])
    return name if name in MODULES else f"{name}.__main__"


def covered(path, stage):
    return any(path.is_relative_to(ROOT / dep) for dep in STAGES[stage]["deps"])


@pytest.mark.parametrize("stage", [stage for stage in STAGES if notebook_of(stage)])
def test_every_module_a_stage_imports_lies_in_what_it_depends_on(stage):
    cells = [
        cell.source
        for cell in nbformat.read(notebook_of(stage), 4).cells
        if cell.cell_type == "code"
    ]
    needed = reached({entry(stage)}.union(*map(imported, cells)))
    assert [name for name in sorted(needed) if not covered(MODULES[name], stage)] == []
    assert {"reports/parameters.ok", "requirements.lock"} <= set(STAGES[stage]["deps"])


def test_dvc_repro_leaves_out_what_is_optional():
    """Its stages lie in a dvc.yaml of their own, and no other stage needs what they make."""
    main, optional = PARTS
    assert len(main) + len(optional) == len(STAGES) and len(optional) > 0
    made = [next(iter(out)) for stage in optional.values() for out in stage["outs"]]
    needed = [dep for stage in main.values() for dep in stage["deps"]]
    assert [dep for dep in needed if any(Path(out).is_relative_to(dep) for out in made)] == []
    assert {stage["wdir"] for stage in optional.values()} == {"../.."}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if notebook_of(stage)])
def test_no_stage_depends_on_code_that_is_not_there(stage):
    assert [
        dep
        for dep in STAGES[stage]["deps"]
        if dep.startswith("gmmdiff") and not (ROOT / dep).exists()
    ] == []


def test_packages_hold_names_only():
    """So that no stage need depend on them."""
    for path in (ROOT / "gmmdiff" / wing for wing in WINGS):
        for init in path.rglob("__init__.py"):
            body = ast.parse(init.read_text()).body
            assert len(body) == 1 and ast.get_docstring(ast.parse(init.read_text())), init


@pytest.mark.parametrize("module", MODULES)
def test_no_wing_imports_one_below_it(module):
    own = WINGS.index(module.split(".")[1])
    lower = [name for name in imports_of(module) if WINGS.index(name.split(".")[1]) > own]
    assert lower == []


JUDGES = ("claims.py", "findings.py", "findings.yaml", "cells.j2", "verdicts.py", "register.py")
DRAWS = ("pictures.py", "statistics.py", "style.py")
ROOMS = ("claims.py", "contrasts.py", "tolerance.py", "*figures.py", "curves.py", "sentences.j2")


def test_what_judges_or_draws_retrains_nothing():
    """Figures, rules, sentences and other experiments lie outside of what the training stages
    depend on.
    """
    training = [stage for stage, content in STAGES.items() if "_runs/" in str(content.get("outs"))]
    assert len(training) == 9
    study = ROOT / "gmmdiff" / "study"
    apart = [study / name for name in (*JUDGES, *DRAWS)]
    apart += [path for name in ROOMS for path in study.glob(f"*/{name}")]
    apart += [
        path for path in (ROOT / "gmmdiff" / "pipeline").glob("*.py") if path.name != "__init__.py"
    ]
    worlds = {ROOT / "gmmdiff" / "worlds" / f"{name}.py" for name in ("arcs", "faces", "digits")}
    for stage in training:
        assert [path for path in apart if covered(path, stage)] == []
        assert sum(covered(world, stage) for world in worlds) == 1  # its own


def test_dvc_reruns_no_training_for_a_figure(tmp_path):
    """DVC itself, on the real graph: with a figure edited, no training stage has a changed
    dependency.
    """
    copy_of_the_tree(tmp_path)
    figures = tmp_path / "gmmdiff" / "study" / "feature_vs_class" / "figures.py"
    figures.write_text(figures.read_text() + "\n# another look\n")
    command = [str(Path(sys.executable).parent / "dvc"), "status", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    changed = {
        stage
        for stage, reasons in json.loads(done.stdout).items()
        for reason in reasons
        if ":" not in stage  # of another pipeline
        and isinstance(reason, dict)
        and any(dep.startswith("gmmdiff") for dep in reason.get("changed deps", ()))
    }
    assert changed == {"celeba", "feature_vs_class", "report"}  # the first keeps its checkpoints
