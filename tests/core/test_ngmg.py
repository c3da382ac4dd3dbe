"""NGMG against autograd, a double loop, closed forms and a memory bound."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from gmmdiff.core.distances import energy_distance
from gmmdiff.core.ngmg import NGMG
from gmmdiff.core.streams import stream
from gmmdiff.experiments.theory.parallel_lines import LineCosts, ParallelLine

MIXTURES = {
    "single": NGMG([0.7]),
    "weights": NGMG([0.3, 1.0, 4.0], [0.5, 2.0, 0.1]),
    "scale mixture": NGMG.scale_mixture(0.05, 5.0, 8),
}


@pytest.mark.parametrize("ngmg", MIXTURES.values(), ids=MIXTURES)
def test_gradient_is_that_of_the_potential(ngmg, generator):
    e = torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(ngmg.potential, e)
    (gradient,) = torch.autograd.grad(ngmg.potential(e).sum(), e)
    torch.testing.assert_close(ngmg.gradient(e.detach()), gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ngmg", MIXTURES.values(), ids=MIXTURES)
def test_cost_is_the_double_loop(ngmg, generator, monkeypatch):
    monkeypatch.setattr("gmmdiff.core.ngmg.STRIP", 3)
    x, y = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (7, 5))

    def psi(a, b):
        square = sum(d**2 for d in (a - b).tolist())
        pairs = zip(ngmg.weights.tolist(), ngmg.scales.tolist(), strict=True)
        return sum(w * (1 - math.exp(-square / (2 * s**2))) for w, s in pairs)

    cross = np.mean([psi(a, b) for a in x for b in y])
    within = [np.mean([psi(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y)]
    assert float(ngmg.cost(x, y)) == pytest.approx(cross - within[0] / 2 - within[1] / 2, rel=1e-10)


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


def test_blocks_do_not_change_the_cost_or_its_gradient(generator, monkeypatch):
    x, y = (
        torch.randn(n, 3, generator=generator, dtype=torch.float64).requires_grad_()
        for n in (40, 30)
    )
    found = []
    for block in (2**22, 64):
        monkeypatch.setattr("gmmdiff.core.ngmg.BLOCK", block)
        cost = MIXTURES["weights"].cost(x, y)
        found.append((cost, *torch.autograd.grad(cost, (x, y))))
    for whole, blocked in zip(*found, strict=True):
        torch.testing.assert_close(whole, blocked, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("block", [2**22, 64])
def test_a_batch_is_its_samples_one_by_one(block, generator, monkeypatch):
    monkeypatch.setattr("gmmdiff.core.ngmg.BLOCK", block)
    x = torch.randn(4, 9, 3, generator=generator, dtype=torch.float64)
    y, ngmg = torch.randn(7, 3, generator=generator, dtype=torch.float64), MIXTURES["weights"]
    for other in ((y,), ()):
        each = torch.stack([ngmg.mean_potential(one, *other) for one in x])
        torch.testing.assert_close(ngmg.mean_potential(x, *other), each)
    pairs = ngmg.potential(x[0].unsqueeze(1) - y)
    torch.testing.assert_close(ngmg.mean_potential(x[0], y), pairs.mean())


def test_scale_mixture_is_close_to_the_distance(generator):
    """Slope 1 in |e| well inside the range of scales, and the energy distance between laws."""
    ngmg = NGMG.scale_mixture(0.01, 300.0, 48)
    e = torch.tensor([[0.5], [1.0], [2.0], [4.0]], dtype=torch.float64)
    slopes = ngmg.potential(e).diff() / e.squeeze(1).diff()
    torch.testing.assert_close(slopes, torch.ones(3, dtype=torch.float64), rtol=0.02, atol=0)
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64)
    y = 1.5 * torch.randn(400, 3, generator=generator, dtype=torch.float64) + 1
    n = 400
    own = sum(float(torch.cdist(z, z).sum()) * (1 / (n * (n - 1)) - 1 / n**2) for z in (x, y))
    assert float(ngmg.cost(x, y)) == pytest.approx((energy_distance(x, y) - own) / 2, rel=0.02)


LARGE = """
import resource, torch
from gmmdiff.core.ngmg import NGMG
g = torch.Generator().manual_seed(0)
x, y = (torch.randn(20_000, 8, generator=g) for _ in range(2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cost = NGMG([2.0]).cost(x, y + 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, float(cost))
"""


def test_many_points_in_bounded_memory():
    """20,000 x 20,000 pairs in R^8 (1.6 GB as one matrix) stay under 512 MiB beyond the start."""
    out = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=True
    ).stdout.split()
    kibibytes = int(out[0]) / (1024 if sys.platform == "darwin" else 1)
    assert kibibytes < 512 * 1024
    spread = 4 + 2
    exact = (4 / spread) ** 4 * (1 - math.exp(-8 / (2 * spread)))
    assert float(out[1]) == pytest.approx(exact, rel=0.05)
