"""What is wrong with a generated sample, by what its judge says it shows (our definitions)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gmmdiff.core.checks import indices, require


class Defects(NamedTuple):
    """One flag a sample, ``(n,)`` each."""

    off_manifold: Tensor
    wrong_attributes: Tensor
    defect: Tensor
    miss: Tensor


def find_defects(
    shown: Tensor, off_manifold: Tensor, combination: Tensor, admitted: Tensor
) -> Defects:
    """Flags samples by what they show.

    *wrong attributes*: what it shows is nothing that the condition admits; *defect*: that, or
    off-manifold; *miss*: not the combination whose attributes were drawn, or off-manifold, which
    judges every granularity alike.

    Args:
        shown, off_manifold: ``(n,)``, of ``World.judge``.
        combination: ``(n,)``, the combination whose attributes were drawn, in 0..C - 1.
        admitted: ``(C, C)``, as in ``Conditioning``.

    Raises:
        ValueError: on other shapes.

    Example:
        >>> import torch
        >>> from gmmdiff import find_defects
        >>> shown, off, combination = [0, 1, 2], [False, False, True], [0, 0, 2]
        >>> find_defects(shown, off, combination, torch.eye(3)).defect
        tensor([False,  True,  True])
    """
    owner = "find_defects"
    admitted, off = torch.as_tensor(admitted).bool(), torch.as_tensor(off_manifold).bool()
    count = len(admitted)
    good = admitted.shape == (count, count) and count > 0
    require(good, owner, "admitted", "(C, C)", tuple(admitted.shape))
    combination = indices(owner, "combination", combination, count)
    shown = indices(owner, "shown", shown, count)
    for name, value in (("shown", shown), ("off_manifold", off)):
        good, allowed = value.shape == combination.shape, f"({len(combination)},) as combination"
        require(good, owner, name, allowed, tuple(value.shape))
    wrong = ~admitted[combination, shown]
    return Defects(off, wrong, off | wrong, off | (shown != combination))
