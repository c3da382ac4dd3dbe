"""What is wrong with a generated sample, by its distance to every arc (our definitions)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gmmdiff.core.checks import floating, indices, require


class Defects(NamedTuple):
    """One flag a sample, ``(n,)`` each."""

    off_manifold: Tensor
    wrong_attributes: Tensor
    defect: Tensor
    miss: Tensor


def find_defects(distances: Tensor, combination: Tensor, admitted: Tensor, tau: float) -> Defects:
    """Flags samples from their distances to the arcs.

    *off-manifold*: the nearest arc is farther than tau; *wrong attributes*: the nearest arc is none
    that the condition admits; *defect*: either; *miss*: farther than tau from the arc whose
    attributes were drawn, which judges every granularity alike.

    Args:
        distances: ``(n, C)``, e.g. from ``Arcs.distances``.
        combination: ``(n,)``, the combination whose attributes were drawn, in 0..C - 1.
        admitted: ``(C, C)``, as in ``Conditioning``.
        tau: > 0, in units of the data.

    Raises:
        ValueError: on other shapes or tau <= 0.
    """
    owner = "find_defects"
    distances = floating(owner, "distances", distances)
    good = distances.ndim == 2 and distances.shape[1] >= 1
    require(good, owner, "distances", "(n, C)", tuple(distances.shape))
    n, count = distances.shape
    admitted = torch.as_tensor(admitted).bool()
    good = admitted.shape == (count, count)
    require(good, owner, "admitted", f"({count}, {count})", tuple(admitted.shape))
    combination = indices(owner, "combination", combination, count)
    good = combination.shape == (n,)
    require(good, owner, "combination", f"({n},) as distances", tuple(combination.shape))
    require(tau > 0, owner, "tau", "> 0", tau)
    nearest = distances.min(1)
    off = ~(nearest.values <= tau)
    wrong = ~admitted[combination, nearest.indices]
    own = distances.gather(1, combination.unsqueeze(1)).squeeze(1)
    return Defects(off, wrong, off | wrong, ~(own <= tau))
