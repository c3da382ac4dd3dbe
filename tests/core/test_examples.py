"""The examples in the docstrings of core and worlds run, and give what they say."""

import doctest
from importlib import import_module

import pytest

import gmmdiff
from tests.paths import ROOT

MODULES = sorted(
    f"gmmdiff.{wing}.{path.stem}"
    for wing in ("core", "worlds")
    for path in (ROOT / "gmmdiff" / wing).glob("*.py")
    if path.stem != "__init__"
)
WITH_EXAMPLE = ("GaussianMixtureConditioning", "NGMGLoss", "NGMGWithLogitsLoss")
WITH_EXAMPLE += ("ngmg_loss", "ngmg_with_logits")


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    """Each in names of its own: what it needs it imports."""
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for test in finder.find(import_module(module), globs={}, extraglobs={"__name__": "example"}):
        assert runner.run(test).failed == 0, test.name


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_a_public_name_has_an_example(name):
    assert doctest.DocTestParser().get_examples(getattr(gmmdiff, name).__doc__)
