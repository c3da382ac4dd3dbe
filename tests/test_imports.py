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
    return json.loads(done.stdout)


def test_core_and_worlds_need_the_five_packages_alone():
    code = f"from importlib import import_module\nfor name in {MODULES}: import_module(name)\n"
    loaded = fresh(code + "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))")
    assert {"torch", "numpy", "scipy", "ot", "sklearn"} & set(loaded) >= {"torch", "numpy", "ot"}
    assert not set(APART) & set(loaded)


def test_every_public_name_loads_without_the_rest():
    code = (
        "import gmmdiff\nprint(json.dumps([getattr(gmmdiff, n) is None for n in gmmdiff.__all__]))"
    )
    assert not any(fresh(code))


def test_the_package_itself_loads_nothing():
    loaded = fresh("import gmmdiff\nprint(json.dumps(sorted(sys.modules)))")
    assert "torch" not in loaded and "gmmdiff.core" not in loaded


def test_every_public_class_and_function_of_core_and_worlds_is_at_hand():
    """Unless it serves other modules alone: checks, helpers of the formulas, names of one world."""
    inner = {"gmmdiff.core.checks", "gmmdiff.core.streams"}
    rest = {"Schedule", "split_prediction", "squared_distances", "check_batch"}
    rest |= {"inner", "pairwise_distances", "random_on"}
    rest |= {
        "Interval",
        "Statistic",
        "iqm",
        "bootstrap",
        "iqm_weights",
        "weighted_iqm",
        "percentile_ends",
        "paired",
        "holm",
        "orthonormal_frame",
    }
    rest |= {"neighbour_metrics", "authenticity", "kid", "wasserstein2"}
    rest |= {"Defects", "Judged", "zipf"}
    for module in set(MODULES) - inner:
        path = ROOT / f"{module.replace('.', '/')}.py"
        if not path.exists():
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert node.name in {*gmmdiff.__all__, *rest}, (module, node.name)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gmmdiff' has no attribute 'GMM'"):
        _ = gmmdiff.GMM
    assert "NGMG" in dir(gmmdiff)
