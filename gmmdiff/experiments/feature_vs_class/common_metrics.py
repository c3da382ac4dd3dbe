"""Which metric notices that a denoiser memorises?  The field's metrics, and what we guessed."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gmmdiff.core.distances import energy_distance
from gmmdiff.core.sample_metrics import authenticity, kid, neighbour_metrics, wasserstein2

NEIGHBOURS, MOST = 5, 1000  # k, as in prdc; samples, since W2 takes their number to the third


class Guess(NamedTuple):
    """Which values of a metric are called better, and where it goes while a denoiser memorises."""

    better: Literal["higher", "lower"]
    movement: Literal["better", "worse", "no change"]
    why: str


# From the validation minimum to four times its steps.  Written on 30 November, before any of these
# metrics had been computed of a model; known were copies, defects and the rare combinations' law.
GUESSES = {
    "precision": Guess("higher", "better", "copies are as real as what they copy"),
    "recall": Guess("higher", "better", "copies come with noise, which widens their manifold"),
    "density": Guess("higher", "worse", "that noise carries samples out of the balls' middles"),
    "coverage": Guess("higher", "worse", "copies fall on fewer places than as many new samples"),
    "authenticity": Guess("higher", "worse", "it is made to find copies"),
    "KID": Guess("lower", "no change", "three moments of pixels are learned early, and kept"),
    "W2": Guess("lower", "worse", "noise and repeated images both lie farther from fresh ones"),
    "energy distance to fresh data": Guess(
        "lower", "worse", "the law of the training images is not the law they were drawn from"
    ),
    "energy distance to the training set": Guess(
        "lower", "better", "it asks for copies, and gets them"
    ),
}


def common_metrics(
    z: Tensor, train: Tensor, real: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """The metrics of GUESSES for generated samples z, all on equally many samples.

    All three should follow one law of combinations, that of the training set.  The table's floor
    is a second fresh sample in the place of z.

    Args:
        z: ``(n, ...)``. train: the training set. real: fresh samples, none of them in ``train``.
        generator: draws those that are compared, as many as the smallest of the three has.

    Raises:
        ValueError: on other shapes, NaN or infinity, or unless each has more than k = 5 samples.
    """
    n = min(MOST, len(z), len(train), len(real))
    z, train, real = (x[torch.randperm(len(x), generator=generator)[:n]] for x in (z, train, real))
    return {
        **neighbour_metrics(z, real, NEIGHBOURS),
        "authenticity": authenticity(z, train),
        "KID": kid(z, real),
        "W2": wasserstein2(z, real),
        "energy distance to fresh data": energy_distance(z.flatten(1), real.flatten(1)),
        "energy distance to the training set": energy_distance(z.flatten(1), train.flatten(1)),
    }
