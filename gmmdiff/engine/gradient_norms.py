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
    """Share of *spikes*: steps whose norm is above ``SPIKE`` times the median (the lower of the two
    middle ones) of the ``WINDOW`` norms before it, or is not finite.

    Args:
        norms: ``(runs, steps)``, those of a whole training.

    Returns:
        ``(runs,)`` in [0, 1].
    """
    first, rates = _settled(norms), []
    if norms.shape[1] <= first:
        return norms.new_full((len(norms),), torch.nan)
    for run in norms:  # one at a time: little memory
        counted, before = run[first:], run[first - WINDOW : -1].unfold(0, WINDOW, 1)
        # Above the median of an even number (the lower middle one): above at least half of them;
        # NaN has no median.
        above = (SPIKE * before < counted.unsqueeze(1)).sum(1) >= WINDOW // 2
        spikes = (above & ~before.isnan().any(1)) | ~counted.isfinite()
        rates.append(spikes.sum() / len(spikes))
    return torch.stack(rates)


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
