"""How steadily a training goes, by the norms of its gradients (our definitions).

Both measures leave out the first tenth of the steps, and at least the first ``WINDOW``; of a
training no longer than that they are NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 100  # steps of the running median
SPIKE = 3.0  # times the running median


def _settled(norms: Tensor) -> int:
    """The number of steps left out."""
    return max(WINDOW, norms.shape[1] // 10)


def spike_rate(norms: Tensor) -> Tensor:
    """Share of *spikes* among the steps of trainings, ``(runs, steps)`` -> ``(runs,)``.

    The norm of one is above ``SPIKE`` times the median (the lower of the two middle ones) of the
    ``WINDOW`` norms before it, or not finite.
    """
    first = _settled(norms)
    if norms.shape[1] <= first:
        return norms.new_full((len(norms),), torch.nan)
    # One run at a time: little memory.
    medians = [run[first - WINDOW : -1].unfold(0, WINDOW, 1).median(1).values for run in norms]
    counted = norms[:, first:]
    spikes = (counted > SPIKE * torch.stack(medians)) | ~counted.isfinite()
    return spikes.sum(1) / spikes.shape[1]


def variation(norms: Tensor) -> Tensor:
    """Standard deviation of the finite norms over their mean: ``(runs, steps)`` -> ``(runs,)``.

    0 where every norm is 0, NaN where none is finite.
    """
    counted = norms[:, _settled(norms) :]
    finite = counted.isfinite()
    kept, count = counted.double().where(finite, 0), finite.sum(1)
    mean = kept.sum(1) / count
    deviation = (kept.square().sum(1) / count - mean.square()).clamp_min(0).sqrt()
    return torch.where(mean == 0, 0, deviation / mean).float()
