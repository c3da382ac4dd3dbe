"""Every public name has an example in its docstring, which runs and gives what it says."""

import doctest
from importlib import import_module

import pytest

import gmmdiff

MODULES = sorted(set(gmmdiff._HOME.values()))


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    """Each in names of its own: what it needs it imports."""
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for test in finder.find(import_module(module), globs={}, extraglobs={"__name__": "example"}):
        assert runner.run(test).failed == 0, test.name


@pytest.mark.parametrize("name", gmmdiff._HOME)
def test_a_public_name_has_an_example(name):
    """In its docstring; that of its module where it is a plain value."""
    owner = getattr(gmmdiff, name)
    documented = owner if callable(owner) else import_module(gmmdiff._HOME[name])
    examples = doctest.DocTestParser().get_examples(documented.__doc__)
    assert any(name in example.source for example in examples)
