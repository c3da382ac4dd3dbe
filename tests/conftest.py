"""Shared pieces of the tests."""

import pytest
import torch

from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.streams import stream
from gmmdiff.judging import rule as verdicts


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """No fixture is built twice: what shares one runs in one process of `make test`, by the file
    that the fixture lives as long as, or by its name where that is the session.  A browser, a
    build, a built documentation and the quick look are slow.
    """
    for item in items:
        fixtures = {name: found[-1] for name, found in item._fixtureinfo.name2fixturedefs.items()}
        own = {name: fixture for name, fixture in fixtures.items() if fixture.baseid}
        session = sorted(name for name, fixture in own.items() if fixture.scope == "session")
        if session or any(fixture.scope == "module" for fixture in own.values()):
            item.add_marker(pytest.mark.xdist_group([*session, item.path.stem][0]))
        if own.keys() & {"browser", "built", "pages", "quick_look"}:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def generator():
    return stream(0, "tests")


@pytest.fixture
def few_replicates(monkeypatch):
    """The rule on few resamples: rougher intervals and a rougher share of the resampled seeds that
    give the same verdict, sooner.
    """
    for name, number in (("RESAMPLES", 2000), ("REPLICATES", 100), ("INNER", 400), ("PORTIONS", 5)):
        monkeypatch.setattr(verdicts, name, number)


@pytest.fixture
def mixture(generator):
    """Four components in R^3, float64."""
    weights = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    means = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    scales = 0.2 + torch.rand(4, 3, generator=generator, dtype=torch.float64)
    return GaussianMixture(weights, means, scales)
