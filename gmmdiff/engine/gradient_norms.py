"""How steadily a training goes, measured while it goes on: nothing is kept but the last norms and
three sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 100  # steps of the running median
SPIKE = 3.0  # times the running median


class GradientNorms:
    """Spike rate and variation of the gradient norms of R runs (our definitions).

    A step is a *spike* when its norm is above ``SPIKE`` times the median (the lower of the two
    middle ones) of the ``WINDOW`` norms before it, or is not finite.  *Variation* is the norms'
    standard deviation over their mean, of the finite ones.  Both leave out the first tenth of the
    steps, and at least the first ``WINDOW``.

    Args:
        runs: R >= 1.
        steps: of the whole training; of no more than ``WINDOW`` nothing is measured (NaN).
    """

    def __init__(self, runs: int, steps: int) -> None:
        self._settled, self._step = max(WINDOW, steps // 10), 0
        self._recent = torch.full((runs, WINDOW), torch.nan)
        self._spikes, self._steps = torch.zeros(runs), 0
        self._sums = torch.zeros(runs, 3, dtype=torch.float64)  # of norm^0, norm^1 and norm^2

    def update(self, norms: Tensor) -> None:
        """Takes in the norms ``(runs, n)`` of the next n steps."""
        count = norms.shape[1]
        series = torch.cat([self._recent, norms], 1)
        new = max(0, min(count, self._step + count - self._settled))  # steps that count
        counted, before = norms[:, count - new :], series.unfold(1, WINDOW, 1)[:, count - new : -1]
        # Above the median of an even number (the lower middle one): above at least half of them;
        # NaN has no median.
        above = (SPIKE * before < counted.unsqueeze(2)).sum(2) >= WINDOW // 2
        finite = counted.isfinite()
        self._spikes += ((above & ~before.isnan().any(2)) | ~finite).sum(1)
        kept = counted.double().where(finite, 0)
        self._sums += torch.stack([finite.double().sum(1), kept.sum(1), kept.square().sum(1)], 1)
        self._recent = series[:, -WINDOW:]
        self._step, self._steps = self._step + count, self._steps + new

    @property
    def spike_rate(self) -> Tensor:
        """``(runs,)`` in [0, 1]."""
        return self._spikes / (self._steps or torch.nan)

    @property
    def variation(self) -> Tensor:
        """``(runs,)`` >= 0; 0 where every norm was 0, NaN where none was finite."""
        count, total, squares = self._sums.T
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
        return torch.where(mean == 0, 0, deviation / mean).float()
