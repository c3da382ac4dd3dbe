"""Every public name has an example, which runs and gives what it says."""

import doctest
from importlib import import_module

import pytest

import gmmdiff

MODULES = sorted({*gmmdiff._HOME.values(), "gmmdiff.core.sample_metrics"})


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    """Each in names of its own: what it needs it imports."""
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for test in finder.find(import_module(module), globs={}, extraglobs={"__name__": "example"}):
        assert runner.run(test).failed == 0, test.name


def test_a_public_name_has_an_example():
    """In its docstring or that of its module."""
    parser = doctest.DocTestParser()
    for name, home in gmmdiff._HOME.items():
        texts = [import_module(home).__doc__]
        if callable(getattr(gmmdiff, name)):
            texts.append(getattr(gmmdiff, name).__doc__)
        examples = [example.source for text in texts for example in parser.get_examples(text)]
        assert any(name in source for source in examples), name
