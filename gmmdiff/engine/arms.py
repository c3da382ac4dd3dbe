"""The arms of the study: what a component of the condition's mixture stands for, its granularity.

    feature    every value of every attribute owns one; the condition is one draw for each attribute
    class      every combination of attributes owns one
    coarse     every combination of the first two attributes owns one
    none       one component for all

and two controls that tell why features help:

    scrambled  feature with the combinations permuted: as many codes are shared, not by meaning
    shared     the features' codes and the combination's own, added: a class that could compose
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gmmdiff.core.checks import indices, require, require_generator
from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.streams import orthonormal_frame

GRANULARITIES = ("none", "coarse", "class", "feature", "scrambled", "shared")
COARSE = 2  # attributes that a coarse class knows


class Conditioning(GaussianMixtureConditioning):
    """The conditions of one arm, for any table of attributes: a component a combination, fixed.

    All means have one dimension and one length, sqrt(dim), whatever the granularity; those of
    different components are orthogonal, but where codes are shared.

    Args:
        granularity: one of ``GRANULARITIES``.
        s_c: scale of the components, >= 0, in units of the smallest distance between two of the
            *feature* arm's conditions, whatever the granularity (0: the ordinary fixed embedding).
        combinations: ``(C, m)`` integers >= 0, distinct rows, m >= 2: their attributes.
        generator: orients the means.
        known: ``(k,)``, the combinations, by default all, that own a code in "shared"; the others,
            never seen, have their features' codes alone.

    Attributes:
        means: ``(C, dim)``, the mean of the condition of every combination.
        scale: standard deviation of every coordinate of a condition.
        gap: smallest distance between means that the arm tells apart; NaN where there is one.
        admitted: ``(C, C)``, whether the condition of combination i admits combination j.

    Raises:
        ValueError: on an unknown granularity, a negative s_c, or another table.

    Example:
        >>> from gmmdiff import Conditioning, stream
        >>> table = [[0, 0], [0, 1], [1, 0], [1, 1]]
        >>> arm = Conditioning("feature", 0.1, table, stream(0, "means"))
        >>> arm.sample([0, 3, 3], stream(0, "draws")).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        granularity: str,
        s_c: float,
        combinations: Tensor,
        generator: torch.Generator,
        known: Tensor | None = None,
    ) -> None:
        owner, allowed = "Conditioning", f"one of {', '.join(GRANULARITIES)}"
        require(granularity in GRANULARITIES, owner, "granularity", allowed, repr(granularity))
        require(0 <= s_c < float("inf"), owner, "s_c", ">= 0", s_c)
        require_generator(owner, generator)
        combinations = _table(combinations)
        count, attributes = combinations.shape
        values = int(combinations.max()) + 1
        part = max(values, -(-count // attributes))  # an attribute's share of the dimensions
        dim = part * attributes
        known_attributes = combinations[:, : {"none": 0, "coarse": COARSE}.get(granularity)]
        admitted = (known_attributes.unsqueeze(1) == known_attributes).all(-1)
        if granularity in ("feature", "scrambled", "shared"):
            frames = [orthonormal_frame(part, values, generator).T for _ in range(attributes)]
            pairs = zip(frames, combinations.T, strict=True)
            means = torch.cat([part**0.5 * frame[value] for frame, value in pairs], 1)
        else:
            first = admitted.int().argmax(1)  # of those that share its component
            component = first.unique(return_inverse=True)[1]
            means = (dim**0.5 * orthonormal_frame(dim, count, generator).T)[component]
        if granularity == "scrambled":
            means = means[torch.randperm(count, generator=generator)]
        if granularity == "shared":
            own = orthonormal_frame(dim, count, generator).T
            known = torch.arange(count) if known is None else indices(owner, "known", known, count)
            means[known] += dim**0.5 * own[known]
            means *= dim**0.5 / means.norm(dim=1, keepdim=True)
        gaps = (means.unsqueeze(1) - means).norm(dim=-1)[~admitted]
        # Codes of two values of one attribute are orthogonal, of length sqrt(part) each.
        differing = (combinations.unsqueeze(1) != combinations).sum(-1)
        nearest = int(differing[differing > 0].min()) if count > 1 else 1
        scale = s_c * (2 * part * nearest) ** 0.5
        super().__init__(means, scale)
        self.dim, self.scale, self.admitted = dim, scale, admitted
        self.gap = float(gaps.min()) if len(gaps) else float("nan")

    def sample(self, combination: Tensor, generator: torch.Generator) -> Tensor:
        """One condition, ``(n, dim)`` float64, for each combination ``(n,)`` in 0 .. C - 1."""
        owner = "Conditioning.sample"
        combination = indices(owner, "combination", combination, len(self.means))
        require_generator(owner, generator)
        return self(combination, generator=generator)


def _table(combinations: Any) -> Tensor:
    """Distinct rows of whole numbers, ``(C, m)``."""
    given = torch.as_tensor(combinations)
    table = given.long()
    good = table.ndim == 2 and len(table) > 0 and table.shape[1] >= COARSE
    good = good and bool(((table == given) & (table >= 0)).all())
    good = good and len(table.unique(dim=0)) == len(table)
    allowed = f"(C, m) distinct rows of integers >= 0, m >= {COARSE}"
    require(good, "Conditioning", "combinations", allowed, given)
    return table
