"""Core and worlds need torch, numpy, scipy, POT and scikit-learn alone; names are at hand."""

import ast
import json
import subprocess
import sys

import pytest

import gmmdiff
from tests.paths import ROOT

APART = ("pandas", "matplotlib", "seaborn", "tqdm", "jinja2", "papermill", "nbformat", "IPython")
APART += ("ruamel", "yaml", "dvc", "distributed", "diffusers", "PIL", "psutil", "mistune")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for wing in ("core", "worlds")
    for path in (ROOT / "gmmdiff" / wing).rglob("*.py")
)


def fresh(code, folder=ROOT):
    """What the code prints as JSON, run in an interpreter that cannot load what lies apart.

    Its gmmdiff is the one in the folder.
    """
    refuse = (
        "import json, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {APART}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    command = [sys.executable, "-c", refuse + code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_core_and_worlds_need_the_five_packages_alone_and_every_public_name_loads():
    """POT, which takes long, only once it is asked for a distance."""
    code = (
        "from importlib import import_module\n"
        f"for name in {MODULES}: import_module(name)\n"
        "loaded = sorted({name.split('.')[0] for name in sys.modules})\n"
        "import gmmdiff\n"
        "print(json.dumps([loaded, [getattr(gmmdiff, n) is None for n in gmmdiff.__all__]]))"
    )
    loaded, missing = fresh(code)
    assert {"torch", "numpy", "scipy"} <= set(loaded) and not {*APART, "ot"} & set(loaded)
    assert not any(missing)


def test_the_package_itself_loads_nothing():
    loaded = fresh("import gmmdiff\nprint(json.dumps(sorted(sys.modules)))")
    assert "torch" not in loaded and "gmmdiff.core" not in loaded


def test_a_script_beside_the_clone_imports_it(tmp_path):
    """From a folder that holds one called gmmdiff, without __init__.py, as a clone is."""
    (tmp_path / "gmmdiff").mkdir()
    assert fresh("from gmmdiff import Arcs\nprint(json.dumps(Arcs.__name__))", tmp_path) == "Arcs"


def test_type_checkers_read_the_same_names():
    stub = ast.parse((ROOT / "gmmdiff" / "__init__.pyi").read_text("utf-8"))
    imports = [statement for statement in stub.body if isinstance(statement, ast.ImportFrom)]
    assert {
        name.name: statement.module for statement in imports for name in statement.names
    } == gmmdiff._HOME
    assert all(name.name == name.asname for statement in imports for name in statement.names)


def test_every_public_class_and_function_of_core_and_worlds_is_at_hand():
    """Unless it serves other modules alone: checks, helpers of the formulas, names of one world."""
    inner = {"checks", "sample_metrics", "statistics", "streams"}
    rest = {"Schedule", "split_prediction", "squared_distances", "check_batch", "inner", "samples"}
    rest |= {"pairwise_distances", "Defects", "Judged", "zipf"}
    for module in MODULES:
        path = ROOT / f"{module.replace('.', '/')}.py"
        if path.exists() and path.stem not in inner:
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_":
                    assert node.name in {*gmmdiff.__all__, *rest}, (module, node.name)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gmmdiff' has no attribute 'GMM'"):
        _ = gmmdiff.GMM
    assert "NGMG" in dir(gmmdiff)
