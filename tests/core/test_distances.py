"""Distances against POT, SciPy, quadrature and each other."""

import math

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import jensenshannon

from gmmdiff.core import distances
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.core.ngmg import NGMG
from gmmdiff.core.streams import stream
from gmmdiff.experiments.theory import sets
from gmmdiff.experiments.theory.parallel_lines import LineCosts, ParallelLine


@pytest.fixture
def on_the_line(generator):
    """60 and 40 points."""
    x = torch.randn(60, 1, generator=generator).double()
    return x, 2 * torch.rand(40, 1, generator=generator).double()


def test_distances_on_the_line_are_pots_and_scipys(on_the_line):
    x, y = on_the_line
    found, (a, b) = distances.wasserstein1(x, y), (z[:, 0].numpy() for z in on_the_line)
    assert found == pytest.approx(float(ot.wasserstein_1d(a, b, p=1)), rel=1e-9)
    assert found == pytest.approx(scipy.stats.wasserstein_distance(a, b), rel=1e-9)
    energy = scipy.stats.energy_distance(a, b) ** 2
    assert distances.energy_distance(x, y) == pytest.approx(energy, rel=1e-9)


def test_w1_in_the_plane_is_scipys_assignment(generator):
    x, y = torch.rand(2, 20, 2, generator=generator, dtype=torch.float64)
    costs = torch.cdist(x, y)
    rows, columns = linear_sum_assignment(costs)
    assert distances.wasserstein1(x, y) == pytest.approx(float(costs[rows, columns].mean()))
    assert float(distances.transport_plan(x, y)[rows, columns].sum()) == pytest.approx(1)


@pytest.mark.parametrize("n", [25, 26, 300])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4])
@pytest.mark.parametrize(
    "distance", [distances.energy_distance, distances.wasserstein1, NGMG([0.1, 5.0]).cost]
)
def test_distances_do_not_depend_on_where_the_origin_is(distance, offset, n, generator):
    """Against float64 at the origin, on points that float32 holds exactly."""
    x, y = (torch.randn(2, n, 3, generator=generator) * 64).round() / 64
    expected = float(distance(x.double(), y.double()))
    assert float(distance(x + offset, y + offset)) == pytest.approx(expected, abs=1e-4)


def test_energy_tests_hold_their_level_and_see_a_difference(generator):
    x, y = torch.randn(2, 200, 20, 2, generator=generator, dtype=torch.float64)
    _, p = sets.energy_tests(x, y, 199, generator)
    assert 0.01 < float((p <= 0.05).double().mean()) < 0.10  # 200 tests of a true null
    assert float(sets.energy_tests(x, y + 2, 199, generator)[1].max()) == pytest.approx(1 / 200)


def test_js_of_disjoint_lines_is_log_2(generator):
    x, y = (ParallelLine(theta).sample(500, generator)[:, 0].numpy() for theta in (0.0, 0.3))
    found = distances.divergences_from_histograms(x, y, np.array([-0.15, 0.15, 0.45]))
    expected = {"KL": math.inf, "JS": math.log(2), "TV": 1}
    assert found == pytest.approx(expected, rel=1e-12)
    for name, value in expected.items():
        values = getattr(LineCosts(), name.lower())(np.array([0.0, 0.3]))[0]
        np.testing.assert_allclose(values, [0, value])


@pytest.mark.parametrize("theta", [0.05, 0.3, 1.5])
def test_thick_lines_against_quadrature(theta):
    """By brute-force integration of the two normal densities."""
    width, x = 0.2, np.linspace(-3, 5, 400_001)
    p, q = scipy.stats.norm.pdf(x, theta, width), scipy.stats.norm.pdf(x, 0, width)
    expected = {
        "w1": scipy.stats.wasserstein_distance(x, x, p, q),
        "kl": scipy.stats.entropy(p + 1e-300, q + 1e-300),
        "js": jensenshannon(p, q) ** 2,
        "tv": np.trapezoid(np.abs(p - q), x) / 2,
    }
    for name, value in expected.items():
        found = getattr(LineCosts(width), name)(np.array([theta]))[0][0]
        assert found == pytest.approx(value, rel=1e-3 if name == "kl" else 1e-6), name


@pytest.mark.parametrize("cost", ["w1", "kl", "tv", "js", "ngmg"])
def test_slopes_are_those_of_the_values(cost):
    theta, h = np.array([0.07, 0.4, 1.2]), 1e-6
    extra = (NGMG([0.1, 1.0]),) if cost == "ngmg" else ()
    function = getattr(LineCosts(0.3), cost)
    numeric = (function(theta + h, *extra)[0] - function(theta - h, *extra)[0]) / (2 * h)
    np.testing.assert_allclose(function(theta, *extra)[1], numeric, rtol=1e-5, atol=1e-9)


def test_energy_tests_are_those_of_relabelled_samples(generator):
    """Every permutation by hand; more points than one strip holds, the two samples of different
    size.
    """
    x, y = (torch.randn(2, n, 3, generator=generator, dtype=torch.float64) for n in (40, 50))
    energy, p = sets.energy_tests(x, y, 60, stream(1, "order"))
    orders = torch.rand(60, 90, generator=stream(1, "order")).argsort(1)
    for pair, (one, other) in enumerate(zip(x, y, strict=True)):
        joint, found = torch.cat([one, other]), distances.energy_distance(one, other)
        labels = [order < 40 for order in orders]
        relabelled = [distances.energy_distance(joint[own], joint[~own]) for own in labels]
        assert float(energy[pair]) == pytest.approx(found, rel=1e-4)
        assert float(p[pair]) == pytest.approx((1 + sum(e >= found for e in relabelled)) / 61)


def test_divergences_from_samples_are_unbiased(generator):
    n, width, theta = 100_000, 0.2, 0.25
    x, y = (ParallelLine(m, width).sample(n, generator)[:, :1] for m in (theta, 0.0))
    found = distances.divergences_from_samples([[theta]], [[0.0]], width, x, y)
    for name, values in found.items():
        exact = getattr(LineCosts(width), name.lower())(np.array([theta]))[0][0]
        assert abs(float(values.mean()) - exact) < 4 * float(values.std()) / math.sqrt(n)


def test_divergences_of_many_laws_are_those_of_each(generator):
    """Against the mixtures' own log densities, whose normalisation must cancel."""
    p, q, x, y = torch.randn(4, 3, 5, 2, generator=generator, dtype=torch.float64)
    found = distances.divergences_from_samples(p, q, 0.5, x, y)
    for i in range(3):
        one, other = (GaussianMixture([0.2] * 5, m, torch.full_like(m, 0.5)) for m in (p[i], q[i]))
        ratios = [one.log_prob(z).exp() / other.log_prob(z).exp() for z in (x[i], y[i])]
        torch.testing.assert_close(found["KL"][i], ratios[0].log(), rtol=1e-9, atol=1e-9)
        js = 0.5 * (2 * ratios[0] / (1 + ratios[0])).log() + 0.5 * (2 / (1 + ratios[1])).log()
        torch.testing.assert_close(found["JS"][i], js, rtol=1e-9, atol=1e-9)
