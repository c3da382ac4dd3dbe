"""The package as others get it: what its wheel holds, its types, its pages."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
import yaml

import gmmdiff
from tests.paths import ROOT
from tests.test_imports import fresh

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def run(*command, cwd, code=0):
    options = {"cwd": cwd, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([sys.executable, "-m", *command], **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of sdist and wheel, the wheel made from the sdist, without network."""
    tree = tmp_path_factory.mktemp("package") / "tree"
    apart = shutil.ignore_patterns(".*", "*.egg-info", "build", "reports", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=apart)
    run("build", "--no-isolation", cwd=tree)
    return tree / "dist"


def test_the_wheel_holds_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if not name.startswith(f"gmmdiff-{VERSION}.dist-info/")}
    files = (p for p in (ROOT / "gmmdiff").rglob("*") if p.is_file() and p.suffix != ".pyc")
    assert held == {path.relative_to(ROOT).as_posix() for path in files}
    assert {name.rpartition(".")[2] for name in held} <= {"py", "pyi", "typed", "j2", "yaml"}


def test_the_source_holds_the_package_and_what_tells_of_it(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    top = {name.partition("/")[0] for name in names} - {""}
    assert top - {"PKG-INFO", "setup.cfg", "gmmdiff.egg-info"} == {
        *("gmmdiff", "pyproject.toml", "MANIFEST.in"),
        *("README.md", "LICENSE", "CHANGELOG.md"),
    }


def test_what_is_installed_runs_its_examples_with_the_core_packages_alone(built, tmp_path):
    """Put in a folder that comes first; the packages of extras cannot be loaded."""
    install = ("pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile")
    run(*install, "--target", str(tmp_path), *map(str, built.glob("*.whl")), cwd=tmp_path)
    code = (
        "import doctest, gmmdiff\n"
        "from importlib import import_module\n"
        "found = []\n"
        "extras = {'gmmdiff.engine.denoiser', 'gmmdiff.worlds.celeba'}\n"
        "homes = set(gmmdiff._HOME.values()) - extras\n"
        "for module in sorted(homes):\n"
        "    for test in doctest.DocTestFinder().find(import_module(module), globs={}):\n"
        "        test.globs['__name__'] = 'example'\n"
        "        found.append([test.name, *doctest.DocTestRunner(verbose=False).run(test)])\n"
        "print(json.dumps([gmmdiff.__file__, gmmdiff.__version__, found]))"
    )
    file, version, found = fresh(code, tmp_path)
    assert file == str(tmp_path / "gmmdiff" / "__init__.py") and version == VERSION
    assert [name for name, failed, _ in found if failed] == []
    assert sum(tried for *_, tried in found) > len(gmmdiff.__all__)


def test_one_version_everywhere():
    released = re.findall(r"^## \[(\S+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released[0][0] == VERSION == gmmdiff.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION
    numbers = [tuple(map(int, number.split("."))) for number, _ in released]
    assert numbers == sorted(set(numbers), reverse=True)
    assert [day for _, day in released] == sorted((day for _, day in released), reverse=True)


def test_core_and_worlds_are_typed():
    assert "no issues found" in run("mypy", cwd=ROOT)


def test_a_users_checker_knows_the_public_names(tmp_path):
    """Each has a type of its own, and a wrong call is told; options, so the cache, as above."""
    names = [name for name in gmmdiff.__all__ if name != "__version__"]
    lines = [f"from gmmdiff import {name}\nreveal_type({name})" for name in names]
    (tmp_path / "user.py").write_text("\n".join([*lines, 'NGMGLoss(scales=["wide"])\n']))
    printed = run("mypy", str(tmp_path / "user.py"), cwd=ROOT, code=1)
    told = re.findall(r'Revealed type is "(.*)"', printed)
    assert len(told) == len(names) and "Any" not in told, printed
    (error,) = re.findall("error: (.*)", printed)
    assert 'List item 0 has incompatible type "str"; expected "float"' in error


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The text of every page, by name."""
    folder = tmp_path_factory.mktemp("docs")
    run("mkdocs", "build", "--strict", "-f", ".docs/mkdocs.yml", "-d", str(folder), cwd=ROOT)
    return {path.name: path.read_text("utf-8") for path in folder.glob("*.html")}


def test_pages_hold_every_public_name_with_its_example(pages):
    """In its own section, or in that of its module."""
    found = re.split(r'<h\d id="(gmmdiff[\w.]+)"', "".join(pages.values()))
    sections = dict(zip(found[1::2], found[2::2], strict=True))
    for name, module in gmmdiff._HOME.items():
        if callable(getattr(gmmdiff, name)):
            text = sections[f"{module}.{name}"] + sections.get(module, "")
            assert ">Examples:</span>" in text, name
        else:  # a plain value: its module tells of it
            assert f"<code>{name}</code>" in sections[module], name


def test_pages_ask_the_network_for_nothing(pages):
    assert {"index.html", "core.html", "worlds.html"} <= set(pages)
    for name, text in pages.items():
        loaded = re.findall(r'<link [^>]*href="?([^" >]+)|<[^>]* src="?([^" >]+)', text)
        urls = [url for pair in loaded for url in pair if url]
        assert urls and not [url for url in urls if "//" in url], name


def test_the_snippets_of_the_two_ideas_run():
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / ".docs/pages/index.md").read_text(), re.S)
    assert len(snippets) == 2
    names = {}
    for snippet in snippets:
        exec(snippet, names)
    assert names["tokens"].shape == (2, 3, 16)
