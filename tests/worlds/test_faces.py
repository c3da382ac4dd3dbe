"""Faces and their judge, against faces that differ in a known way and a search of its own."""

import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from scipy.spatial.distance import pdist

from gmmdiff.core.streams import stream
from gmmdiff.worlds.faces import LEAST, MOST, Faces


@pytest.fixture(scope="module")
def faces():
    return Faces(8, generator=stream(0, "faces"))


def drawn(faces, n, name="drawn"):
    generator = stream(0, name)
    combination = torch.randint(len(faces.combinations), (n,), generator=generator)
    return combination, faces.sample(combination, generator)


def nuisances(n):
    return LEAST + (MOST - LEAST) * torch.rand(n, 3, generator=stream(0, "nuisances"))


def test_fresh_faces_are_read_as_what_they_are(faces):
    combination, z = drawn(faces, 10_000)
    found = faces.judge(z)
    assert (found.combination != combination).double().mean() <= 1e-3
    assert torch.equal(found.attributes, faces.combinations[found.combination])
    assert found.malformed.double().mean() <= 1e-3


@pytest.mark.parametrize("attribute", range(8))
def test_a_changed_attribute_is_read_and_seen(faces, attribute):
    """And a person sees it: some pixel changes by seven times the noise at least."""
    combination, _ = drawn(faces, 200)
    other, at = combination ^ (1 << (7 - attribute)), nuisances(200)
    changed = (faces.combinations[combination] != faces.combinations[other]).nonzero()
    assert (changed[:, 1] == attribute).all() and len(changed) == 200
    one, two = faces.draw(combination, at), faces.draw(other, at)
    assert (one - two).abs().flatten(1).amax(1).min() > 7 * faces.noise
    noise = faces.noise * torch.randn(two.shape, generator=stream(0, "noise"))
    assert torch.equal(faces.judge(two + noise).combination, other)


def test_what_is_no_face_is_malformed_and_what_a_person_cannot_tell_is_not(faces):
    combination, z = drawn(faces, 400)
    apart = combination[:200] != combination[200:]
    means = (z[:200] + z[200:])[apart] / 2
    assert faces.judge(means).malformed.double().mean() > 0.95
    clean = faces.draw(combination, nuisances(400))
    found = faces.judge(torch.tensor(gaussian_filter(clean.numpy(), (0, 0.25, 0.25))))
    assert not found.malformed.any() and (found.combination == combination).all()


def test_the_spacing_is_that_of_the_two_combinations_most_alike():
    """In the middle of the nuisances' ranges, by SciPy's distances of all pairs."""
    for attributes, expected in ((4, 0.541), (6, 0.541), (8, 0.482)):
        faces = Faces(attributes, generator=stream(0, "faces"))
        count = len(faces.combinations)
        at = torch.tensor([0.0, 0.0, 0.7]).expand(count, 3)
        least = pdist(faces.draw(range(count), at).flatten(1)).min()
        assert faces.spacing == pytest.approx(least, rel=1e-5) == pytest.approx(expected, abs=1e-3)


def test_the_clean_face_is_one_of_its_combination(faces):
    """Of a clean face itself, to what the judge's steps leave: a tenth of the noise's length."""
    combination, z = drawn(faces, 400)
    clean = faces.draw(combination, nuisances(400))
    left = (faces.clean(clean, combination) - clean).flatten(1).norm(dim=1)
    assert left.median() < 1e-3 and left.max() < 0.03
    near = faces.clean(z, combination)
    torch.testing.assert_close(faces.distance(z, combination), (z - near).flatten(1).norm(dim=1))
    torch.testing.assert_close(
        faces.distance(z, combination), faces.judge(z).distance, rtol=0, atol=1e-3
    )
    assert faces.distance(near, combination).max() < 0.03
    assert faces.distance(near, combination ^ 1).min() > faces.spacing


def test_the_distance_is_that_of_a_search_of_its_own(faces):
    """Stated error: 0.003, a hundredth of what the noise itself lies away."""
    combination, z = drawn(faces, 12)
    for image, c, distance in zip(z, combination, faces.judge(z).distance, strict=True):

        def away(at, image=image, c=c):
            face = faces.draw(c.unsqueeze(0), torch.tensor(at, dtype=torch.float32).unsqueeze(0))
            return float((face[0] - image).norm())

        bounds = list(zip(LEAST.tolist(), MOST.tolist(), strict=True))
        starts = [(0, 0, 0.7), (0.06, -0.06, 0.66), (-0.06, 0.06, 0.74)]
        options = {"eps": 1e-3}
        least = min(minimize(away, at, bounds=bounds, options=options).fun for at in starts)
        assert float(distance) == pytest.approx(least, abs=3e-3)


def test_pixels_are_greys_and_a_mean_face_fills_the_image(faces):
    _, z = drawn(faces, 500)
    clean = faces.draw(drawn(faces, 500)[0], nuisances(500))
    assert clean.min() >= 0 and clean.max() <= 1 and z.shape == (500, 16, 16)
    assert float((z - z.round(decimals=6)).abs().max()) < 1e-5


def test_frequencies_follow_zipfs_law():
    faces = Faces(6, generator=stream(1, "zipf"))
    sorted_ = faces.frequencies.sort(descending=True).values
    torch.testing.assert_close(sorted_, sorted_[0] / torch.arange(1, 65, dtype=torch.float64))
