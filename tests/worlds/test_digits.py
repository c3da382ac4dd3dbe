"""Pairs of real digits, their disjoint splits and their judge."""

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
    assert not held["train"] & held["judge"] and not held["train"] & held["floor"]
    assert not held["judge"] & held["floor"]
    assert len(held["train"]) > 1.5 * len(held["floor"])


def test_the_judge_reads_pairs_it_never_saw(digits):
    """Its error, which is the floor of every measurement, stays below 7 % of the pairs."""
    combination, z = pairs(digits, "floor")
    found = digits.judge(z)
    assert (found.combination != combination).double().mean() < 0.07
    assert torch.equal(found.attributes, digits.combinations[found.combination])
    assert found.off_manifold.double().mean() < 0.2


def test_what_is_no_pair_of_digits_lies_off_the_manifold(digits):
    _, z = pairs(digits, "train", 400)
    assert not digits.judge(z).off_manifold.any() and (digits.judge(z).distance == 0).all()
    noise = torch.rand(200, 8, 16, generator=stream(0, "noise"))
    assert digits.judge(noise).off_manifold.all()
    assert digits.judge(torch.zeros(1, 8, 16)).off_manifold.all()


def test_the_distance_is_to_the_nearest_pair_of_any_images(digits):
    _, z = pairs(digits, "floor", 20)
    real = torch.cat(digits._images["train"]).flatten(1).double()
    halves = z.double().unflatten(2, (2, 8)).movedim(2, 0).flatten(2)
    left, right = ((half.unsqueeze(1) - real).square().sum(2).min(1).values for half in halves)
    torch.testing.assert_close(digits.judge(z).distance, (left + right).sqrt())


def test_a_pair_is_told_in_words(digits):
    assert digits.describe(38) == "3, 8"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: Digits(generator=None), "Digits: generator must be a torch.Generator"),
        (
            lambda d: d.sample(torch.tensor([0]), stream(0, "bad"), "test"),
            "Digits.sample: split must be one of train, judge, floor, got 'test'",
        ),
        (lambda d: d.judge(torch.zeros(2, 8, 8)), r"z must be \(n, 8, 16\), got \(2, 8, 8\)"),
    ],
)
def test_bad_input_is_named(digits, call, message):
    with pytest.raises(ValueError, match=message):
        call(digits)
