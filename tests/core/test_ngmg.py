"""NGMG against autograd, all pairs at once, closed forms and a memory bound."""

import math

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from gmmdiff.core.distances import energy_distance
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.ngmg import NGMG
from gmmdiff.core.streams import stream
from gmmdiff.experiments.theory.parallel_lines import LineCosts, ParallelLine

MIXTURES = {
    "single": NGMG([0.7]),
    "weights": NGMG([0.3, 1.0, 4.0], [0.5, 2.0, 0.1]),
    "scale mixture": NGMG.scale_mixture(0.05, 5.0, 8),
}


@pytest.fixture
def points(generator):
    """40 and 30 points in R^3, float64."""
    x, y = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (40, 30))
    return x.requires_grad_(), y.requires_grad_()


@pytest.mark.parametrize("ngmg", MIXTURES.values(), ids=MIXTURES)
def test_gradient_is_that_of_the_potential(ngmg, points):
    e = points[0][:6]
    assert torch.autograd.gradcheck(ngmg.potential, e)
    (gradient,) = torch.autograd.grad(ngmg.potential(e).sum(), e)
    torch.testing.assert_close(ngmg.gradient(e.detach()), gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("strip", "block"), [(64, 2**22), (3, 2**22), (64, 64)])
@pytest.mark.parametrize("ngmg", MIXTURES.values(), ids=MIXTURES)
def test_cost_is_that_of_all_pairs(ngmg, strip, block, points, monkeypatch):
    """And its gradient, whatever is held at once."""
    monkeypatch.setattr("gmmdiff.core.ngmg.STRIP", strip)
    monkeypatch.setattr("gmmdiff.core.ngmg.BLOCK", block)

    def psi(x, y):
        squares = (x.unsqueeze(1) - y).square().sum(-1, keepdim=True)
        return ((1 - torch.exp(-squares / (2 * ngmg.scales**2))) * ngmg.weights).sum(-1)

    x, y = points
    within = [psi(z, z).sum() / (len(z) * (len(z) - 1)) for z in points]
    costs = ngmg.cost(x, y), psi(x, y).mean() - sum(within) / 2
    found, expected = ((cost, *torch.autograd.grad(cost, points)) for cost in costs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("width", [0.0, 0.2])
@pytest.mark.parametrize("name", ["single", "scale mixture"])
def test_cost_of_parallel_lines_is_the_closed_form(name, width):
    ngmg, generator = MIXTURES[name], stream(1, f"lines {name} {width}")
    values, slopes = [], []
    for _ in range(60):
        shift = torch.tensor([0.6, 0.0], dtype=torch.float64, requires_grad=True)
        x, y = (ParallelLine(0.0, width).sample(128, generator) for _ in range(2))
        cost = ngmg.cost(x + shift, y)
        values.append(cost.item())
        slopes.append(torch.autograd.grad(cost, shift)[0][0].item())
    exact = LineCosts(width).ngmg(np.array([0.6]), ngmg)
    for sampled, expected in zip((values, slopes), exact, strict=True):
        assert abs(np.mean(sampled) - expected[0]) < 4 * np.std(sampled) / math.sqrt(60)


@pytest.mark.parametrize("block", [2**22, 64])
def test_a_batch_is_its_samples_one_by_one(block, points, monkeypatch):
    monkeypatch.setattr("gmmdiff.core.ngmg.BLOCK", block)
    x, y, ngmg = points[0].view(4, 10, 3), points[1], MIXTURES["weights"]
    for other in ((y,), ()):
        each = torch.stack([ngmg.mean_potential(one, *other) for one in x])
        torch.testing.assert_close(ngmg.mean_potential(x, *other), each)


def test_scale_mixture_is_close_to_the_distance(generator):
    """Slope 1 in |e| well inside the range of scales, and the energy distance between laws."""
    ngmg = NGMG.scale_mixture(0.01, 300.0, 48)
    e = torch.tensor([[0.5], [1.0], [2.0], [4.0]], dtype=torch.float64)
    slopes = ngmg.potential(e).diff() / e.squeeze(1).diff()
    torch.testing.assert_close(slopes, torch.ones(3, dtype=torch.float64), rtol=0.02, atol=0)
    x, y = torch.randn(2, 400, 3, generator=generator, dtype=torch.float64)
    y, n = 1.5 * y + 1, 400
    own = sum(float(torch.cdist(z, z).sum()) * (1 / (n * (n - 1)) - 1 / n**2) for z in (x, y))
    assert float(ngmg.cost(x, y)) == pytest.approx((energy_distance(x, y) - own) / 2, rel=0.02)


def peak(function):
    """MiB that a call takes at its most, by torch's own account."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        function()
    events = watched.profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return np.cumsum(sizes).max() / 2**20


def test_the_cost_of_many_points_stays_within_its_block(generator):
    """8,000 x 8,000 pairs are 488 MiB at once; a block is 4."""
    x, y = torch.randn(2, 8000, 8, generator=generator)
    found = []
    assert peak(lambda: found.append(NGMG([2.0]).cost(x, y + 1))) < 40
    exact = (4 / 6) ** 4 * (1 - math.exp(-8 / (2 * 6)))
    assert float(found[0]) == pytest.approx(exact, rel=0.05)


def test_gradients_of_densities_stay_within_their_block(generator):
    """40,000 points and 64 components in R^8 are 164 MiB at once; a block is 2."""
    means = torch.randn(64, 8, generator=generator)
    law = GaussianMixture([1 / 64] * 64, means, torch.ones(64, 8)).diffuse(0.8, 0.6)
    x = torch.randn(40_000, 8, generator=generator).requires_grad_()
    assert peak(lambda: law.log_prob(x).sum().backward()) < 40
    assert peak(lambda: law.score(x.detach())) < 40
    assert peak(lambda: law.posterior_mean(x.detach(), 0.8, 0.6)) < 40
    torch.testing.assert_close(x.grad[:100], law.score(x.detach()[:100]), rtol=1e-4, atol=1e-5)
