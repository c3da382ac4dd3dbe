"""Pairs of real digits, their disjoint splits and their judge."""

import itertools

import pytest
import torch
from sklearn.datasets import load_digits

from gmmdiff.core.streams import stream
from gmmdiff.worlds.digits import SPLITS, Digits


@pytest.fixture(scope="module")
def digits():
    return Digits(generator=stream(0, "digits"))


def pairs(digits, split, n=3000):
    generator = stream(0, f"pairs {split}")
    combination = digits.sample_combinations(n, generator)
    return combination, digits.sample(combination, generator, split)


def test_a_pair_is_two_real_images_of_its_digits(digits):
    data = load_digits()
    known = {image.tobytes(): digit for image, digit in zip(data.images, data.target, strict=True)}
    combination, z = pairs(digits, "train", 200)
    for pair, wanted in zip(z, digits.combinations[combination], strict=True):
        halves = (16 * pair).double().numpy()
        read = [known[half.tobytes()] for half in (halves[:, :8].copy(), halves[:, 8:].copy())]
        assert read == wanted.tolist()


def test_no_image_is_in_two_splits(digits):
    """Images that the source holds twice aside: there are none."""
    held = {
        split: {
            image.numpy().tobytes() for half in z.unflatten(2, (2, 8)).unbind(2) for image in half
        }
        for split in SPLITS
        for _, z in [pairs(digits, split, 20_000)]
    }
    for one, other in itertools.combinations(SPLITS, 2):
        assert held[one] and not held[one] & held[other]
    assert len(held["train"]) > 0.4 * sum(map(len, held.values()))


def test_real_pairs_have_few_defects():
    """The floor of every measurement, over four ways to split the images."""
    defects = []
    for seed in range(4):
        digits = Digits(generator=stream(seed, "digits"))
        combination, z = pairs(digits, "test", 500)
        found = digits.judge(z)
        assert torch.equal(found.attributes, digits.combinations[found.combination])
        wrong = found.combination != combination
        defects.append((wrong | found.malformed).double().mean())
        assert found.malformed.double().mean() <= 0.03
    assert sum(defects) / 4 < 0.03 and max(defects) < 0.05


def test_what_is_no_pair_of_digits_is_malformed(digits):
    combination, z = pairs(digits, "judge", 300)
    found = digits.judge(z)
    assert not found.malformed.any() and (found.distance == 0).all()
    assert (found.combination == combination).double().mean() > 0.99
    noise = torch.rand(200, 8, 16, generator=stream(0, "noise"))
    assert digits.judge(noise).malformed.all()
    assert digits.judge(torch.zeros(1, 8, 16)).malformed.all()


def test_the_distance_is_to_the_nearest_pair_of_the_judge(digits):
    combination, z = pairs(digits, "test", 20)
    real = torch.cat(digits._images["judge"]).flatten(1).double()
    halves = z.double().unflatten(2, (2, 8)).movedim(2, 0).flatten(2)
    left, right = ((half.unsqueeze(1) - real).square().sum(2).min(1).values for half in halves)
    torch.testing.assert_close(digits.judge(z).distance, (left + right).sqrt())
    squares = torch.zeros(20, dtype=torch.float64)
    for half, shown in zip(halves, digits.combinations[combination].T, strict=True):
        for i, digit in enumerate(shown.tolist()):
            own = digits._images["judge"][digit].flatten(1)
            squares[i] += (half[i] - own).square().sum(1).min()
    torch.testing.assert_close(digits.distance(z, combination), squares.sqrt())


def test_nobody_knows_a_pair_without_noise(digits):
    combination, z = pairs(digits, "test", 5)
    assert torch.equal(digits.clean(z, combination), z)
