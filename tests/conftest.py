"""Shared pieces of the tests."""

import pytest
import torch

from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.streams import stream
from gmmdiff.judging import rule as verdicts


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
