"""Gaussian mixture conditioning: attributes -> draws in condition space.

The paper conditions on "distributions rather than fixed values"; how a feature becomes a component
is our reconstruction.  Every component has a fixed mean and the scale s_c; what a component stands
for is the granularity:

    feature   every value of every attribute owns one; the condition is one draw for each attribute
    class     every combination of attributes owns one
    coarse    every combination of the first two attributes owns one
    none      one component for all
"""

from __future__ import annotations

import torch
from torch import Tensor

from gmmdiff.core.checks import require
from gmmdiff.core.frames import orthonormal_frame

GRANULARITIES = ("none", "coarse", "class", "feature")
COARSE = 2  # attributes that a coarse class knows


class Conditioning:
    """The conditions of one arm, for any table of attributes.

    The means of one granularity are orthogonal and of one length, sqrt(dim), whatever the
    granularity; so all arms see conditions of the same dimension and size.

    Args:
        granularity: one of ``GRANULARITIES``.
        s_c: scale of the components, >= 0, in units of the smallest distance between two of the
            arm's conditions (0: the ordinary fixed embedding); of sqrt(dim) where there is only one
            condition.
        combinations: ``(C, m)`` integers >= 0, distinct rows, m >= 2: the attributes of combination
            c.
        generator: orients the means.

    Attributes:
        means: ``(C, dim)``, the mean of the condition of every combination.
        scale: standard deviation of every coordinate of a condition.
        admitted: ``(C, C)``, whether the condition of combination i admits combination j.

    Raises:
        ValueError: on an unknown granularity, a negative s_c, or another table.
    """

    def __init__(
        self, granularity: str, s_c: float, combinations: Tensor, generator: torch.Generator
    ) -> None:
        owner = "Conditioning"
        allowed = f"one of {', '.join(GRANULARITIES)}"
        require(granularity in GRANULARITIES, owner, "granularity", allowed, repr(granularity))
        require(0 <= s_c < float("inf"), owner, "s_c", ">= 0", s_c)
        distinct = (
            combinations.ndim == 2 and len(combinations.unique(dim=0)) == len(combinations) > 0
        )
        good = distinct and combinations.shape[1] >= COARSE and int(combinations.min()) >= 0
        require(
            good,
            owner,
            "combinations",
            f"(C, m) distinct rows of integers >= 0, m >= {COARSE}",
            combinations,
        )
        count, attributes = combinations.shape
        values = int(combinations.max()) + 1
        part = max(
            values, -(-count // attributes)
        )  # dimension of one attribute's share of the condition
        self.dim = part * attributes
        if granularity == "feature":
            known = combinations
            frames = [
                part**0.5 * orthonormal_frame(part, values, generator).T for _ in range(attributes)
            ]
            self.means = torch.cat(
                [frame[a] for frame, a in zip(frames, combinations.T, strict=True)], 1
            )
        else:
            known = combinations[
                :, : {"none": 0, "coarse": COARSE, "class": attributes}[granularity]
            ]
            _, component = (
                known.unique(dim=0, return_inverse=True)
                if known.shape[1]
                else (None, torch.zeros(count).long())
            )
            frame = self.dim**0.5 * orthonormal_frame(self.dim, count, generator).T
            self.means = frame[component]
        self.admitted = (known.unsqueeze(1) == known).all(-1)
        apart = torch.cdist(self.means, self.means)[~self.admitted]
        self.scale = s_c * (float(apart.min()) if len(apart) else self.dim**0.5)

    def sample(self, combination: Tensor, generator: torch.Generator) -> Tensor:
        """One condition, ``(n, dim)`` float64, for each combination ``(n,)`` in 0 .. C - 1."""
        known = combination.ndim == 1 and bool(
            ((combination >= 0) & (combination < len(self.means))).all()
        )
        require(
            known,
            "Conditioning.sample",
            "combination",
            f"(n,) in 0 .. {len(self.means) - 1}",
            combination.tolist(),
        )
        noise = torch.randn(len(combination), self.dim, generator=generator, dtype=torch.float64)
        return self.means[combination] + self.scale * noise
