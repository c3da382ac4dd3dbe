"""The manifolds' geometry against brute force."""

import math

import pytest
import torch
from scipy.stats import kstest

from gmmdiff.core.streams import orthonormal_frame, stream
from gmmdiff.experiments.theory.helix import Helix
from gmmdiff.experiments.theory.parallel_lines import ParallelLine
from gmmdiff.worlds.arcs import Arcs


@pytest.fixture
def manifold():
    return Arcs(8, stream(0, "manifold"))


def test_frames_are_orthonormal(generator):
    frame = orthonormal_frame(7, 5, generator)
    torch.testing.assert_close(frame.T @ frame, torch.eye(5, dtype=torch.float64))


def test_parallel_line_is_where_it_says(generator):
    sample = ParallelLine(0.7).sample(2000, generator)
    assert (sample[:, 0] == 0.7).all()
    assert kstest(sample[:, 1].numpy(), "uniform").pvalue > 1e-3
    thick = ParallelLine(0.7, 0.2).sample(2000, generator)[:, 0].numpy()
    assert kstest(thick, "norm", (0.7, 0.2)).pvalue > 1e-3


def test_helix_turns_rigidly(generator):
    helix = Helix(6, generator)
    u = torch.linspace(0, 1, 20, dtype=torch.float64)
    torch.testing.assert_close(
        torch.cdist(helix.points(u, 0.8), helix.points(u, 0.8)),
        torch.cdist(helix.points(u), helix.points(u)),
    )
    torch.testing.assert_close(helix.points(u, 2 * math.pi), helix.points(u))
    strata = (helix.stratified(50, generator) * 50).floor()
    assert strata.tolist() == list(range(50))


def test_real_samples_have_no_defects(manifold, generator):
    drawn = manifold.sample_combinations(20_000, generator)
    shown = manifold.judge(manifold.sample(drawn, generator, "test"))
    assert ((shown.combination != drawn) | shown.malformed).double().mean() <= 1e-3


def test_what_lies_between_two_arcs_is_neither(manifold):
    """Halfway between an inner and an outer arc; the middle of the plane."""
    u, arcs = torch.full((4,), 0.5, dtype=torch.float64), torch.tensor([0, 4, 8, 12])
    far = manifold.points(arcs, u) * 3
    assert manifold.judge(torch.cat([far, torch.zeros(1, 8)])).malformed.all()


def test_distances_are_those_of_a_dense_point_cloud(manifold, generator):
    z = 0.8 * torch.randn(40, 8, generator=generator, dtype=torch.float64)
    u = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    for arc in (0, 5, 14):
        cloud = manifold.points(torch.full((20_001,), arc), u)
        expected = torch.cdist(z, cloud, compute_mode="donot_use_mm_for_euclid_dist").min(1).values
        torch.testing.assert_close(manifold.distances(z)[:, arc], expected, rtol=0, atol=2e-4)


def test_the_spacing_is_that_of_dense_point_clouds(manifold):
    u = torch.linspace(0, 1, 400, dtype=torch.float64)
    arcs = [manifold.points(torch.full((400,), c), u) for c in range(16)]
    gaps = [float(torch.cdist(a, b).min()) for i, a in enumerate(arcs) for b in arcs[:i]]
    assert manifold.spacing == pytest.approx(min(gaps), abs=1e-4)
    assert manifold.spacing > 20 * manifold.noise


def test_the_clean_point_lies_on_its_arc_and_is_the_nearest(manifold, generator):
    asked = torch.arange(16).repeat(5)
    z = 0.8 * torch.randn(80, 8, generator=generator, dtype=torch.float64)
    clean = manifold.clean(z, asked)
    torch.testing.assert_close(manifold.clean(clean, asked), clean)
    torch.testing.assert_close(manifold.distance(z, asked), (z - clean).norm(dim=1))
    u = torch.linspace(0, 1, 4001, dtype=torch.float64)
    for point, foot, arc in zip(z[:16], clean, asked, strict=False):
        cloud = manifold.points(arc.expand(4001), u)
        assert (cloud - foot).norm(dim=1).min() < 5e-4
        nearest = (cloud - point).norm(dim=1).min()
        assert float((point - foot).norm()) == pytest.approx(float(nearest), abs=2e-4)


def test_density_is_that_of_the_samples(manifold, generator):
    """Mean log density over samples against its value by nested estimation: a finer grid changes
    nothing.
    """
    members = manifold.with_attribute(1, 0)
    z = manifold.sample(manifold.sample_combinations(200, generator, members), generator)
    coarse, fine = (
        manifold.density(members, nodes).diffuse(0.9, 0.436).log_prob(z) for nodes in (256, 1024)
    )
    torch.testing.assert_close(coarse, fine, rtol=0, atol=1e-4)
    drawn = manifold.sample_combinations(20_000, generator, members)
    real = manifold.sample(drawn, generator).mean(0)
    law = manifold.density(members).sample(20_000, generator).mean(0)
    torch.testing.assert_close(law, real, rtol=0, atol=0.04)


def test_attributes_mean_what_they_say(manifold):
    u = torch.full((16,), 0.5, dtype=torch.float64)
    x, y = (manifold.points(torch.arange(16), u) @ manifold.frame[:, :2]).unbind(1)
    outer, lower, left, rippled = manifold.combinations.unbind(1)
    assert ((y < 0) == lower.bool()).all() and ((x < 0) == left.bool()).all()
    radius = torch.hypot(x, y)
    assert radius[outer == 0].max() < radius[outer == 1].min()
    assert set(manifold.with_attribute(3, 1).tolist()) == set(rippled.nonzero().squeeze(1).tolist())
