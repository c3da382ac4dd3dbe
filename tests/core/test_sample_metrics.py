"""Metrics of samples against scikit-learn, POT, definitions point by point and known answers."""

import numpy as np
import ot
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from gmmdiff.core.sample_metrics import authenticity, kid, neighbour_metrics, wasserstein2
from gmmdiff.core.streams import stream
from gmmdiff.experiments.feature_vs_class.common_metrics import GUESSES, common_metrics


@pytest.fixture
def samples(generator):
    """80 samples and 60 real ones, images of 2 x 3."""
    x, real = (torch.randn(n, 2, 3, generator=generator) for n in (80, 60))
    return 0.7 * x + 0.3, real


def flat(x):
    return x.flatten(1).double().numpy()


@pytest.mark.parametrize("k", [1, 5, 59])
def test_neighbour_metrics_are_scikit_learns_neighbours_counted_one_by_one(samples, k):
    x, real = map(flat, samples)

    def balls(centres, others):
        """Which of the others lie in each centre's ball."""
        tree = NearestNeighbors(algorithm="kd_tree").fit(centres)
        radii = tree.kneighbors(n_neighbors=k)[0][:, -1]  # a fitted point is not its own neighbour
        among = NearestNeighbors(algorithm="kd_tree").fit(others)
        pairs = zip(centres, radii, strict=True)
        return [set(among.radius_neighbors([centre], radius)[1][0]) for centre, radius in pairs]

    in_real, in_x = balls(real, x), balls(x, real)
    expected = {
        "precision": len(set.union(*in_real)) / 80,
        "recall": len(set.union(*in_x)) / 60,
        "density": sum(map(len, in_real)) / (k * 80),
        "coverage": sum(map(bool, in_real)) / 60,
    }
    assert neighbour_metrics(*samples, k=k) == pytest.approx(expected)


def test_neighbours_and_w2_do_not_depend_on_where_the_origin_is(generator):
    """On points that float64 holds exactly; matrix products there err by a twentieth."""
    x, real = (torch.randn(2, 800, 3, generator=generator).double() * 1024).round() / 1024
    apart = neighbour_metrics(x, real, k=1), authenticity(x, real), wasserstein2(x, real)
    there = x + 1e6, real + 1e6
    moved = neighbour_metrics(*there, k=1), authenticity(*there), wasserstein2(*there)
    assert moved[:2] == apart[:2] and moved[2] == pytest.approx(apart[2], rel=1e-6)


def test_fresh_samples_are_as_dense_and_cover_as_naeem_et_al_compute(generator):
    """Expectations of equal laws: density 1 (their lemma 1), coverage near 1 - 2^-k (lemma 2)."""
    x, real = torch.randn(2, 1500, 3, generator=generator)
    measured = neighbour_metrics(x, real, k=5)
    assert measured["density"] == pytest.approx(1, abs=0.05)
    assert measured["coverage"] == pytest.approx(1 - 2**-5, abs=0.015)


def test_authenticity_finds_copies_and_only_those(generator):
    train = torch.randn(100, 16, generator=generator)
    copies = train[:30] + 1e-3 * torch.randn(30, 16, generator=generator)
    far = 100 + torch.randn(70, 16, generator=generator)
    assert authenticity(torch.cat([copies, far]), train) == 0.7
    fresh = torch.randn(1000, 2, generator=generator)  # asked of each sample in turn
    tree = NearestNeighbors().fit(flat(train[:, :2]))
    distance, index = tree.kneighbors(flat(fresh), 1)
    own = tree.kneighbors(n_neighbors=1)[0]
    expected = np.mean([d > own[i] for d, i in zip(distance, index, strict=True)])
    assert authenticity(fresh, train[:, :2]) == pytest.approx(expected)


def test_kid_is_scikit_learns_kernel_over_distinct_pairs(samples):
    x, real = map(flat, samples)

    def mean(a, b, distinct):
        values = polynomial_kernel(a, b, degree=3, gamma=1 / 6, coef0=1)
        return values[~np.eye(len(a), dtype=bool)].mean() if distinct else values.mean()

    expected = mean(x, x, True) + mean(real, real, True) - 2 * mean(x, real, False)
    assert kid(*samples) == pytest.approx(expected, rel=1e-9)


def test_kid_is_unbiased_and_positive_where_laws_differ(generator):
    x, y = torch.randn(2, 400, 20, 4, generator=generator)
    same = torch.tensor([kid(a, b) for a, b in zip(x, y, strict=True)])
    assert same.min() < 0
    assert abs(float(same.mean())) < 4 * float(same.std()) / 20
    assert kid(x[0], y[0] + 1) > 1


def test_w2_is_pots_and_that_of_a_shift(samples):
    x, real = samples[0][:60], samples[1]
    squares = ot.dist(flat(x), flat(real), metric="sqeuclidean")
    assert wasserstein2(x, real) == pytest.approx(float(ot.emd2([], [], squares)) ** 0.5, rel=1e-9)
    shifted = real.flip(0) + torch.full((2, 3), 0.5)
    assert wasserstein2(shifted, real) == pytest.approx(6**0.5 * 0.5, rel=1e-6)


def test_notices_tell_copies_from_fresh_samples(generator):
    train, real, fresh = torch.randn(3, 300, 2, 4, generator=generator)
    copies = train[torch.randint(300, (300,), generator=generator)]
    memorised, new = (common_metrics(z, train, real, stream(0, "notices")) for z in (copies, fresh))
    assert set(memorised) == set(new) == set(GUESSES)
    assert memorised["authenticity"] == 0 and new["authenticity"] > 0.4
    nearer = "energy distance to the training set"
    assert memorised[nearer] < 0.8 * new[nearer]


def test_notices_use_all_of_equally_many_in_whatever_order(generator):
    z, train, real = torch.randn(3, 40, 8, generator=generator)
    turned = common_metrics(z.flip(0), train.flip(0), real.flip(0), stream(1, "notices"))
    assert common_metrics(z, train, real, stream(0, "notices")) == pytest.approx(turned)
    some = common_metrics(z[:20], train, real, stream(0, "notices"))  # W2 refuses unequal numbers
    assert set(some) == set(turned) and all(map(np.isfinite, some.values()))
