"""Every stage depends on what it runs, and on no more; what only judges or draws retrains nothing;
no folder imports one that stands below it.
"""

import ast
import json
import re
import subprocess
import sys
from functools import cache

import nbformat
import pytest
import yaml
from dvc.repo import Repo

import gmmdiff
from gmmdiff.pipeline.check_parameters import check_file
from tests.paths import ROOT
from tests.pipeline.soak import copy_of_the_tree

COLUMN = ("core", "worlds", "engine", "experiments", "judging", "figures", "pipeline")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in (ROOT / "gmmdiff").rglob("*.py")
    if path.name != "__init__.py"
}
# How runs are computed, on which no result depends: that it gives the same bytes is its test.
RUNNER = {name for name in MODULES if name.startswith("gmmdiff.pipeline.")}
RUNNER -= {"gmmdiff.pipeline.results"}


@cache
def stages():
    """By DVC's own name, of both pipelines: command, dependencies, outputs."""
    return {
        stage.addressing: (
            stage.cmd,
            {ROOT / dep.def_path for dep in stage.deps if dep.def_path},
            {ROOT / out.def_path for out in stage.outs},
        )
        for stage in Repo(ROOT).index.stages
    }


def main():
    return {name: stage for name, stage in stages().items() if ":" not in name}


def training():
    return {name: stage for name, stage in main().items() if name.startswith("train@")}


def imported(source):
    """The modules of gmmdiff that a source names in an import, at the top or inside a function."""
    tree, names = ast.parse(source), set()
    tree.body = [node for node in tree.body if "TYPE_CHECKING" not in ast.unparse(node)[:20]]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gmmdiff":
            aliases = [alias.name for alias in node.names]
            if node.module == "gmmdiff":  # a public name
                names |= {gmmdiff._HOME[name] for name in aliases}
            else:
                names |= {f"{node.module}.{n}" for n in aliases} & set(MODULES) or {node.module}
    return names


@cache
def imports_of(module):
    return imported(MODULES[module].read_text())


def reached(modules, without=frozenset()):
    """The modules and all that they import, directly or not."""
    modules = set(modules) - without
    while more := set().union(*map(imports_of, modules)) - modules - without:
        modules |= more
    return modules


def needed(command):
    """The modules on which the results of a stage's command depend."""
    notebooks = re.findall(r"\S+\.ipynb", command)
    if not notebooks:
        (module,) = re.findall(r"python -m (\S+)", command)
        return reached({module}, RUNNER - {module}) | {module}
    cells = nbformat.read(ROOT / notebooks[0], 4).cells
    code = (cell.source for cell in cells if cell.cell_type == "code")
    return reached(set().union(*map(imported, code)), RUNNER)


# Neither has results: one refuses, the other shows, and always runs.
@pytest.mark.parametrize("stage", sorted(stages().keys() - {"parameters", "pages"}))
def test_a_stage_depends_on_every_module_it_imports_and_on_no_other_file(stage):
    command, deps, _ = stages()[stage]
    paths = {MODULES[name] for name in needed(command)}
    assert [path for path in paths if not any(path.is_relative_to(dep) for dep in deps)] == []
    code = [dep for dep in deps if dep.is_relative_to(ROOT / "gmmdiff") and dep.suffix != ".j2"]
    assert [dep for dep in code if not any(path.is_relative_to(dep) for path in paths)] == []
    assert ROOT / "requirements.lock" in deps


def test_dvc_repro_leaves_out_what_is_optional():
    """Its stages lie in a dvc.yaml of their own, and no other stage needs what they make."""
    made = {out for name in stages().keys() - main().keys() for out in stages()[name][2]}
    needed_by_others = set().union(*(deps for _, deps, _ in main().values()))
    assert made and not [
        (dep, out)
        for dep in needed_by_others
        for out in made
        if dep.is_relative_to(out) or out.is_relative_to(dep)
    ]


def test_dvc_trains_the_parts_that_the_parameters_name():
    items = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]["foreach"].values()
    listed = [(item["section"], item["part"]) for item in items]
    assert listed == check_file(ROOT / "params.yaml")[1]


def test_packages_hold_names_only():
    """So that no stage need depend on them."""
    for init in (ROOT / "gmmdiff").glob("*/**/__init__.py"):
        body = ast.parse(init.read_text()).body
        assert len(body) == 1 and ast.get_docstring(ast.parse(init.read_text())), init


@pytest.mark.parametrize("module", MODULES)
def test_no_folder_imports_one_below_it(module):
    own = COLUMN.index(module.split(".")[1])
    assert [n for n in imports_of(module) if COLUMN.index(n.split(".")[1]) > own] == []


def test_every_training_depends_on_its_own_world_alone():
    worlds = {ROOT / "gmmdiff" / "worlds" / f"{name}.py" for name in ("arcs", "faces", "digits")}
    for name, (_, deps, _) in training().items():
        assert len(deps & worlds) == 1, name


EDITED = ("figures/style.py", "judging/rule.py", "judging/findings.yaml", "pipeline/runner.py")
EDITED += ("pipeline/cluster.py", "pipeline/pages.py", "worlds/celeba.py", "worlds/arcs.py")


def test_dvc_itself_retrains_nothing_for_a_figure_a_rule_a_sentence_or_another_world(tmp_path):
    copy_of_the_tree(tmp_path)
    for name in EDITED:
        with open(tmp_path / "gmmdiff" / name, "a", encoding="utf-8") as file:
            file.write("\n# another look\n")
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout).items()
    deps = {
        name: [d for why in whys if isinstance(why, dict) for d in why.get("changed deps", ())]
        for name, whys in told
    }
    changed = {name for name, own in deps.items() if any(d.startswith("gmmdiff") for d in own)}
    of_arcs = {name for name in training() if "arcs" in name}
    assert changed & training().keys() == of_arcs
    assert {"feature_vs_class", "ngmg_stability", "theory_checks", "report"} <= changed
