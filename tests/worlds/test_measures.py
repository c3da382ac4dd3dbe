"""Defects and copies against their definitions, and known answers."""

import pytest
import torch

from gmmdiff.core.streams import stream
from gmmdiff.worlds.arcs import Arcs
from gmmdiff.worlds.digits import Digits
from gmmdiff.worlds.faces import LEAST, MOST, Faces
from gmmdiff.worlds.world import Copies, find_defects

EACH = torch.eye(3, dtype=torch.bool)


def test_defects_are_those_of_the_definition():
    """Right; another combination; right but malformed; another and malformed."""
    shown, wanted = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 2, 2, 1])
    malformed = torch.tensor([False, False, True, True])
    found = find_defects(shown, malformed, wanted, EACH)
    assert found.malformed.tolist() == malformed.tolist()
    assert found.wrong.tolist() == [False, True, False, True]
    assert found.defect.tolist() == [False, True, True, True]


def test_what_a_condition_admits_is_no_defect():
    admitted = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    assert find_defects([1, 2], [False, False], [0, 0], admitted).defect.tolist() == [False, True]


@pytest.fixture(scope="module")
def trained():
    """Sixty faces of sixteen combinations, one of them without any, and what copies them."""
    faces = Faces(4, generator=stream(0, "faces"))
    combination = torch.arange(60) % 15
    nuisances = LEAST + (MOST - LEAST) * torch.rand(60, 3, generator=stream(0, "nuisances"))
    clean = faces.draw(combination, nuisances)
    z = clean + faces.noise * torch.randn(clean.shape, generator=stream(0, "first"))
    return faces, combination, clean, Copies(faces, z, combination, stream(0, "fresh"))


def test_a_training_image_with_fresh_noise_is_a_copy(trained):
    faces, combination, clean, copies = trained
    again = clean + faces.noise * torch.randn(clean.shape, generator=stream(0, "second"))
    assert copies(again, combination).all()
    distance, index = copies.nearest(again, combination)
    assert torch.equal(index, torch.arange(60)) and distance.max() < 0.3


def test_one_in_a_hundred_fresh_faces_is_a_copy(trained):
    faces, _, _, copies = trained
    combination = torch.arange(15).repeat_interleave(200)
    z = faces.sample(combination, stream(0, "new"), "test")
    assert 0.004 < copies(z, combination).double().mean() < 0.02


def test_a_copy_is_nearer_than_the_second_nearest_of_199_fresh_samples():
    arcs, combination = Arcs(5, stream(0, "arcs")), torch.tensor([3, 3, 3, 8, 8])
    z = arcs.sample(combination, stream(0, "data"))
    thresholds = Copies(arcs, z, combination, stream(0, "fresh")).thresholds
    asked = torch.tensor([3, 8]).repeat_interleave(199)
    clean = arcs.clean(arcs.sample(asked, stream(0, "fresh"), "test"), asked)
    for c in (3, 8):
        distances = torch.cdist(clean[asked == c], arcs.clean(z, combination)[combination == c])
        assert float(thresholds[c]) == pytest.approx(float(distances.min(1).values.sort()[0][1]))
    assert thresholds.count_nonzero() == 2


@pytest.mark.parametrize("allowed", [None, [3], [0, 5, 6]])
def test_combinations_come_by_the_frequency_of_those_allowed(allowed):
    arcs = Arcs(5, stream(0, "arcs"))
    drawn = arcs.sample_combinations(40_000, stream(0, "drawn"), allowed)
    expected = arcs.frequencies * (sum(torch.eye(16)[c] for c in allowed) if allowed else 1)
    shares = drawn.bincount(minlength=16) / 40_000
    torch.testing.assert_close(shares.double(), expected / expected.sum(), rtol=0, atol=0.01)


def test_a_dataset_is_of_samples_beside_their_attributes():
    arcs = Arcs(5, stream(0, "arcs"))
    z, attributes = arcs.dataset(50, stream(0, "data")).tensors
    assert torch.equal(attributes, arcs.judge(z).attributes) and len(attributes) == 50
    first = [names[index] for names, index in zip(arcs.values, attributes[0], strict=True)]
    assert arcs.describe(arcs.judge(z).combination[0]) == ", ".join(first)


def test_where_there_is_no_training_sample_there_is_no_copy(trained):
    _, _, clean, copies = trained
    assert not copies(clean[:3], [15, 15, 15]).any()
    distance, index = copies.nearest(clean[:3], [15, 15, 15])
    assert distance.isinf().all() and index.tolist() == [-1, -1, -1]


def test_the_nearest_is_that_of_a_loop(generator):
    arcs = Arcs(5, generator)
    combination = arcs.sample_combinations(50, generator)
    z, asked = arcs.sample(combination, generator), torch.arange(16)
    new = arcs.sample(asked, generator)
    distance, index = Copies(arcs, z, combination, generator).nearest(new, asked)
    clean, training = arcs.clean(new, asked), arcs.clean(z, combination)
    for c in asked.tolist():
        away = {i: float((clean[c] - training[i]).norm()) for i in range(50) if combination[i] == c}
        assert int(index[c]) == min(away, key=away.get, default=-1)
        assert float(distance[c]) == pytest.approx(min(away.values(), default=float("inf")))


def test_pairs_of_real_digits_are_copied_or_new():
    digits = Digits(generator=stream(0, "digits"))
    combination = digits.sample_combinations(300, stream(0, "which"))
    z = digits.sample(combination, stream(0, "data"))
    copies = Copies(digits, z, combination, stream(0, "fresh"))
    assert copies(z, combination).all()
    fresh = digits.sample(combination, stream(0, "new"), "test")
    assert copies(fresh, combination).double().mean() < 0.03
